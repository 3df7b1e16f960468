//! The bytes of a segment. Foreign bytes: a file on disk may contain anything.
//!
//! ```text
//! segment  = header header entry*
//! header   = "TFOUTBOX" version:u16 signal:u16 resource-length:u32 note-length:u32 created:u64
//!            marker:8 crc:u32 resource note
//! entry    = marker:8 crc:u32 length:u32 sequence:u64 time:u64 spans:u32 scope-length:u32
//!            scope spans-bytes
//! ```
//!
//! Numbers are little-endian. The header is written twice, so that damage to one copy costs
//! nothing. Its checksum (CRC-32, as in gzip) covers the rest of the header; the checksum of an
//! entry covers the bytes that follow it. `marker` is random and different in every segment: it is
//! how the next entry after damage is found. A user who sends feedback doesn't know it, so a
//! comment can't contain bytes that would be read as an entry.

use bytes::Bytes;

use crate::otlp::Signal;
use crate::otlp::encoded_items::EncodedItems;

/// The first bytes of every segment.
const MAGIC: [u8; 8] = *b"TFOUTBOX";
/// The version of a segment with spans. A segment of a version that this program doesn't know is left alone.
const VERSION: u16 = 1;
/// The version of a segment that names its signal. The layout is the same, but a program that knows version 1
/// alone would send what is in it as spans.
const VERSION_WITH_SIGNAL: u16 = 2;
/// The number of the signal of log records.
const LOGS: u16 = 1;

/// Bytes of a header before its resource and note.
const HEADER: usize = 40;
/// Bytes of an entry before its scope and spans.
const HEAD: usize = 40;

/// Random bytes at the beginning of each entry of one segment.
pub(super) type Marker = [u8; 8];

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) signal: Signal,
    /// The fields `resource` and `schema_url` of a `ResourceSpans` or `ResourceLogs`, encoded.
    pub(super) resource: Bytes,
    /// The reason for the rejection of its spans; empty for spans to be sent.
    pub(super) note: String,
    /// Nanoseconds since the Unix epoch.
    pub(super) created: u64,
    pub(super) marker: Marker,
}

impl Header {
    /// The header as in the file: written twice.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut once = Vec::with_capacity(HEADER + self.resource.len() + self.note.len());
        once.extend_from_slice(&MAGIC);
        let (version, signal) = match self.signal {
            Signal::Traces => (VERSION, 0),
            Signal::Logs => (VERSION_WITH_SIGNAL, LOGS),
        };
        once.extend_from_slice(&version.to_le_bytes());
        once.extend_from_slice(&signal.to_le_bytes());
        once.extend_from_slice(&length(self.resource.len()));
        once.extend_from_slice(&length(self.note.len()));
        once.extend_from_slice(&self.created.to_le_bytes());
        once.extend_from_slice(&self.marker);
        let crc = checksum(&[&once, &self.resource, self.note.as_bytes()]);
        once.extend_from_slice(&crc.to_le_bytes());
        once.extend_from_slice(&self.resource);
        once.extend_from_slice(self.note.as_bytes());
        once.repeat(2)
    }

    /// The header of `segment`, and where its entries begin.
    ///
    /// # Errors
    ///
    /// Both copies are damaged, or the segment is of another version.
    pub(super) fn decode(segment: &Bytes) -> Result<(Self, usize), HeaderError> {
        let first = Self::decode_at(segment, 0);
        if let Ok((header, end)) = first {
            return Ok((header, 2 * end));
        }
        // The length of the damaged copy is unknown: the second copy is found by its first bytes.
        let starts = find_all(segment, &MAGIC).filter(|start| *start > 0).take(16);
        for start in starts {
            if let Ok((header, end)) = Self::decode_at(segment, start) {
                return Ok((header, end));
            }
        }
        first.map(|(header, end)| (header, 2 * end))
    }

    fn decode_at(segment: &Bytes, start: usize) -> Result<(Self, usize), HeaderError> {
        let fixed = segment.get(start..start + HEADER).ok_or(HeaderError::Damaged)?;
        if fixed[..8] != MAGIC {
            return Err(HeaderError::Damaged);
        }
        let (resource_length, note_length) = (usize_at(fixed, 12), usize_at(fixed, 16));
        let resource_at = start + HEADER;
        let note_at = resource_at.checked_add(resource_length).ok_or(HeaderError::Damaged)?;
        let end = note_at.checked_add(note_length).ok_or(HeaderError::Damaged)?;
        let variable = segment.get(resource_at..end).ok_or(HeaderError::Damaged)?;
        if checksum(&[&fixed[..HEADER - 4], variable]) != u32_at(fixed, HEADER - 4) {
            return Err(HeaderError::Damaged);
        }
        let version = u16::from_le_bytes([fixed[8], fixed[9]]);
        let signal = match (version, u16::from_le_bytes([fixed[10], fixed[11]])) {
            (VERSION, _) => Signal::Traces,
            (VERSION_WITH_SIGNAL, LOGS) => Signal::Logs,
            (VERSION_WITH_SIGNAL, signal) => return Err(HeaderError::Signal(signal)),
            _ => return Err(HeaderError::Version(version)),
        };
        let header = Self {
            signal,
            // Copied: a slice of `segment` would keep all of it in memory.
            resource: Bytes::copy_from_slice(&segment[resource_at..note_at]),
            note: String::from_utf8_lossy(&segment[note_at..end]).into_owned(),
            created: u64_at(fixed, 20),
            marker: marker_at(fixed, 28),
        };
        Ok((header, end))
    }
}

