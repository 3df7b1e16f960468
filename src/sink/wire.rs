//! The sink for spans as OTLP bytes, to a collector.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_sdk::Resource;

use super::courier::Courier;
use super::{Delivery, Packing, Parcel, Patience, Sink};
use crate::encode::request::resource_fields;
use crate::shipment::{Shipment, request, totals};
use crate::transport::retry::Backoff;
use crate::transport::{Failure, Transport};

/// Sends parcels by a courier. What can't be delivered is lost.
pub(crate) struct WireSink<T> {
    courier: Courier<T>,
    /// Of all spans.
    resource: Bytes,
}

impl<T: Transport> WireSink<T> {
    pub(crate) fn new(courier: Courier<T>, resource: &Resource) -> Self {
        Self { courier, resource: resource_fields(resource).into() }
    }

    /// Sends one request and says what became of its spans; `None` if it is too large.
    fn send(&mut self, shipments: &[Shipment], delivery: &mut Delivery) -> Option<()> {
        let (spans, feedback) = totals(shipments);
        let (result, retried) = self.courier.deliver(request(shipments), Backoff::default());
        delivery.retried += retried * spans;
        match result {
            Ok(reply) => {
                let rejected = reply.rejected.min(spans);
                delivery.exported += spans - rejected;
                if rejected > 0 {
                    delivery.reject(rejected, 0, reply.message);
                } else {
                    reply.pass_on();
                }
            }
            Err(Failure::TooLarge { .. }) if spans > 1 => return None,
            Err(failure) => delivery.fail(spans, feedback, failure.into_parts().0),
        }
        Some(())
    }
}

impl<T: Transport> Sink for WireSink<T> {
    fn component(&self) -> &'static str {
        T::COMPONENT
    }

    fn packing(&self) -> Packing {
        Packing::Packed
    }

    fn export(&mut self, parcels: Vec<Parcel>, _: &Patience) -> Delivery {
        let mut delivery = Delivery::default();
        let shipments = parcels.into_iter().filter_map(|parcel| {
            let (shipment, _) = parcel.into_shipment(&self.resource)?;
            Some(shipment)
        });
        let mut requests = VecDeque::from([shipments.collect::<Vec<_>>()]);
        while let Some(mut shipments) = requests.pop_front() {
            if self.send(&shipments, &mut delivery).is_some() {
                continue;
            }
            // Too large for the collector: in two halves, until single spans are.
            let half: Vec<_> = if shipments.len() > 1 {
                shipments.split_off(shipments.len() / 2)
            } else {
                shipments.iter_mut().filter_map(Shipment::halve).collect()
            };
            if half.is_empty() {
                let (spans, feedback) = totals(&shipments);
                delivery.fail(spans, feedback, "a request is too large to be sent".to_owned());
                continue;
            }
            requests.push_front(half);
            requests.push_front(shipments);
        }
        delivery
    }

    fn shutdown(&mut self, _: Duration) -> Result<Delivery, String> {
        Ok(Delivery::default()) // nothing is held back
    }
}
