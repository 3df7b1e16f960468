//! The outbox on disk: three segment logs, and the limits that hold for all of them.
//!
//! Entries are not made durable here, since the store is locked: the file to be synced is returned,
//! and synced after unlocking. Only the beginning of a segment syncs the previous one.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::directory::{self, Directory};
use super::format::SegmentEntry;
use super::options::OutboxOptions;
use super::segment::EntryState;
use super::segment_log::{self, Notice, SegmentLog, TakenEntry};
use crate::otlp::Signal;
use crate::otlp::encoded_items::EncodedItems;

/// The place from which encoded spans were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryLocation {
    Feedback(segment_log::LogPosition),
    Spans(segment_log::LogPosition),
    /// In the journal, by its sequence: the entry could not be written yet.
    Journal(u64),
}

#[derive(Debug)]
pub(super) struct OutboxStore {
    max_bytes: u64,
    max_age: Duration,
    max_feedback_age: Duration,
    signal: Signal,
    /// The encoded resource of this process.
    resource: Bytes,
    pub(super) directory: Directory,
    pub(super) feedback: SegmentLog,
    pub(super) spans: SegmentLog,
    rejected: SegmentLog,
    /// Spans dropped since the last [`take_lost`](Self::take_lost), and how many of them carried
    /// feedback.
    lost: (u64, u64),
}

impl OutboxStore {
    pub(super) fn open(
        options: &OutboxOptions,
        signal: Signal,
        resource: Bytes,
    ) -> io::Result<Self> {
        let directory = Directory::create(&directory::root(&options.path, signal))?;
        let own = directory.path();
        let owner = directory.owner();
        let prefix = format!("{}-", directory.name());
        Ok(Self {
            max_bytes: options.max_bytes,
            max_age: options.max_age,
            max_feedback_age: options.max_feedback_age,
            signal,
            resource,
            feedback: SegmentLog::create(
                own.join(directory::FEEDBACK),
                signal,
                owner,
                String::new(),
            )?,
            spans: SegmentLog::create(own.join(directory::SPANS), signal, owner, String::new())?,
            rejected: SegmentLog::create(directory.rejected(), signal, owner, prefix)?,
            directory,
            lost: (0, 0),
        })
    }

    /// Appends encoded spans without feedback. Returns the file to be synced.
    pub(super) fn spill(
        &mut self,
        batches: &[EncodedItems],
        now: u64,
    ) -> io::Result<Option<Arc<File>>> {
        let needed = batches.iter().map(|batch| batch.encoded.len() as u64).sum();
        self.make_room(needed, now);
        if self.bytes() + needed > self.max_bytes {
            return Err(io::Error::other("the outbox is full"));
        }
        append(&mut self.spans, batches, EntryState::Ready, "", now)?;
        Ok(self.spans.file())
    }

    /// Appends encoded spans that the collector has rejected, with the reason. Returns the file to
    /// be synced.
    pub(super) fn reject(
        &mut self,
        batches: &[EncodedItems],
        reason: &str,
        now: u64,
    ) -> io::Result<Option<Arc<File>>> {
        append(&mut self.rejected, batches, EntryState::Held, reason, now)?;
        Ok(self.rejected.file())
    }

    /// Sets the states of earlier entries, which can't fail, and appends entries of the journal.
    /// Returns the file to be synced.
    pub(super) fn write(
        &mut self,
        entries: &[(SegmentEntry, EntryState)],
        released: &[u64],
        unreleased: &[u64],
        now: u64,
    ) -> io::Result<Option<Arc<File>>> {
        self.feedback.settle_sequences(released, EntryState::Gone);
        self.feedback.settle_sequences(unreleased, EntryState::Ready);
        if entries.is_empty() {
            return Ok(None);
        }
        self.make_room(entries.iter().map(|(entry, _)| entry.size() as u64).sum(), now);
        self.feedback.append(entries, &self.resource, "", now)?;
        Ok(self.feedback.file())
    }

    /// Takes entries that are ready to be sent, feedback first: up to `most` bytes, or one larger
    /// entry.
    pub(super) fn take(&mut self, most: usize, now: u64) -> Vec<(EntryLocation, EncodedItems)> {
        self.make_room(0, now);
        let mut taken = Vec::new();
        self.feedback.take(most, &mut taken);
        let feedback = taken.len();
        self.spans.take(most, &mut taken);
        let location_of = |at, position| match at < feedback {
            true => EntryLocation::Feedback(position),
            false => EntryLocation::Spans(position),
        };
        let taken = taken.into_iter().enumerate();
        taken
            .map(|(at, TakenEntry { position, resource, entry })| {
                (
                    location_of(at, position),
                    entry.into_encoded(self.signal, resource, at < feedback),
                )
            })
            .collect()
    }

