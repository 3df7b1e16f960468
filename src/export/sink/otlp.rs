//! The sink for spans or log records as OTLP bytes, to a collector.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_sdk::Resource;

use super::client::OtlpClient;
use super::{Backpressure, Batch, Delivery, Sink};
use crate::export::transport::retry::Backoff;
use crate::export::transport::{SendFailure, Transport};
use crate::otlp::encoded_items::{EncodedItems, request, totals};
use crate::otlp::request::resource_fields;

/// Sends batches by a client. What can't be delivered is lost.
pub(crate) struct OtlpSink<T> {
    client: OtlpClient<T>,
    /// The encoded resource of all items.
    resource: Bytes,
}

impl<T: Transport> OtlpSink<T> {
    pub(crate) fn new(client: OtlpClient<T>, resource: &Resource) -> Self {
        Self { client, resource: resource_fields(resource).into() }
    }

    /// Sends one request and adds the outcome to `delivery`.
    ///
    /// # Errors
    ///
    /// The request is too large, as the collector says.
    fn send(&mut self, batches: &[EncodedItems], delivery: &mut Delivery) -> Result<(), String> {
        let (spans, feedback) = totals(batches);
        let (result, attempts) = self.client.deliver(request(batches), Backoff::default());
        delivery.add_attempts(attempts, spans);
        match result {
            Ok(reply) => {
                let rejected = reply.rejected.min(spans);
                delivery.exported += spans - rejected;
                if rejected > 0 {
                    delivery.reject(rejected, 0, reply.message);
                } else {
                    reply.log_message();
                }
            }
            Err(SendFailure::TooLarge { message }) => return Err(message),
            Err(failure) => delivery.fail(spans, feedback, failure.into_parts().0),
        }
        Ok(())
    }
}

impl<T: Transport> Sink for OtlpSink<T> {
    fn component(&self) -> &'static str {
        self.client.component()
    }

    fn export(&mut self, batches: Vec<Batch>, _: &Backpressure) -> Delivery {
        let mut delivery = Delivery::default();
        let batches = batches.into_iter().map(|batch| batch.into_encoded(&self.resource).0);
        let mut requests = VecDeque::from([batches.collect::<Vec<_>>()]);
        while let Some(mut batches) = requests.pop_front() {
            let Err(message) = self.send(&batches, &mut delivery) else { continue };
            // Too large for the collector: split in two halves, down to single spans, whose values are then
            // cut.
            let half: Vec<_> = if batches.len() > 1 {
                batches.split_off(batches.len() / 2)
            } else {
                batches.iter_mut().filter_map(EncodedItems::halve).collect()
            };
            if half.is_empty() && batches.iter_mut().any(EncodedItems::truncate) {
                delivery.truncated += 1;
                requests.push_front(batches);
                continue;
            }
            if half.is_empty() {
                let (spans, feedback) = totals(&batches);
                delivery.fail(spans, feedback, message);
                continue;
            }
            requests.push_front(half);
            requests.push_front(batches);
        }
        delivery
    }

    fn shutdown(&mut self, _: Duration) -> Result<Delivery, String> {
        Ok(Delivery::default()) // nothing is held back
    }
}
