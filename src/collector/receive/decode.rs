//! From the bytes of a request to its message: decompression and decoding, within the memory that
//! the request may take.

use std::io::{self, Read};

use super::body::too_long;
use super::budget::MemoryLease;
use super::decoded::{DecodedRequest, DecodedSignal};
use super::refusal::{RefusalKind, RequestRefusal};
use super::signal::{ExportRequest, Signal};
use super::{Protocol, json, measure, salvage};

/// The longest body over HTTP, as sent and after decompression, as the official Collector has it
/// by default.
pub(crate) const MAX_BODY: usize = 20 << 20;
/// The largest window of a zstd frame, 32 MiB: a frame may ask for gigabytes, spans and records
/// don't need them.
const MAX_WINDOW_LOG: u32 = 25;
/// A body that is not longer, and not compressed, is decoded at once: it takes less than a
/// millisecond. Others would hold up the connections of the same thread.
const DECODED_AT_ONCE: usize = 16 << 10;

/// The encoding of a request body. The response has the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

impl Format {
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::Protobuf => Protocol::HttpProtobuf,
            Self::Json => Protocol::HttpJson,
        }
    }
}

/// As [`decode`], on a thread that may be busy for a while. Returns the lease, too: the message is
/// in memory until the request is answered.
pub(super) async fn decode_apart(
    signal: Signal,
    format: Format,
    compression: Option<String>,
    body: Vec<u8>,
    lease: MemoryLease,
) -> Result<(DecodedSignal, MemoryLease), RequestRefusal> {
    let is_short = compression.is_none() && body.len() <= DECODED_AT_ONCE;
    let work = move || {
        let compression = compression.as_deref();
        let decoded = match signal {
            Signal::Traces => decode(format, compression, &body, &lease).map(DecodedSignal::Traces),
            Signal::Logs => decode(format, compression, &body, &lease).map(DecodedSignal::Logs),
        };
        Ok((decoded?, lease))
    };
    if is_short {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        let reason = "the receiver is stopping";
        Err(RequestRefusal::new(RefusalKind::Unavailable, reason))
    })
}

/// Decodes the message in a body. Foreign bytes: the body may contain anything. Spans and log records
/// that can't be read are left out, unless all are: then the request is refused.
pub(crate) fn decode<M: ExportRequest + json::Message>(
    format: Format,
    compression: Option<&str>,
    body: &[u8],
    lease: &MemoryLease,
) -> Result<DecodedRequest<M>, RequestRefusal> {
    let decompressed;
    let body = match compression {
        None => body,
        Some(compression) => {
            decompressed = decompress(compression, body, lease)?;
            &decompressed
        }
    };
    match format {
        Format::Protobuf => {
            measure::take_decoded(M::KIND, body, lease)?;
            match M::decode(body) {
                Ok(message) => Ok(message.into()),
                Err(error) => salvage::readable_items(body, &error),
            }
        }
        Format::Json => json::request(body, lease),
    }
}

fn decompress(
    compression: &str,
    body: &[u8],
    lease: &MemoryLease,
) -> Result<Vec<u8>, RequestRefusal> {
    let mut reader: Box<dyn Read + '_> = match compression {
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        "zstd" => {
            lease.take(1 << MAX_WINDOW_LOG)?;
            Box::new(zstd_decoder(body).map_err(|error| unreadable(compression, &error))?)
        }
        other => {
            let reason = format!("the content encoding `{other}` is neither gzip nor zstd");
            return Err(RequestRefusal::new(RefusalKind::Unsupported, reason));
        }
    };
    let (mut bytes, mut part) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = match reader.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(compression, &error)),
        };
        if bytes.len() + read > MAX_BODY {
            return Err(too_long(MAX_BODY));
        }
        lease.take(read)?;
        bytes.extend_from_slice(&part[..read]);
    }
}

fn zstd_decoder(body: &[u8]) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

fn unreadable(compression: &str, error: &io::Error) -> RequestRefusal {
    RequestRefusal::malformed(format!("{compression}: {error}"))
}
