//! The sink for spans or log records as OTLP bytes with an outbox: what can't be delivered is stored
//! on disk. Where this says spans, it means log records as well.
//!
//! It differs from the [plain sink](super::otlp) only in how it handles failures. New (*live*)
//! spans and *stored* ones, read back from disk, are sent the same way. After a retryable failure
//! neither are sent for a while; live spans then go straight to disk. Each has its own [circuit
//! breaker](CircuitBreaker): a stored request on which the collector fails must not keep live spans
//! from it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry_sdk::Resource;

use super::circuit_breaker::CircuitBreaker;
use super::client::OtlpClient;
use super::{Backpressure, Batch, Delivery, Sink};
use crate::export::transport::retry::Backoff;
use crate::export::transport::{ExportReply, SendFailure, Transport};
use crate::otlp::encoded_items::{EncodedItems, request, totals};
use crate::otlp::request::resource_fields;
use crate::outbox::{EntryLocation, Finalizers, Outbox};

/// Bytes of a request with stored spans.
const STORED_BYTES: usize = 2 * 1024 * 1024;
/// How often the outbox is checked for stored spans.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The same at the start, until the outbox has looked for spans that other processes left behind.
const START_INTERVAL: Duration = Duration::from_millis(10);
/// The most requests that a rejected one is split into, to find the spans that were rejected.
const MOST_PARTS: u32 = 64;
/// How often a stored request may fail, while live spans are accepted, until it is given up.
const MOST_STRIKES: u32 = 5;
/// After how many such failures the entries are sent one by one.
const STRIKES_OF_SEVERAL: u32 = 2;
/// A stored span of more bytes may be the reason why a request fails each time.
const DOUBTFUL_BYTES: usize = 512 * 1024;

pub(crate) struct OutboxSink<T> {
    client: OtlpClient<T>,
    /// The encoded resource of this process.
    resource: Bytes,
    outbox: Arc<Outbox>,
    /// The circuit for live spans, and that for stored ones.
    live: CircuitBreaker,
    stored: CircuitBreaker,
    /// Whether live spans were accepted since a stored request last failed; `strikes` counts such
    /// failures.
    live_accepted: bool,
    strikes: u32,
    /// Whether stored entries are sent one by one, to find the one that makes requests fail.
    is_one_by_one: bool,
}

/// What is to be done with stored items whose request has failed.
enum Strike {
    /// They are sent again later.
    Keep(Vec<Item>),
    /// They are sent again at once: their values were cut.
    TryAgain(Vec<Item>),
    /// The collector takes everything else.
    GiveUp(Vec<Item>),
}

/// Encoded spans, and their origin.
struct Item {
    batch: EncodedItems,
    origin: Origin,
}

enum Origin {
    Live(Finalizers),
    Stored(EntryLocation),
}

impl Item {
    fn is_stored(&self) -> bool {
        matches!(self.origin, Origin::Stored(_))
    }
}

impl<T: Transport> OutboxSink<T> {
    pub(crate) fn new(client: OtlpClient<T>, resource: &Resource, outbox: Arc<Outbox>) -> Self {
        Self {
            client,
            resource: resource_fields(resource).into(),
            outbox,
            live: CircuitBreaker::default(),
            stored: CircuitBreaker::default(),
            live_accepted: false,
            strikes: 0,
            is_one_by_one: false,
        }
    }

