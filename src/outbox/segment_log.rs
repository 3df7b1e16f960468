//! A segment log: segments in the order they were written, of which only the last one grows.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::files::{self, MOST_SEGMENT, Owner, exists};
use super::format::{Header, SegmentEntry};
use super::segment::{self, EntryState, Segment};
use crate::otlp::Signal;
use crate::random;

/// The size in bytes from which on the next segment is begun. A batch for the collector is half of
/// it.
const FULL: u64 = 4 * 1024 * 1024;

/// Segments in one directory.
#[derive(Debug)]
pub(super) struct SegmentLog {
    directory: PathBuf,
    signal: Signal,
    owner: Owner,
    /// The prefix of the names of its files.
    prefix: String,
    /// The oldest first. The last one is being written while there is a `file`.
    segments: VecDeque<NumberedSegment>,
    file: Option<Arc<File>>,
    next: u64,
    /// The number and contents of the segment that was read last.
    read: Option<(u64, Bytes)>,
    /// Reused for the bytes of an append.
    buffer: Vec<u8>,
    /// Files that can't be read. They are not tried again before the next [`tidy`](Self::tidy).
    unreadable: BTreeSet<PathBuf>,
    /// Files that there has been a notice about.
    reported: BTreeSet<PathBuf>,
    /// Spans that were ready and can't be read any more, since the last
    /// [`take_lost`](Self::take_lost).
    lost: u64,
    /// Warnings to be logged when no lock is held.
    pub(super) notices: Vec<Notice>,
}

/// A file that can't be read, or only in part.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) path: PathBuf,
    pub(super) what: FileProblem,
}

#[derive(Debug)]
pub(super) enum FileProblem {
    /// The start and end of bytes of a segment that can't be read.
    Damage(usize, usize),
    /// The whole file can't be read, for now or permanently.
    Unreadable(io::Error),
    /// The file doesn't exist any more.
    Missing,
}

#[derive(Debug)]
struct NumberedSegment {
    number: u64,
    /// Whether this process wrote the segment, so that the sequences of its entries are valid here.
    is_own: bool,
    segment: Segment,
}

/// The segment and slot of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogPosition {
    number: u64,
    slot: usize,
}

/// An entry that is being sent.
#[derive(Clone, Debug)]
pub(super) struct TakenEntry {
    pub(super) position: LogPosition,
    pub(super) resource: Bytes,
    pub(super) entry: SegmentEntry,
}

impl SegmentLog {
    /// A log in `directory`, which is created. Several logs may have files there if their
    /// prefixes differ.
    pub(super) fn create(
        directory: PathBuf,
        signal: Signal,
        owner: Owner,
        prefix: String,
    ) -> io::Result<Self> {
        files::private_directory(&directory)?;
        owner.check_directory(&directory)?;
        Ok(Self {
            directory,
            signal,
            owner,
            prefix,
            segments: VecDeque::new(),
            file: None,
            next: 0,
            read: None,
            buffer: Vec::new(),
            unreadable: BTreeSet::new(),
            reported: BTreeSet::new(),
            lost: 0,
            notices: Vec::new(),
        })
    }

    /// Moves the segments of an abandoned log to this one. A file that can't be read stays in
    /// place, and there is a notice about it.
    pub(super) fn adopt(&mut self, from: &Path) -> io::Result<()> {
        if !exists(from) {
            return Ok(());
        }
        if let Err(error) = self.owner.check_directory(from) {
            self.report(from.to_owned(), error);
            return Ok(());
        }
        let mut paths = files_in(from, segment::SEGMENT)?;
        paths.sort();
        for path in paths {
            let notices = &mut self.notices;
            let damaged = |from, to| {
                notices.push(Notice { path: path.clone(), what: FileProblem::Damage(from, to) });
            };
            let segment = match Segment::read(path.clone(), self.owner, damaged) {
                Ok(segment) => segment,
                Err(error) => {
                    self.report(path, error);
                    continue;
                }
            };
            if segment.header.signal != self.signal {
                let other = format!("it holds {}", segment.header.signal.items());
                self.report(path, io::Error::other(other));
                continue;
            }
            if segment.is_done() {
                segment.delete();
                continue;
            }
            let number = self.number();
            let segment = segment.moved(self.path_of(number))?;
            self.segments.push_back(NumberedSegment { number, is_own: false, segment });
        }
        // By age, except for the segment that is being written.
        let active = self.active();
        self.segments.make_contiguous().sort_by_key(
            |NumberedSegment { number, segment, .. }| {
                (Some(*number) == active, segment.header.created)
            },
        );
        Ok(())
    }

