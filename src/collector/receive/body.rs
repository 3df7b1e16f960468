//! Reading the body of a request to its end.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody};

use super::budget::MemoryLease;
use super::refusal::{RefusalKind, RequestRefusal};

/// How much of a body that is refused is read and discarded.
const DISCARDED: usize = 64 << 20;

/// Reads a body of at most `limit` bytes. The rest of a body that is refused is discarded, within
/// limits: a sender that is still writing would not see the response.
pub(super) async fn read(
    mut body: Body,
    limit: usize,
    lease: &MemoryLease,
) -> Result<Vec<u8>, RequestRefusal> {
    let mut bytes = Vec::new();
    let (mut refusal, mut discarded) = (None, 0);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame =
            frame.map_err(|error| RequestRefusal::malformed(format!("the body: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        if refusal.is_some() {
            discarded += data.len();
            if discarded > DISCARDED {
                break;
            }
        } else if bytes.len() + data.len() > limit {
            refusal = Some(too_long(limit));
        } else if let Err(refused) = lease.take(data.len()) {
            refusal = Some(refused);
        } else {
            bytes.extend_from_slice(data);
            continue;
        }
        bytes = Vec::new();
    }
    refusal.map_or(Ok(bytes), Err)
}

/// The refusal of a body, as sent or decompressed.
pub(super) fn too_long(limit: usize) -> RequestRefusal {
    RequestRefusal::new(RefusalKind::TooLarge, format!("the body is longer than {limit} bytes"))
}