    /// What is sent is called so in messages.
    fn items(&self) -> &'static str {
        self.client.signal().items()
    }

    /// Sends items, in as many requests as it takes.
    fn send(
        &mut self,
        items: Vec<Item>,
        backoff: Backoff,
        backpressure: &Backpressure,
        delivery: &mut Delivery,
    ) {
        let mut requests = VecDeque::from([items]);
        let mut parts = 0;
        while let Some(items) = requests.pop_front() {
            let batches = || items.iter().map(|item| &item.batch);
            let (spans, _) = totals(batches());
            let began = Instant::now();
            let (result, attempts) =
                self.client.try_to_deliver(request(batches()), backoff, backpressure);
            delivery.add_attempts(attempts, spans);
            match result {
                Ok(reply) if reply.rejected == 0 => {
                    reply.log_message();
                    self.record_success(&items);
                    self.accepted(items, delivery);
                }
                Ok(reply) => {
                    self.record_success(&items);
                    self.partially_accepted(items, reply, backpressure, delivery);
                }
                Err(SendFailure::TooLarge { message }) => match self.split(items, delivery) {
                    Ok(smaller) => smaller.into_iter().rev().for_each(|it| requests.push_front(it)),
                    Err(items) => self.reject(items, message, delivery),
                },
                Err(SendFailure::Rejected { message }) if parts < MOST_PARTS => {
                    // Feedback is sent apart from the other spans, which are more likely at fault.
                    match feedback_apart(items) {
                        Ok(apart) => {
                            parts += 1;
                            apart.into_iter().rev().for_each(|it| requests.push_front(it));
                        }
                        Err(items) => self.reject(items, message, delivery),
                    }
                }
                Err(SendFailure::Rejected { message }) => self.reject(items, message, delivery),
                // The fault may lie in this request alone.
                Err(failure)
                    if self.is_about_stored(&failure, &items)
                        && !backpressure.gives_up_on(began) =>
                {
                    let (message, _) = failure.into_parts();
                    match self.count_strike(items, delivery) {
                        Strike::Keep(items) => {
                            return self.keep(remaining(items, requests), &message, delivery);
                        }
                        Strike::TryAgain(items) => requests.push_front(items),
                        Strike::GiveUp(items) => self.reject(items, message, delivery),
                    }
                }
                Err(failure) => {
                    let (message, wait) = failure.into_parts();
                    self.record_failure(&message, wait);
                    return self.keep(remaining(items, requests), &message, delivery);
                }
            }
        }
    }

    /// Records that the collector has accepted a request.
    fn record_success(&mut self, items: &[Item]) {
        if items.iter().all(Item::is_stored) {
            self.stored.record_success();
            self.strikes = 0;
        } else {
            self.live_accepted = true;
        }
        if self.live.record_success() {
            // An outage is over for live and stored spans.
            self.stored.record_success();
            tracing::info!(target: "tracing_feedback", "the collector accepts {} again", self.items());
        }
    }

    /// Records a failure of the collector, for live and stored spans.
    fn record_failure(&mut self, message: &str, wait: Option<Duration>) {
        if !self.live.has_failed() {
            tracing::warn!(
                target: "tracing_feedback",
                "{} are stored in the outbox, since the collector doesn't accept them: {message}",
                self.items()
            );
        }
        let now = Instant::now();
        self.live.record_failure(wait, now);
        self.stored.record_failure(wait, now);
        self.live_accepted = false;
    }

    /// Whether a failure may be the fault of a request that has only stored spans: the collector has accepted
    /// live spans since such a request last failed, or it won't accept this one later either.
    fn is_about_stored(&self, failure: &SendFailure, items: &[Item]) -> bool {
        let may_be = match failure {
            SendFailure::Permanent { .. } => true,
            // A collector that asks for a delay is busy. Otherwise it may be the request that makes it fail,
            // or not answer, each time.
            SendFailure::Retryable { wait, .. } => wait.is_none() && self.live_accepted,
            SendFailure::TooLarge { .. } | SendFailure::Rejected { .. } => false,
        };
        may_be && items.iter().all(Item::is_stored)
    }

    /// Counts a failure of a stored request, if live spans were accepted since the last one. Returns what is
    /// to be done with its items.
    fn count_strike(&mut self, mut items: Vec<Item>, delivery: &mut Delivery) -> Strike {
        self.strikes += u32::from(std::mem::take(&mut self.live_accepted));
        self.is_one_by_one |= self.strikes >= STRIKES_OF_SEVERAL;
        if items.len() > 1 || self.strikes < MOST_STRIKES {
            self.stored.record_failure(None, Instant::now());
            return Strike::Keep(items);
        }
        let mut is_cut = false;
        for item in items.iter_mut().filter(|_| self.strikes == MOST_STRIKES) {
            // Some receivers close the connection instead of answering that a request is too large.
            while item.batch.encoded.len() > DOUBTFUL_BYTES && item.batch.truncate() {
                is_cut = true;
            }
        }
        if is_cut {
            self.strikes += 1;
            self.live_accepted = true;
            delivery.truncated += 1;
            return Strike::TryAgain(items);
        }
        (self.strikes, self.is_one_by_one) = (0, false);
        Strike::GiveUp(items)
    }

    /// Splits a request that is too large for the collector in two, down to single spans, whose values are
    /// then cut.
    ///
    /// # Errors
    ///
    /// The request can't be made smaller.
    fn split(
        &mut self,
        mut items: Vec<Item>,
        delivery: &mut Delivery,
    ) -> Result<Vec<Vec<Item>>, Vec<Item>> {
        if items.len() > 1 {
            return halves(items).map(Vec::from);
        }
        let Some(Item { batch, origin }) = items.first_mut() else { return Ok(Vec::new()) };
        if batch.items < 2 {
            if !batch.truncate() {
                return Err(items);
            }
            delivery.truncated += 1;
            return Ok(vec![items]);
        }
        let whole = batch.clone();
        let Some(half) = batch.halve() else { return Err(items) };
        match origin {
            Origin::Live(_) => {
                let origin = Origin::Live(Finalizers::default());
                Ok(vec![items, vec![Item { batch: half, origin }]])
            }
            // The parts replace the item on disk, and are read from there.
            Origin::Stored(place) => match self.outbox.spill(&[batch.clone(), half]) {
                Ok(()) => {
                    self.outbox.acknowledge(&[*place], 0);
                    Ok(Vec::new())
                }
                Err(_) => {
                    *batch = whole;
                    Err(items)
                }
            },
        }
    }

    fn accepted(&mut self, items: Vec<Item>, delivery: &mut Delivery) {
        let (mut places, mut stored) = (Vec::new(), 0);
        for Item { batch, origin } in items {
            delivery.exported += batch.items as u64;
            match origin {
                Origin::Live(finalizers) => finalizers.release(),
                Origin::Stored(place) => {
                    stored += batch.items as u64;
                    places.push(place);
                }
            }
        }
        if !places.is_empty() {
            self.outbox.acknowledge(&places, stored);
        }
    }

    /// Handles a partial success, which doesn't say which spans were rejected. Items with feedback
    /// are sent once more, each by itself; the remaining rejections count for the other items.
    fn partially_accepted(
        &mut self,
        items: Vec<Item>,
        reply: ExportReply,
        backpressure: &Backpressure,
        delivery: &mut Delivery,
    ) {
        let ExportReply { mut rejected, message } = reply;
        let is_alone = items.len() == 1;
        let (feedback, plain): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item.batch.feedback > 0);
        if is_alone && !feedback.is_empty() {
            return self.reject(feedback, message, delivery);
        }
        for (number, item) in (0..).zip(feedback) {
            if number >= MOST_PARTS {
                self.keep(vec![item], &message, delivery);
                continue;
            }
            let request = request([&item.batch]);
            let (result, attempts) =
                self.client.try_to_deliver(request, Backoff::default(), backpressure);
            delivery.retried += 1;
            delivery.add_attempts(attempts, 1);
            match result {
                Ok(reply) if reply.rejected == 0 => self.accepted(vec![item], delivery),
                Ok(ExportReply { message, .. })
                | Err(SendFailure::Rejected { message } | SendFailure::TooLarge { message }) => {
                    rejected = rejected.saturating_sub(1);
                    self.reject(vec![item], message, delivery);
                }
                Err(
                    SendFailure::Retryable { message, .. } | SendFailure::Permanent { message },
                ) => {
                    self.keep(vec![item], &message, delivery);
                }
            }
        }
        let (spans, _) = totals(plain.iter().map(|item| &item.batch));
        let rejected = rejected.min(spans);
        if rejected > 0 {
            self.write_rejected(&plain, rejected, &message);
            delivery.reject(rejected, 0, message);
        }
        self.accepted(plain, delivery);
        delivery.exported -= rejected;
    }

    /// Handles items that the collector will never accept.
    fn reject(&mut self, items: Vec<Item>, message: String, delivery: &mut Delivery) {
        let (spans, _) = totals(items.iter().map(|item| &item.batch));
        let is_written = self.write_rejected(&items, spans, &message);
        // Stored items that can't be written to the `rejected` files stay stored, until they can.
        let (kept, items): (Vec<_>, _) =
            items.into_iter().partition(|item| item.is_stored() && !is_written);
        if !kept.is_empty() {
            self.stored.record_failure(None, Instant::now());
            self.keep(kept, &message, delivery);
        }
        let (spans, feedback) = totals(items.iter().map(|item| &item.batch));
        if spans > 0 {
            delivery.reject(spans, feedback, message);
        }
        let mut places = Vec::new();
        for Item { origin, .. } in items {
            match origin {
                Origin::Live(finalizers) if is_written => finalizers.release(),
                Origin::Live(_) => {} // the outbox goes on trying
                Origin::Stored(place) => places.push(place),
            }
        }
        if !places.is_empty() {
            self.outbox.acknowledge(&places, 0);
        }
    }

    fn write_rejected(&self, items: &[Item], rejected: u64, message: &str) -> bool {
        let batches: Vec<_> = items.iter().map(|item| item.batch.clone()).collect();
        let (spans, _) = totals(&batches);
        let reason = match rejected == spans {
            true => message.to_owned(),
            false => format!("{rejected} of these {spans} {}: {message}", self.items()),
        };
        match self.outbox.reject(&batches, rejected, &reason) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    target: "tracing_feedback",
                    "rejected {} could not be written to the outbox: {error}",
                    self.items()
                );
                false
            }
        }
    }

    /// Puts items into the outbox, or back into it, to be sent later.
    fn keep(&mut self, items: Vec<Item>, message: &str, delivery: &mut Delivery) {
        let (mut places, mut plain, mut feedback_items) = (Vec::new(), Vec::new(), Vec::new());
        for Item { batch, origin } in items {
            match origin {
                Origin::Stored(place) => places.push(place),
                // The outbox holds the feedback; dropping the finalizers makes the outbox send it.
                Origin::Live(finalizers) if finalizers.is_whole() => drop(finalizers),
                Origin::Live(finalizers) if batch.feedback > 0 => {
                    feedback_items.push((batch, finalizers))
                }
                Origin::Live(_) => plain.push(batch),
            }
        }
        if !places.is_empty() {
            self.outbox.put_back(&places);
        }
        if let Err(error) = self.outbox.spill(&plain) {
            let (spans, _) = totals(&plain);
            delivery.fail(spans, 0, format!("{message}; and the outbox can't store them: {error}"));
        }
        let taken: Vec<_> = feedback_items
            .into_iter()
            .filter_map(|(batch, finalizers)| match self.outbox.spill_feedback(&batch) {
                Ok(()) => Some(finalizers),
                Err(refused) => {
                    // Feedback that was written ahead is sent from the outbox.
                    let feedback = if finalizers.is_empty() { batch.feedback as u64 } else { 0 };
                    let message = format!("{message}; and the outbox can't store it: {refused}");
                    delivery.fail(batch.items as u64, feedback, message);
                    None
                }
            })
            .collect();
        // What the disk can't take stays in memory, and is sent from there.
        if !taken.is_empty() && self.outbox.sync_within_limit().is_ok() {
            taken.into_iter().for_each(Finalizers::release);
        }
    }
}

