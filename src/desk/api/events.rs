//! Server-sent events: one after a change of the store, at most one a second.
//!
//! A stream holds a connection, so there are few at a time, and each ends after a while. A browser opens the
//! next one by itself, and a page without one still works.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Api;
use super::body::{PieceSender, pieces};
use crate::desk::store::StoreVersion;

/// Asks a proxy (nginx knows it) to pass events on as they come.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const SHORTEST: Duration = Duration::from_secs(1);
/// The interval of events without a change, by which a closed connection is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Concurrent streams.
pub(super) const MOST_STREAMS: usize = 64;
/// How long a stream lasts.
const LONGEST: Duration = Duration::from_secs(300);

pub(super) async fn events(State(api): State<Api>) -> Response {
    let Ok(permit) = Arc::clone(&api.streams).try_acquire_owned() else {
        let reason = "too many pages are open: this one is not updated by itself\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "30")], reason).into_response();
    };
    let (sender, body) = pieces();
    let changes = api.changes.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let _ = timeout(LONGEST, follow(&sender, changes)).await; // an end like any other
        sender.finish();
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// Sends events until the reader has gone or the desk shuts down.
async fn follow(sender: &PieceSender, mut changes: watch::Receiver<StoreVersion>) {
    // The first event reports the current version to a page that has (re)connected.
    loop {
        let notice = *changes.borrow_and_update();
        let event = format!(
            "event: changed\ndata: {{\"version\":{},\"used_bytes\":{}}}\n\n",
            notice.version, notice.used
        );
        if !sender.send(event).await {
            return;
        }
        sleep(SHORTEST).await;
        loop {
            match timeout(HEARTBEAT, changes.changed()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                Err(_) if sender.send(": still here\n\n").await => {}
                Err(_) => return,
            }
        }
    }
}
