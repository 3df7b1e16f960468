//! The client: it delivers requests through a transport, on a runtime of its own, with retries.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Backpressure;
use super::runtime::SinkRuntime;
use crate::export::transport::retry::{Attempts, Backoff, deliver};
use crate::export::transport::{ExportReply, RequestPieces, SendFailure, Transport};
use crate::otlp::Signal;

/// Delivers requests of one signal.
pub(crate) struct OtlpClient<T> {
    signal: Signal,
    transport: T,
    runtime: SinkRuntime,
    /// How long one request may take, its retries included.
    timeout: Duration,
    /// Whether a connection was replaced since the last success: it is logged once.
    has_reconnected: bool,
}

impl<T: Transport> OtlpClient<T> {
    /// Makes the transport with `make`, which runs where the transport will: in the runtime.
    pub(crate) fn new<Error>(
        signal: Signal,
        runtime: tokio::runtime::Runtime,
        timeout: Duration,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let runtime = SinkRuntime::new(runtime);
        let transport = {
            let _context = runtime.handle().enter();
            make()?
        };
        Ok(Self { signal, transport, runtime, timeout, has_reconnected: false })
    }

    pub(super) fn signal(&self) -> Signal {
        self.signal
    }

    /// The name of such an exporter in OpenTelemetry's semantic conventions.
    pub(super) fn component(&self) -> &'static str {
        self.transport.component(self.signal)
    }

    /// Delivers one request. Returns the collector's reply or the failure, and what it took.
    pub(super) fn deliver(
        &mut self,
        request: RequestPieces,
        backoff: Backoff,
    ) -> (Result<ExportReply, SendFailure>, Attempts) {
        let mut attempts = Attempts::default();
        let Self { transport, runtime, timeout, .. } = self;
        let result = runtime.handle().block_on(async {
            deliver(transport, request, backoff, *timeout, &mut attempts).await
        });
        self.log_reconnects(attempts, &result);
        (result, attempts)
    }

    /// As [`deliver`](Self::deliver), until [`Backpressure`] gives up on the request: for a sink
    /// that can store the spans instead.
    pub(super) fn try_to_deliver(
        &mut self,
        request: RequestPieces,
        backoff: Backoff,
        backpressure: &Backpressure,
    ) -> (Result<ExportReply, SendFailure>, Attempts) {
        let mut attempts = Attempts::default();
        let Self { transport, runtime, timeout, .. } = self;
        let delivered = runtime.handle().block_on(async {
            let began = Instant::now();
            let mut delivery = pin!(deliver(transport, request, backoff, *timeout, &mut attempts));
            let mut expiry = pin!(async {
                while !backpressure.gives_up_on(began) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            std::future::poll_fn(|context| {
                if let Poll::Ready(result) = delivery.as_mut().poll(context) {
                    return Poll::Ready(Some(result));
                }
                expiry.as_mut().poll(context).map(|()| None)
            })
            .await
        });
        let result = delivered.unwrap_or_else(|| {
            if attempts.is_waiting {
                let _context = runtime.handle().enter();
                attempts.reconnect(transport);
            }
            let message = "there was no time left to try again".to_owned();
            Err(SendFailure::Retryable { message, wait: None })
        });
        self.log_reconnects(attempts, &result);
        (result, attempts)
    }

    /// Logs that a connection was replaced, once until a request succeeds.
    fn log_reconnects(&mut self, attempts: Attempts, result: &Result<ExportReply, SendFailure>) {
        if attempts.reconnected > 0 && !self.has_reconnected {
            tracing::warn!(
                target: "tracing_feedback",
                "the connection to the collector was given up, since it was dead or there was no \
                 answer on it; the next request opens another one"
            );
        }
        self.has_reconnected =
            result.is_err() && (self.has_reconnected || attempts.reconnected > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A transport whose requests wait for a blocking task of the runtime, as for the resolver of the
    /// system, until the sender of the test is dropped.
    struct Blocking(Option<mpsc::Receiver<()>>);

    impl Transport for Blocking {
        fn component(&self, _: Signal) -> &'static str {
            "blocking"
        }

        async fn send(&mut self, _: RequestPieces) -> Result<ExportReply, SendFailure> {
            if let Some(released) = self.0.take() {
                let _ = tokio::task::spawn_blocking(move || released.recv()).await;
            }
            Err(SendFailure::Permanent { message: "a resolver was slow".to_owned() })
        }

        fn reconnect(&mut self) {}
    }

    #[test]
    fn the_drop_of_a_client_does_not_wait_for_a_name_to_be_resolved() {
        let (release, released) = mpsc::channel();
        let (dropped, is_dropped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let make = || Ok::<_, std::convert::Infallible>(Blocking(Some(released)));
            let mut client =
                OtlpClient::new(Signal::Traces, runtime, Duration::from_millis(50), make).unwrap();
            client.deliver(Vec::new(), Backoff::default()).0.unwrap_err();
            drop(client);
            dropped.send(()).unwrap();
        });
        let result = is_dropped.recv_timeout(Duration::from_secs(20));
        drop(release);
        thread.join().unwrap();
        result.unwrap();
    }
}