    /// Sets the state of entries that were taken.
    pub(super) fn settle(
        &mut self,
        feedback: Vec<segment_log::LogPosition>,
        spans: Vec<segment_log::LogPosition>,
        state: EntryState,
    ) {
        self.feedback.settle(feedback, state);
        self.spans.settle(spans, state);
    }

    /// Deletes segments that are too old, and if space is needed the oldest spans without feedback.
    pub(super) fn make_room(&mut self, needed: u64, now: u64) {
        while is_older(&self.spans, self.max_age, now) {
            let Some(spans) = self.spans.drop_oldest() else { break };
            self.lost.0 += spans;
        }
        while is_older(&self.feedback, self.max_feedback_age, now) {
            let Some(spans) = self.feedback.drop_oldest() else { break };
            self.lost.0 += spans;
            self.lost.1 += spans;
        }
        while self.bytes() + needed > self.max_bytes {
            let Some(spans) = self.spans.drop_oldest() else { break };
            self.lost.0 += spans;
        }
    }

    /// Adopts the segments of ended processes, and deletes finished segments and old rejected
    /// spans.
    pub(super) fn maintain(&mut self) -> io::Result<()> {
        self.feedback.tidy();
        self.spans.tidy();
        let mut result = self.directory.trim_rejected(self.max_bytes / 4, self.max_feedback_age);
        self.rejected.forget_missing();
        let log = &mut self.feedback;
        let abandoned = self.directory.abandoned(|path, error| log.report(path, error))?;
        for abandoned in abandoned {
            let feedback = self.feedback.adopt(&abandoned.path.join(directory::FEEDBACK));
            let spans = self.spans.adopt(&abandoned.path.join(directory::SPANS));
            match feedback.and(spans) {
                Ok(()) => abandoned.remove(),
                // The other directories are adopted all the same.
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Deletes finished segments, and leaves the directory to other processes.
    pub(super) fn leave(&mut self) {
        self.feedback.tidy();
        self.spans.tidy();
        self.directory.leave();
    }

    pub(super) fn bytes(&self) -> u64 {
        self.feedback.bytes() + self.spans.bytes() + self.rejected.bytes()
    }

    pub(super) fn feedback_bytes(&self) -> u64 {
        self.feedback.bytes()
    }

    pub(super) fn spans(&self) -> u64 {
        self.feedback.spans() + self.spans.spans()
    }

    /// When the oldest waiting spans were written.
    pub(super) fn oldest(&self) -> Option<u64> {
        let oldest = [&self.feedback, &self.spans].into_iter().filter_map(SegmentLog::oldest);
        oldest.map(|(created, _)| created).min()
    }

    pub(super) fn has_ready(&self) -> bool {
        self.feedback.has_ready() || self.spans.has_ready()
    }

    /// Returns and resets the number of lost spans, and how many of them carried feedback.
    pub(super) fn take_lost(&mut self) -> (u64, u64) {
        let feedback = self.feedback.take_lost();
        let (spans, with_feedback) = std::mem::take(&mut self.lost);
        (spans + feedback + self.spans.take_lost(), with_feedback + feedback)
    }

    /// Takes the warnings to be logged when nothing is locked.
    pub(super) fn notices(&mut self) -> Vec<Notice> {
        let logs = [&mut self.feedback, &mut self.spans, &mut self.rejected];
        logs.into_iter().flat_map(|log| log.notices.drain(..)).collect()
    }
}

fn append(
    log: &mut SegmentLog,
    batches: &[EncodedItems],
    state: EntryState,
    note: &str,
    now: u64,
) -> io::Result<()> {
    for of_one in batches.chunk_by(|one, next| one.resource == next.resource) {
        let Some(EncodedItems { resource, .. }) = of_one.first() else { continue };
        let entries = of_one.iter().map(|batch| (SegmentEntry::of_encoded(batch, now), state));
        log.append(&entries.collect::<Vec<_>>(), resource, note, now)?;
    }
    Ok(())
}

/// Whether all entries of the oldest segment of a log are older than `age`.
fn is_older(log: &SegmentLog, age: Duration, now: u64) -> bool {
    let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    log.oldest().is_some_and(|(_, newest)| now.saturating_sub(newest) > age)
}
