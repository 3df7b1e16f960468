//! One segment: a file of entries, and what is known of each.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{self, Acknowledged, Entry, Found, Header};

/// How the file of a segment ends, and that of what was acknowledged of it.
pub(super) const SEGMENT: &str = "segment";
pub(super) const ACKNOWLEDGED: &str = "acks";

/// A segment, by what stands in its file.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    pub(super) header: Header,
    /// Bytes of the file, all of them written whole.
    length: u64,
    slots: Vec<Slot>,
    /// Slots before this one are neither ready nor held.
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
struct Slot {
    sequence: u64,
    offset: u32,
    spans: u32,
    state: EntryState,
}

/// What is to become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryState {
    /// It is on its way by itself: it is sent from here only if that fails.
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
            let _ = std::fs::remove_file(&path); // of no use to anyone
            return Err(error);
        }
        Ok((Self::blank(path, header, encoded.len() as u64), file))
    }

    /// Reads the segment in `path`, of which all that wasn't acknowledged is ready to be sent.
    /// `damaged` is told of what can't be read: from which byte to which.
    pub(super) fn read(path: PathBuf, mut damaged: impl FnMut(usize, usize)) -> io::Result<Self> {
        let bytes = Bytes::from(std::fs::read(&path)?);
        let (header, start) = Header::decode(&bytes).map_err(io::Error::other)?;
        let marker = header.marker;
        let mut segment = Self::blank(path, header, bytes.len() as u64);
        for found in format::entries(&bytes, start, marker) {
            match found {
                Found::Entry(offset, entry) => {
                    segment.note(offset as u64, &entry, EntryState::Ready)
                }
                Found::Damage(from, to) => damaged(from, to),
            }
        }
        let acknowledged = std::fs::read(segment.acknowledged_path()).unwrap_or_default();
        for Acknowledged { first, last } in Acknowledged::all(&acknowledged, marker) {
            let from = segment.slots.partition_point(|slot| u64::from(slot.offset) < first);
            let to = segment.slots.partition_point(|slot| u64::from(slot.offset) <= last);
            (from..to).for_each(|slot| segment.set(slot, EntryState::Gone));
        }
        Ok(segment)
    }

    fn blank(path: PathBuf, header: Header, length: u64) -> Self {
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

    /// Writes `entries` behind the others. If that fails the file is as it was before.
    pub(super) fn append(
        &mut self,
        mut file: &File,
        entries: &[(Entry, EntryState)],
        room: &mut Vec<u8>,
    ) -> io::Result<()> {
        room.clear();
        entries.iter().for_each(|(entry, _)| entry.append(self.header.marker, room));
        if let Err(error) = file.write_all(room) {
            // What was written of it would be found damaged, but need not be found.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        let mut offset = self.length;
        for (entry, state) in entries {
            self.note(offset, entry, *state);
            offset += entry.size() as u64;
        }
        self.length = offset;
        Ok(())
    }

    fn note(&mut self, offset: u64, entry: &Entry, state: EntryState) {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX); // segments are much smaller
        let spans = entry.spans;
        self.slots.push(Slot { sequence: entry.sequence, offset, spans, state });
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

    /// Whether no entry is left that anyone waits for.
    pub(super) fn is_done(&self) -> bool {
        self.first_open == self.slots.len()
    }

    /// The numbers of the slots that are ready, from the oldest on.
    pub(super) fn ready_slots(&self) -> impl Iterator<Item = usize> + '_ {
        let open = self.slots.iter().enumerate().skip(self.first_open);
        open.filter(|(_, slot)| slot.state == EntryState::Ready).map(|(number, _)| number)
    }

    /// The entry of a slot, from the bytes of the file. `None` if it can't be read any more.
    pub(super) fn entry(&self, slot: usize, bytes: &Bytes) -> Option<Entry> {
        let offset = self.slots.get(slot)?.offset as usize;
        match format::entries(bytes, offset, self.header.marker).next()? {
            Found::Entry(_, entry) => Some(entry),
            Found::Damage(..) => None,
        }
    }

    fn offset(&self, slot: usize) -> u64 {
        self.slots.get(slot).map_or(self.length, |slot| slot.offset.into())
    }

    /// From where to where a slot's entry stands, and what can't be read behind it.
    pub(super) fn bounds(&self, slot: usize) -> (usize, usize) {
        (self.offset(slot) as usize, self.offset(slot + 1) as usize)
    }

    /// The slot that holds number `sequence` of the process that wrote the segment.
    pub(super) fn slot_of(&self, sequence: u64) -> Option<usize> {
        self.slots.binary_search_by_key(&sequence, |slot| slot.sequence).ok()
    }

    /// Says what is to become of an entry. What is gone stays gone.
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

    /// An entry can't be read any more. Returns how many spans are lost by that.
    pub(super) fn give_up(&mut self, slot: usize) -> u64 {
        let before = self.spans;
        self.set(slot, EntryState::Gone);
        before - self.spans
    }

    /// The last entries are not here, whatever the file says.
    pub(super) fn forget_last(&mut self, entries: usize) {
        let from = self.slots.len().saturating_sub(entries);
        (from..self.slots.len()).for_each(|slot| self.set(slot, EntryState::Gone));
        self.slots.truncate(from);
        self.first_open = self.first_open.min(from);
    }

    /// Writes down that these slots, in rising order, are gone. Where that fails they may be sent
    /// again by the next process, which folding makes harmless.
    pub(super) fn acknowledge(&mut self, slots: &[usize]) -> io::Result<()> {
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
            let options = private_file().append(true).create(true).open(self.acknowledged_path());
            self.acknowledged = Some(options?);
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
        // What stays is empty of news, and only sent once more.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.acknowledged_path());
    }

    /// Moves the files to `path`.
    pub(super) fn moved(mut self, path: PathBuf) -> io::Result<Self> {
        let acknowledged = self.acknowledged_path();
        if acknowledged.exists() {
            std::fs::rename(acknowledged, path.with_extension(ACKNOWLEDGED))?;
        }
        std::fs::rename(&self.path, &path)?;
        self.path = path;
        Ok(self)
    }
}

/// A file that only its owner may read: it holds personal data.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a directory that only its owner may enter, and those above it where they are missing.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes the names in a directory durable, where that can be asked for.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
