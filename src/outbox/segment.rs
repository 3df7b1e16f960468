//! One segment: a file of entries, and the state of each entry.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::files::{MOST_ACKNOWLEDGED, MOST_SEGMENT, Owner, exists, private_file};
use super::format::{self, Acknowledged, Header, SegmentEntry, SegmentPart};

/// The extensions of the file of a segment, and of the file of its acknowledgements.
pub(super) const SEGMENT: &str = "segment";
pub(super) const ACKNOWLEDGED: &str = "acks";

/// A segment: the index of its file.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    pub(super) header: Header,
    /// The length of the file in bytes, without an append that has failed.
    length: u64,
    slots: Vec<EntrySlot>,
    /// The entries of all slots before this one are gone.
    first_open: usize,
    ready: usize,
    /// Spans of entries that aren't gone.
    spans: u64,
    /// When the last entry was written.
    newest: u64,
    acknowledged: Option<File>,
}

/// An entry of a segment.
#[derive(Clone, Copy, Debug)]
struct EntrySlot {
    sequence: u64,
    offset: u32,
    spans: u32,
    state: EntryState,
}

/// The state of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryState {
    /// Its feedback is delivered without the outbox. The entry is sent only if that fails.
    Held,
    /// It is to be sent.
    Ready,
    /// It is being sent.
    Sent,
    /// It has arrived, or was given up.
    Gone,
}

impl Segment {
    /// Makes the file of a new segment.
    pub(super) fn create(path: PathBuf, header: Header) -> io::Result<(Self, File)> {
        let mut file = private_file().append(true).create_new(true).open(&path)?;
        let encoded = header.encode();
        if let Err(error) = file.write_all(&encoded) {
            let _ = std::fs::remove_file(&path); // an incomplete header is of no use
            return Err(error);
        }
        Ok((Self::empty(path, header, encoded.len() as u64), file))
    }

    /// Reads the segment in `path`. All entries that weren't acknowledged are ready to be sent.
    /// `damaged` is called with the start and end of bytes that can't be read.
    pub(super) fn read(
        path: PathBuf,
        owner: Owner,
        mut damaged: impl FnMut(usize, usize),
    ) -> io::Result<Self> {
        let bytes = Bytes::from(owner.read(&path, MOST_SEGMENT)?);
        let (header, start) = Header::decode(&bytes).map_err(io::Error::other)?;
        let marker = header.marker;
        let mut segment = Self::empty(path, header, bytes.len() as u64);
        for found in format::entries(&bytes, start, marker) {
            match found {
                SegmentPart::Entry(offset, entry) => {
                    segment.index(offset as u64, &entry, EntryState::Ready)
                }
                SegmentPart::Damage(from, to) => damaged(from, to),
            }
        }
        // Without its acknowledgements, entries are at worst sent again.
        let acknowledged = owner.read(&segment.acknowledged_path(), MOST_ACKNOWLEDGED);
        let acknowledged = acknowledged.unwrap_or_default();
        for Acknowledged { first, last } in Acknowledged::all(&acknowledged, marker) {
            let from = segment.slots.partition_point(|slot| u64::from(slot.offset) < first);
            let to = segment.slots.partition_point(|slot| u64::from(slot.offset) <= last);
            (from..to).for_each(|slot| segment.set(slot, EntryState::Gone));
        }
        Ok(segment)
    }

    fn empty(path: PathBuf, header: Header, length: u64) -> Self {
        let newest = header.created;
        Self {
            path,
            header,
            length,
            slots: Vec::new(),
            first_open: 0,
            ready: 0,
            spans: 0,
            newest,
            acknowledged: None,
        }
    }

