//! A body that is written while it is made.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

/// Pieces that wait for a reader.
const AHEAD: usize = 2;

struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    is_whole: Arc<AtomicBool>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(bytes) => Some(Ok(Frame::data(bytes))),
            None if self.is_whole.load(Ordering::Acquire) => None,
            // The connection is closed without an end of the body: its reader sees that a part is missing.
            None => Some(Err(io::Error::other("the body ended before it was whole"))),
        })
    }
}

/// Where the pieces of a body go. A body whose sender is dropped before it is [finished](Self::finish) ends in
/// an error.
pub(super) struct PieceSender {
    pieces: mpsc::Sender<Bytes>,
    is_whole: Arc<AtomicBool>,
}

impl PieceSender {
    /// Waits until there is room. Returns whether the reader is still connected.
    pub(super) async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.pieces.send(piece.into()).await.is_ok()
    }

    /// Ends the body.
    pub(super) fn finish(self) {
        self.is_whole.store(true, Ordering::Release);
    }
}

/// A body, and where its pieces go.
pub(super) fn pieces() -> (PieceSender, Body) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let is_whole = Arc::new(AtomicBool::new(false));
    let body = Body::new(Pieces { pieces: receiver, is_whole: Arc::clone(&is_whole) });
    (PieceSender { pieces: sender, is_whole }, body)
}
