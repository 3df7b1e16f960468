//! The client: it delivers requests through a transport, on a runtime of its own, with retries.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Backpressure;
use crate::clock;
use crate::export::transport::retry::{Backoff, deliver};
use crate::export::transport::{ExportReply, RequestPieces, SendFailure, Transport};

pub(crate) struct OtlpClient<T> {
    transport: T,
    runtime: tokio::runtime::Runtime,
    /// How long one request may take, its retries included.
    timeout: Duration,
}

impl<T: Transport> OtlpClient<T> {
    /// Makes the transport with `make`, which runs where the transport will: in the runtime.
    pub(crate) fn new<Error>(
        runtime: tokio::runtime::Runtime,
        timeout: Duration,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let transport = {
            let _context = runtime.enter();
            make()?
        };
        Ok(Self { transport, runtime, timeout })
    }

    /// Delivers one request. Returns the collector's reply or the failure, and the number of
    /// retries.
    pub(super) fn deliver(
        &mut self,
        request: RequestPieces,
        backoff: Backoff,
    ) -> (Result<ExportReply, SendFailure>, u64) {
        let mut retried = 0;
        let Self { transport, runtime, timeout } = self;
        let result = runtime.block_on(async {
            let deadline = clock::after(*timeout).into();
            deliver(transport, request, backoff, deadline, || retried += 1).await
        });
        (result, retried)
    }

    /// As [`deliver`](Self::deliver), until [`Backpressure`] gives up on the request: for a sink
    /// that can store the spans instead.
    pub(super) fn try_to_deliver(
        &mut self,
        request: RequestPieces,
        backoff: Backoff,
        backpressure: &Backpressure,
    ) -> (Result<ExportReply, SendFailure>, u64) {
        let mut retried = 0;
        let Self { transport, runtime, timeout } = self;
        let result = runtime.block_on(async {
            let began = Instant::now();
            let deadline = clock::after(*timeout).into();
            let mut delivery =
                pin!(deliver(transport, request, backoff, deadline, || retried += 1));
            let mut expiry = pin!(async {
                while !backpressure.gives_up_on(began) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            std::future::poll_fn(|context| {
                if let Poll::Ready(result) = delivery.as_mut().poll(context) {
                    return Poll::Ready(result);
                }
                expiry.as_mut().poll(context).map(|()| {
                    let message = "there was no time left to try again".to_owned();
                    Err(SendFailure::Retryable { message, wait: None })
                })
            })
            .await
        });
        (result, retried)
    }
}
