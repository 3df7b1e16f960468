//! Any text where a ticket is expected, and any bytes signed with the right key. The signing is done
//! here, by the documented layout: only what was issued is verified, and what is signed but makes no
//! sense is refused without a panic.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arbitrary::Arbitrary;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use tracing_feedback::{SpanExt, Telemetry, Ticket, TicketKeys, TicketVerifier, enrich};
use tracing_subscriber::prelude::*;

const KEY: [u8; 32] = [7; 32];

#[derive(Arbitrary, Debug)]
enum Input<'i> {
    /// Anyone's text.
    Text(&'i str),
    /// A ticket that was issued, with some bytes changed.
    Altered(Vec<(usize, u8)>),
    /// Bytes, signed, at some time.
    Signed { bytes: &'i [u8], now: u64 },
    /// Parts of the right lengths, and maybe some more, signed.
    Parts(Parts<'i>),
}

#[derive(Arbitrary, Debug)]
struct Parts<'i> {
    span: Option<[u8; 25]>,
    session: &'i str,
    issued: u32,
    lives: i32,
    nonce: [u8; 8],
    namespaces: u8,
    more: Vec<&'i [u8]>,
    /// After it was issued.
    now: i32,
}

struct Rig {
    verifier: TicketVerifier,
    issued: Ticket,
    dispatch: tracing::Dispatch,
    _telemetry: Telemetry,
}

static RIG: LazyLock<Rig> = LazyLock::new(|| {
    let keys = TicketKeys::new([KEY]).expect("a key of 32 bytes");
    let (layer, telemetry) = tracing_feedback::builder()
        .with_exporter(Nowhere)
        .with_ticket_keys(keys.clone())
        .build()
        .expect("nothing was told that could be wrong");
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let issued = tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("answer", session.id = "conversation-42").ticket()
    });
    let issued = issued.expect("a span and a key");
    Rig { verifier: keys.verifier(), issued, dispatch, _telemetry: telemetry }
});

#[derive(Debug)]
struct Nowhere;

impl opentelemetry_sdk::trace::SpanExporter for Nowhere {
    async fn export(
        &self,
        _: Vec<opentelemetry_sdk::trace::SpanData>,
    ) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
}

fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(bytes).finalize().into_bytes().to_vec()
}

fn signed(bytes: &[u8]) -> String {
    static DERIVED: LazyLock<Vec<u8>> =
        LazyLock::new(|| mac(&KEY, b"tracing-feedback ticket signature 1"));
    URL_SAFE_NO_PAD.encode([bytes, &mac(&DERIVED, bytes)].concat())
}

fuzz_target!(|input: Input<'_>| {
    let Rig { verifier, issued, dispatch, .. } = &*RIG;
    match input {
        Input::Text(text) => {
            assert_eq!(verifier.verify(text).is_ok(), text == issued.as_str());
            let _ = text.parse::<TicketKeys>();
        }
        Input::Altered(changes) => {
            let mut bytes = issued.as_str().as_bytes().to_vec();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(verifier.verify(&text).is_ok(), text == issued.as_str());
        }
        Input::Signed { bytes, now } => check(&signed(bytes), now, verifier, dispatch),
        Input::Parts(parts) => {
            let issued = u64::from(parts.issued);
            let after = |by: i32| issued.saturating_add_signed(by.into());
            let mut bytes = vec![1];
            let mut part = |part: &[u8]| {
                let part = &part[..part.len().min(255)];
                bytes.push(part.len() as u8);
                bytes.extend_from_slice(part);
            };
            part(parts.span.as_ref().map_or(&[], |span| span));
            part(parts.session.as_bytes());
            part(&issued.to_be_bytes());
            part(&after(parts.lives).to_be_bytes());
            part(&parts.nonce);
            part(&[]); // a subject is for who knows it
            part(&[parts.namespaces]);
            parts.more.into_iter().for_each(part);
            check(&signed(&bytes), after(parts.now), verifier, dispatch);
        }
    }
});

/// A text that is signed is refused, or a ticket which can be asked for everything, and used.
fn check(text: &str, now: u64, verifier: &TicketVerifier, dispatch: &tracing::Dispatch) {
    let times = [UNIX_EPOCH + Duration::from_millis(now % (1 << 48)), SystemTime::now()];
    for time in times {
        let Ok(ticket) = verifier.verify_at(text, time) else { continue };
        assert_eq!(ticket.as_str(), text);
        assert!(text.len() <= 512);
        assert!(ticket.expires_at() > time);
        assert!(ticket.span_context().is_some() || ticket.session().is_some());
        assert!(ticket.span_context().is_none_or(|span| span.is_valid()));
        assert!(ticket.namespaces().count() > 0);
        let _ = format!("{ticket:?}");
        tracing::dispatcher::with_default(dispatch, || {
            let value = serde_json::json!({ "rating": 1 });
            let allowed = ticket.check("feedback", "rating").is_ok();
            let outcome = enrich::session().target(&ticket).id(text).feedback(&value).apply();
            assert_eq!(outcome.is_ok(), allowed, "{outcome:?}");
        });
    }
}