    /// Notes that a file or directory can't be read, once.
    pub(super) fn report(&mut self, path: PathBuf, error: io::Error) {
        if self.reported.insert(path.clone()) {
            self.notices.push(Notice { path, what: FileProblem::Unreadable(error) });
        }
    }

    /// The number of the segment that is being written.
    fn active(&self) -> Option<u64> {
        self.file.as_ref()?;
        self.segments.iter().rev().find(|numbered| numbered.is_own).map(|numbered| numbered.number)
    }

    /// Writes entries after all others, in the segment that is being written or a new one. If that
    /// fails, nothing is written.
    pub(super) fn append(
        &mut self,
        entries: &[(SegmentEntry, EntryState)],
        resource: &Bytes,
        note: &str,
        now: u64,
    ) -> io::Result<()> {
        let goes_on = self.segments.back().is_some_and(|NumberedSegment { segment, .. }| {
            segment.length() < FULL
                && segment.header.resource == *resource
                && segment.header.note == note
        });
        if self.file.is_none() || !goes_on {
            self.begin(resource, note, now)?;
        }
        let Self { segments, file, buffer, .. } = self;
        let (Some(last), Some(file)) = (segments.back_mut(), file) else { return Ok(()) };
        let result = last.segment.append(file, entries, buffer);
        buffer.shrink_to(FULL as usize);
        if result.is_err() {
            self.file = None; // the next entries are written to a new file
            self.remove_done();
        }
        result
    }

