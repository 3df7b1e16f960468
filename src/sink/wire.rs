//! The sink for spans as OTLP bytes, to a collector.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::{Contents, Delivery, Packing, Parcel, Sink};
use crate::clock;
use crate::encode;
use crate::encode::request::Envelope;
use crate::transport::retry::{Backoff, deliver};
use crate::transport::{Failure, Pieces, Transport};

/// Sends parcels through `T`, on a runtime of its own.
pub(crate) struct WireSink<T> {
    transport: T,
    envelope: Envelope,
    runtime: tokio::runtime::Runtime,
    /// How long one request may take, its retries included.
    timeout: Duration,
}

impl<T: Transport> WireSink<T> {
    /// Makes the transport with `make`, which runs where the transport will: in the runtime.
    pub(crate) fn new<Error>(
        runtime: tokio::runtime::Runtime,
        resource: &Resource,
        timeout: Duration,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let transport = {
            let _context = runtime.enter();
            make()?
        };
        Ok(Self { transport, envelope: Envelope::new(resource), runtime, timeout })
    }

    /// Sends one request and says what became of its spans; `None` if it is too large.
    fn send(&mut self, parcels: &[Sealed], delivery: &mut Delivery) -> Option<()> {
        let request = self.request(parcels);
        let (spans, feedback) = totals(parcels);
        let mut retried = 0;
        let Self { transport, runtime, timeout, .. } = self;
        let result = runtime.block_on(async {
            let deadline = clock::after(*timeout).into();
            deliver(transport, request, Backoff::default(), deadline, || retried += 1).await
        });
        delivery.retried += retried * spans;
        match result {
            Ok(reply) => {
                let rejected = reply.rejected.min(spans);
                delivery.exported += spans - rejected;
                if rejected > 0 {
                    delivery.reject(rejected, reply.message);
                } else if !reply.message.is_empty() {
                    let message = reply.message;
                    tracing::warn!(target: "tracing_feedback", "the collector says: {message}");
                }
            }
            Err(Failure::TooLarge { .. }) if spans > 1 => return None,
            Err(
                Failure::Passing { message, .. }
                | Failure::TooLarge { message }
                | Failure::Final { message },
            ) => delivery.fail(spans, feedback, message),
        }
        Some(())
    }

    /// The request for `parcels`, their spans grouped by scope.
    fn request(&self, parcels: &[Sealed]) -> Pieces {
        let mut scopes: Vec<(&InstrumentationScope, Pieces)> = Vec::new();
        for Sealed { scope, encoded, .. } in parcels {
            match scopes.iter_mut().find(|(known, _)| *known == &**scope) {
                Some((_, of_scope)) => of_scope.push(encoded.clone()),
                None => scopes.push((scope, vec![encoded.clone()])),
            }
        }
        self.envelope.request(scopes)
    }
}

impl<T: Transport> Sink for WireSink<T> {
    fn component(&self) -> &'static str {
        T::COMPONENT
    }

    fn packing(&self) -> Packing {
        Packing::Packed
    }

    fn export(&mut self, parcels: Vec<Parcel>) -> Delivery {
        let mut delivery = Delivery::default();
        let parcels: Vec<_> = parcels.into_iter().filter_map(Sealed::new).collect();
        let mut requests = VecDeque::from([parcels]);
        while let Some(mut parcels) = requests.pop_front() {
            if self.send(&parcels, &mut delivery).is_some() {
                continue;
            }
            // Too large for the collector: in two halves, until single spans are.
            let half: Vec<_> = if parcels.len() > 1 {
                parcels.split_off(parcels.len() / 2)
            } else {
                parcels.iter_mut().filter_map(Sealed::halve).collect()
            };
            if half.is_empty() {
                let (spans, feedback) = totals(&parcels);
                delivery.fail(spans, feedback, "a request is too large to be sent".to_owned());
                continue;
            }
            requests.push_front(half);
            requests.push_front(parcels);
        }
        delivery
    }

    fn shutdown(&mut self, _: Duration) -> Result<(), String> {
        Ok(()) // nothing is held back
    }
}

/// An encoded parcel, which can be sent, and sent again.
struct Sealed {
    scope: Arc<InstrumentationScope>,
    encoded: Bytes,
    spans: usize,
    feedback: usize,
}

impl Sealed {
    fn new(parcel: Parcel) -> Option<Self> {
        let Parcel { contents, spans, feedback, .. } = parcel;
        let Contents::Packed { scope, spans: packed } = contents else { return None };
        Some(Self { scope, encoded: packed.encode().into(), spans, feedback })
    }

    /// Cuts it between two of its spans, and returns the second half.
    fn halve(&mut self) -> Option<Self> {
        let first = self.spans / 2;
        let encoded = self.encoded.split_off(encode::end_of_span(&self.encoded, first)?);
        // A span with feedback has a parcel to itself, which is never cut.
        let half =
            Self { scope: self.scope.clone(), encoded, spans: self.spans - first, feedback: 0 };
        self.spans = first;
        Some(half)
    }
}

/// Spans of all `parcels`, and how many of them carry feedback.
fn totals(parcels: &[Sealed]) -> (u64, u64) {
    parcels.iter().fold((0, 0), |(spans, feedback), parcel| {
        (spans + parcel.spans as u64, feedback + parcel.feedback as u64)
    })
}