/// Why a segment can't be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("both copies of its header are damaged")]
    Damaged,
    #[error("it has version {0}, and this program reads versions 1 and 2: let a newer one send it")]
    Version(u16),
    #[error("it has signal {0}, which this program doesn't know: let a newer one send it")]
    Signal(u16),
}

/// Encoded spans, or log records, of one scope, with their metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    /// The number of the entry in the journal of the process that wrote it; 0 without a journal.
    pub(super) sequence: u64,
    /// When it was written, in nanoseconds since the Unix epoch.
    pub(super) time: u64,
    /// How many spans there are.
    pub(super) spans: u32,
    /// The fields of a `ScopeSpans` or `ScopeLogs` beside its items, encoded.
    pub(super) scope: Bytes,
    /// The items, encoded.
    pub(super) encoded: Bytes,
}

impl SegmentEntry {
    /// An entry without a sequence, which is identified only by its position.
    pub(super) fn of_encoded(batch: &EncodedItems, time: u64) -> Self {
        let EncodedItems { scope, encoded, items, .. } = batch;
        let spans = u32::try_from(*items).unwrap_or(u32::MAX);
        Self { sequence: 0, time, spans, scope: scope.clone(), encoded: encoded.clone() }
    }

    pub(super) fn into_encoded(
        self,
        signal: Signal,
        resource: Bytes,
        is_feedback: bool,
    ) -> EncodedItems {
        let Self { scope, encoded, spans, .. } = self;
        let items = spans as usize;
        EncodedItems {
            signal,
            resource,
            scope,
            encoded,
            items,
            feedback: if is_feedback { items } else { 0 },
        }
    }

    /// The number of bytes in a file.
    pub(super) fn size(&self) -> usize {
        HEAD + self.scope.len() + self.encoded.len()
    }

    /// Appends the entry. An entry of 4 GiB or more, which does not occur, is left out.
    pub(super) fn append(&self, marker: Marker, out: &mut Vec<u8>) {
        let Ok(whole) = u32::try_from(self.scope.len() + self.encoded.len()) else { return };
        let start = out.len();
        out.extend_from_slice(&marker);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&whole.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.spans.to_le_bytes());
        out.extend_from_slice(&length(self.scope.len()));
        out.extend_from_slice(&self.scope);
        out.extend_from_slice(&self.encoded);
        let crc = checksum(&[&out[start + 12..]]);
        out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    }

    /// The entry at offset `at`, and the offset of the next one. `None` if there is none.
    fn decode(segment: &Bytes, at: usize, marker: Marker) -> Option<(Self, usize)> {
        let head = segment.get(at..at.checked_add(HEAD)?)?;
        if head[..8] != marker {
            return None;
        }
        let (whole, scope_length) = (usize_at(head, 12), usize_at(head, 36));
        let scope_at = at + HEAD;
        let end = scope_at.checked_add(whole)?;
        let covered = segment.get(at + 12..end)?;
        if scope_length > whole || checksum(&[covered]) != u32_at(head, 8) {
            return None;
        }
        let entry = Self {
            sequence: u64_at(head, 16),
            time: u64_at(head, 24),
            spans: u32_at(head, 32),
            scope: segment.slice(scope_at..scope_at + scope_length),
            encoded: segment.slice(scope_at + scope_length..end),
        };
        Some((entry, end))
    }
}

/// A part of a segment after its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SegmentPart {
    /// The offset of an entry, and the entry.
    Entry(usize, SegmentEntry),
    /// The start and end of bytes that are not an entry.
    Damage(usize, usize),
}

/// Reads the entries of `segment` from offset `at` on. Damage costs only the entries that it
/// touches.
pub(super) fn entries(
    segment: &Bytes,
    mut at: usize,
    marker: Marker,
) -> impl Iterator<Item = SegmentPart> + '_ {
    std::iter::from_fn(move || {
        if at >= segment.len() {
            return None;
        }
        if let Some((entry, end)) = SegmentEntry::decode(segment, at, marker) {
            let start = std::mem::replace(&mut at, end);
            return Some(SegmentPart::Entry(start, entry));
        }
        let start = at;
        let next = find_all(segment.get(start + 1..).unwrap_or_default(), &marker)
            .map(|offset| start + 1 + offset)
            .find(|next| SegmentEntry::decode(segment, *next, marker).is_some());
        at = next.unwrap_or(segment.len());
        Some(SegmentPart::Damage(start, at))
    })
}

/// Bytes of an [acknowledgement](Acknowledged).
const ACKNOWLEDGED: usize = 20;

/// Entries that need not be sent any more: those with offsets from `first` to `last` in the
/// segment. Damage to other entries doesn't change an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Acknowledged {
    pub(super) fn append(self, marker: Marker, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
        let crc = checksum(&[&out[start..], &marker]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// The acknowledgements in `file`. Damaged ones are skipped.
    pub(super) fn all(file: &[u8], marker: Marker) -> impl Iterator<Item = Self> + '_ {
        file.chunks_exact(ACKNOWLEDGED)
            .filter(move |cell| checksum(&[&cell[..16], &marker]) == u32_at(cell, 16))
            .map(|cell| Self { first: u64_at(cell, 0), last: u64_at(cell, 8) })
    }
}

fn find_all<'a>(bytes: &'a [u8], what: &'a [u8; 8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(8).enumerate().filter(move |(_, window)| *window == what).map(|(at, _)| at)
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// A length as in a file. A longer text than `u32` can count reads as damage.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

fn usize_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32_at(bytes, at)).unwrap_or(usize::MAX)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

fn marker_at(bytes: &[u8], at: usize) -> Marker {
    bytes[at..].first_chunk().copied().unwrap_or_default()
}