    /// Writes `entries` after the others. If that fails, the file is as it was before.
    pub(super) fn append(
        &mut self,
        mut file: &File,
        entries: &[(SegmentEntry, EntryState)],
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        buffer.clear();
        entries.iter().for_each(|(entry, _)| entry.append(self.header.marker, buffer));
        if let Err(error) = file.write_all(buffer) {
            // A partly written entry would be reported as damage: cuts it off.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        let mut offset = self.length;
        for (entry, state) in entries {
            self.index(offset, entry, *state);
            offset += entry.size() as u64;
        }
        self.length = offset;
        Ok(())
    }

    fn index(&mut self, offset: u64, entry: &SegmentEntry, state: EntryState) {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX); // segments are much smaller
        let spans = entry.spans;
        self.slots.push(EntrySlot { sequence: entry.sequence, offset, spans, state });
        self.spans += u64::from(spans);
        self.ready += usize::from(state == EntryState::Ready);
        self.newest = self.newest.max(entry.time);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Spans that aren't gone.
    pub(super) fn spans(&self) -> u64 {
        self.spans
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Entries that are ready to be sent.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// Whether all entries are gone.
    pub(super) fn is_done(&self) -> bool {
        self.first_open == self.slots.len()
    }

    /// The numbers of the slots that are ready, from the oldest on.
    pub(super) fn ready_slots(&self) -> impl Iterator<Item = usize> + '_ {
        let open = self.slots.iter().enumerate().skip(self.first_open);
        open.filter(|(_, slot)| slot.state == EntryState::Ready).map(|(number, _)| number)
    }

    /// The entry of a slot, from the bytes of the file. `None` if it can't be read any more.
    pub(super) fn entry(&self, slot: usize, bytes: &Bytes) -> Option<SegmentEntry> {
        let offset = self.slots.get(slot)?.offset as usize;
        match format::entries(bytes, offset, self.header.marker).next()? {
            SegmentPart::Entry(_, entry) => Some(entry),
            SegmentPart::Damage(..) => None,
        }
    }

    fn offset(&self, slot: usize) -> u64 {
        self.slots.get(slot).map_or(self.length, |slot| slot.offset.into())
    }

    /// The start and end of a slot's entry, and of damaged bytes after it.
    pub(super) fn bounds(&self, slot: usize) -> (usize, usize) {
        (self.offset(slot) as usize, self.offset(slot + 1) as usize)
    }

    /// The slot of the entry with this sequence in the process that wrote the segment.
    pub(super) fn slot_of(&self, sequence: u64) -> Option<usize> {
        self.slots.binary_search_by_key(&sequence, |slot| slot.sequence).ok()
    }

    /// Sets the state of an entry. An entry that is gone stays gone.
    pub(super) fn set(&mut self, slot: usize, state: EntryState) {
        let Some(known) = self.slots.get_mut(slot) else { return };
        if known.state == EntryState::Gone {
            return;
        }
        self.ready -= usize::from(known.state == EntryState::Ready);
        self.ready += usize::from(state == EntryState::Ready);
        known.state = state;
        if state == EntryState::Gone {
            self.spans -= u64::from(known.spans);
            while self.slots.get(self.first_open).is_some_and(|slot| slot.state == EntryState::Gone)
            {
                self.first_open += 1;
            }
        }
    }

    /// Gives up an entry that can't be read any more. Returns the number of lost spans.
    pub(super) fn give_up(&mut self, slot: usize) -> u64 {
        let before = self.spans;
        self.set(slot, EntryState::Gone);
        before - self.spans
    }

    /// Removes the last entries from the index, whether or not the file contains them.
    pub(super) fn forget_last(&mut self, entries: usize) {
        let from = self.slots.len().saturating_sub(entries);
        (from..self.slots.len()).for_each(|slot| self.set(slot, EntryState::Gone));
        self.slots.truncate(from);
        self.first_open = self.first_open.min(from);
    }

    /// Writes to the file of acknowledgements that these slots, in rising order, are gone. If that
    /// fails, the next process may send them again, which folding makes harmless.
    pub(super) fn acknowledge(&mut self, slots: &[usize], owner: Owner) -> io::Result<()> {
        let mut cells = Vec::new();
        for run in slots.chunk_by(|one, next| one + 1 == *next) {
            if let [first, ..] = run
                && let [.., last] = run
            {
                let (first, last) = (self.offset(*first), self.offset(*last));
                Acknowledged { first, last }.append(self.header.marker, &mut cells);
            }
        }
        if self.acknowledged.is_none() {
            self.acknowledged = Some(owner.append(&self.acknowledged_path(), MOST_ACKNOWLEDGED)?);
        }
        match &mut self.acknowledged {
            Some(file) => file.write_all(&cells),
            None => Ok(()),
        }
    }

    fn acknowledged_path(&self) -> PathBuf {
        self.path.with_extension(ACKNOWLEDGED)
    }

    /// Deletes the files.
    pub(super) fn delete(self) {
        // A file that can't be deleted is at worst sent once more.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.acknowledged_path());
    }

    /// Moves the files to `path`.
    pub(super) fn moved(mut self, path: PathBuf) -> io::Result<Self> {
        let acknowledged = self.acknowledged_path();
        if exists(&acknowledged) {
            std::fs::rename(acknowledged, path.with_extension(ACKNOWLEDGED))?;
        }
        std::fs::rename(&self.path, &path)?;
        self.path = path;
        Ok(self)
    }
}