impl<T: Transport> Sink for OutboxSink<T> {
    fn component(&self) -> &'static str {
        self.client.component()
    }

    fn export(&mut self, batches: Vec<Batch>, backpressure: &Backpressure) -> Delivery {
        let mut delivery = Delivery::default();
        let items = batches.into_iter().map(|batch| {
            let (batch, finalizers) = batch.into_encoded(&self.resource);
            Item { batch, origin: Origin::Live(finalizers) }
        });
        let items: Vec<Item> = items.collect();
        let has_parts = |item: &Item| match &item.origin {
            Origin::Live(finalizers) => !finalizers.is_empty() && !finalizers.is_whole(),
            Origin::Stored(_) => false,
        };
        if items.iter().any(has_parts) {
            self.outbox.sync_ahead();
        }
        if self.live.is_open(Instant::now()) || backpressure.is_past_deadline() {
            self.keep(items, "the collector can't be reached", &mut delivery);
        } else {
            let backoff = if self.live.has_failed() { Backoff::ONCE } else { Backoff::default() };
            self.send(items, backoff, backpressure, &mut delivery);
        }
        delivery.discarded = self.outbox.take_lost();
        delivery
    }

    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.outbox.has_ready() {
            return Some(self.stored.until().unwrap_or(now));
        }
        // Other threads may store spans, or adopt those of ended processes, as they do at the
        // start.
        Some(now + if self.outbox.has_adopted() { CHECK_INTERVAL } else { START_INTERVAL })
    }

    fn catch_up(&mut self, backpressure: &Backpressure) -> Delivery {
        let mut delivery = Delivery::default();
        self.is_one_by_one &= self.outbox.has_ready();
        let most = if self.is_one_by_one { 1 } else { STORED_BYTES };
        let mut taken = self.outbox.take(most);
        if self.is_one_by_one && taken.len() > 1 {
            let others: Vec<_> = taken.drain(1..).map(|(place, _)| place).collect();
            self.outbox.put_back(&others);
        }
        let items = taken.into_iter();
        let items = items.map(|(place, batch)| {
            let origin = Origin::Stored(place);
            Item { batch, origin }
        });
        let items: Vec<_> = items.collect();
        if !items.is_empty() {
            self.send(items, Backoff::ONCE, backpressure, &mut delivery);
        }
        delivery.discarded = self.outbox.take_lost();
        delivery
    }

    fn shutdown(&mut self, _: Duration) -> Result<Delivery, String> {
        self.outbox.close();
        Ok(Delivery { discarded: self.outbox.take_lost(), ..Delivery::default() })
    }
}

impl<T> Drop for OutboxSink<T> {
    /// Closes the outbox also if the export thread has panicked.
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// The items of a request that failed, and those of the requests after it.
fn remaining(items: Vec<Item>, requests: VecDeque<Vec<Item>>) -> Vec<Item> {
    items.into_iter().chain(requests.into_iter().flatten()).collect()
}

/// Splits several items in two halves.
fn halves(mut items: Vec<Item>) -> Result<[Vec<Item>; 2], Vec<Item>> {
    if items.len() > 1 {
        let half = items.split_off(items.len() / 2);
        return Ok([items, half]);
    }
    Err(items)
}

/// Separates items with feedback from the others. If there are no others, splits the items in two
/// halves.
fn feedback_apart(items: Vec<Item>) -> Result<[Vec<Item>; 2], Vec<Item>> {
    let (feedback, plain): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| item.batch.feedback > 0);
    match (feedback.is_empty(), plain.is_empty()) {
        (false, false) => Ok([feedback, plain]),
        (true, _) => Err(plain),
        (false, true) => halves(feedback),
    }
}

#[cfg(test)]
mod tests;