    /// Begins another segment. The previous one is made durable.
    fn begin(&mut self, resource: &Bytes, note: &str, now: u64) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        let number = self.number();
        let header = Header {
            signal: self.signal,
            resource: resource.clone(),
            note: note.to_owned(),
            created: now,
            marker: random::number().to_le_bytes(),
        };
        let (segment, file) = Segment::create(self.path_of(number), header)?;
        if let Err(error) = files::sync_directory(&self.directory) {
            segment.delete();
            return Err(error);
        }
        self.file = Some(Arc::new(file));
        self.remove_done();
        self.segments.push_back(NumberedSegment { number, is_own: true, segment });
        Ok(())
    }

    /// The file that is being written, to be made durable.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }

    /// Takes entries that are ready, the oldest first: up to `most` bytes, or one larger entry.
    pub(super) fn take(&mut self, most: usize, taken: &mut Vec<TakenEntry>) {
        let mut bytes: usize = taken.iter().map(|taken| taken.entry.size()).sum();
        for at in 0..self.segments.len() {
            if !self.is_readable(&self.segments[at]) {
                continue;
            }
            let Some(contents) = self.contents(at) else { continue };
            let NumberedSegment { number, segment, .. } = &mut self.segments[at];
            let slots: Vec<usize> = segment.ready_slots().collect();
            for slot in slots {
                let Some(entry) = segment.entry(slot, &contents) else {
                    let (from, to) = segment.bounds(slot);
                    let path = segment.path().to_owned();
                    self.notices.push(Notice { path, what: FileProblem::Damage(from, to) });
                    self.lost += segment.give_up(slot);
                    continue;
                };
                if bytes + entry.size() > most && !taken.is_empty() {
                    return;
                }
                bytes += entry.size();
                segment.set(slot, EntryState::Sent);
                let (position, resource) =
                    (LogPosition { number: *number, slot }, &segment.header.resource);
                taken.push(TakenEntry { position, resource: resource.clone(), entry });
            }
        }
    }

    /// The contents of a segment's file.
    fn contents(&mut self, at: usize) -> Option<Bytes> {
        let NumberedSegment { number, segment, .. } = &self.segments[at];
        if let Some((read, bytes)) = &self.read
            && read == number
            && bytes.len() as u64 >= segment.length()
        {
            return Some(bytes.clone());
        }
        self.read = None; // at most one segment is in memory
        match self.owner.read(segment.path(), MOST_SEGMENT) {
            Ok(bytes) => {
                let bytes = Bytes::from(bytes);
                self.read = Some((*number, bytes.clone()));
                Some(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.file_missing(at);
                None
            }
            Err(error) => {
                let path = segment.path().to_owned();
                self.unreadable.insert(path.clone());
                self.report(path, error);
                None
            }
        }
    }

    /// Gives up the entries of a segment whose file another program has deleted.
    fn file_missing(&mut self, at: usize) {
        if self.active() == Some(self.segments[at].number) {
            self.file = None; // entries written to it could not be read again
        }
        let segment = &mut self.segments[at].segment;
        let ready: Vec<_> = segment.ready_slots().collect();
        self.lost += ready.into_iter().map(|slot| segment.give_up(slot)).sum::<u64>();
        let path = segment.path().to_owned();
        if self.reported.insert(path.clone()) {
            self.notices.push(Notice { path, what: FileProblem::Missing });
        }
    }

    fn is_readable(&self, numbered: &NumberedSegment) -> bool {
        numbered.segment.ready() > 0 && !self.unreadable.contains(numbered.segment.path())
    }

    /// Returns and resets the number of spans lost to damage.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Forgets the last entries, which could not be made durable, and ends their file: after a
    /// failed sync its contents are unreliable.
    pub(super) fn forget_unsynced(&mut self, entries: usize) {
        let active = self.active();
        let numbered = self.segments.iter_mut().find(|numbered| Some(numbered.number) == active);
        if let Some(NumberedSegment { segment, .. }) = numbered {
            segment.forget_last(entries);
        }
        self.file = None;
        self.remove_done();
    }

    /// Sets the state of entries that were taken.
    pub(super) fn settle(&mut self, mut positions: Vec<LogPosition>, state: EntryState) {
        positions.sort_unstable();
        let active = self.active();
        for positions in positions.chunk_by(|one, next| one.number == next.number) {
            let Some(LogPosition { number, .. }) = positions.first() else { continue };
            let numbered = self.segments.iter_mut().find(|numbered| numbered.number == *number);
            let Some(NumberedSegment { segment, .. }) = numbered else { continue };
            let slots: Vec<_> = positions.iter().map(|position| position.slot).collect();
            slots.iter().for_each(|slot| segment.set(*slot, state));
            let is_deleted = segment.is_done() && active != Some(*number);
            if state == EntryState::Gone && !is_deleted {
                let _ = segment.acknowledge(&slots, self.owner); // at worst the entries are sent again
            }
        }
        self.remove_done();
    }

    /// Sets the state of entries of this process, identified by their sequences.
    pub(super) fn settle_sequences(&mut self, sequences: &[u64], state: EntryState) {
        let own = || self.segments.iter().rev().filter(|numbered| numbered.is_own);
        let position_of = |sequence: &u64| {
            own().find_map(|NumberedSegment { number, segment, .. }| {
                Some(LogPosition { number: *number, slot: segment.slot_of(*sequence)? })
            })
        };
        let positions: Vec<_> = sequences.iter().filter_map(position_of).collect();
        if !positions.is_empty() {
            self.settle(positions, state);
        }
    }

    /// Deletes the oldest segment, but never the one that is being written. Returns the number of
    /// lost spans.
    pub(super) fn drop_oldest(&mut self) -> Option<u64> {
        if self.segments.len() <= usize::from(self.file.is_some()) {
            return None;
        }
        let NumberedSegment { segment, .. } = self.segments.pop_front()?;
        let spans = segment.spans();
        segment.delete();
        Some(spans)
    }

    /// Ends and deletes the segment that is being written if all of its entries are gone. Lets
    /// unreadable files be tried again.
    pub(super) fn tidy(&mut self) {
        if self.segments.back().is_some_and(|last| last.segment.is_done()) {
            self.file = None;
            self.remove_done();
        }
        self.unreadable.clear();
        if !self.has_ready() {
            self.read = None;
        }
    }

    fn remove_done(&mut self) {
        let active = self.active();
        let is_done = |numbered: &NumberedSegment| {
            numbered.segment.is_done() && Some(numbered.number) != active
        };
        while let Some(at) = self.segments.iter().position(is_done) {
            if let Some(NumberedSegment { segment, .. }) = self.segments.remove(at) {
                segment.delete();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn finish(&mut self) {
        self.file = None;
    }

    /// Forgets segments whose files were deleted.
    pub(super) fn forget_missing(&mut self) {
        let active = self.active();
        self.segments
            .retain(|numbered| Some(numbered.number) == active || exists(numbered.segment.path()));
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|numbered| numbered.segment.length()).sum()
    }

    pub(super) fn spans(&self) -> u64 {
        self.segments.iter().map(|numbered| numbered.segment.spans()).sum()
    }

    pub(super) fn has_ready(&self) -> bool {
        self.segments.iter().any(|numbered| self.is_readable(numbered))
    }

    /// When the oldest segment with spans in it was begun, and when its last entry was written.
    pub(super) fn oldest(&self) -> Option<(u64, u64)> {
        let with_spans = self.segments.iter().find(|numbered| numbered.segment.spans() > 0)?;
        Some((with_spans.segment.header.created, with_spans.segment.newest()))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn path_of(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{}{number:010}.{}", self.prefix, segment::SEGMENT))
    }
}

/// The files in `directory` with this extension.
pub(super) fn files_in(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect())
}
