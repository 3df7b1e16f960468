//! Server-sent events: one after a change of the store, at most one a second.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tokio::time::{sleep, timeout};

use super::Api;
use super::body::pieces;

const SHORTEST: Duration = Duration::from_secs(1);
/// The interval of events without a change, by which a closed connection is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) async fn events(State(api): State<Api>) -> Response {
    let (sender, body) = pieces();
    let mut changes = api.changes.clone();
    tokio::spawn(async move {
        // The first event reports the current version to a page that has (re)connected.
        loop {
            let notice = *changes.borrow_and_update();
            let event = format!(
                "event: changed\ndata: {{\"version\":{},\"used_bytes\":{}}}\n\n",
                notice.version, notice.used
            );
            if sender.send(Bytes::from(event)).await.is_err() {
                return;
            }
            sleep(SHORTEST).await;
            loop {
                match timeout(HEARTBEAT, changes.changed()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(_)) => return, // the desk is shutting down
                    Err(_) => {
                        if sender.send(Bytes::from_static(b": still here\n\n")).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}
