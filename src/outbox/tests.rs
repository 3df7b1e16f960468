use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;

use super::files::{self, Owner};
use super::format::{Acknowledged, Header, HeaderError, SegmentPart, entries};
use super::segment::Segment;
use super::segment_log::{SegmentLog, TakenEntry};
use super::*;

/// The user of this process.
fn us() -> Owner {
    let temp = TempDirectory::new();
    files::private_directory(&temp.0).unwrap();
    Owner::of_created(&temp.0).unwrap()
}

/// A directory that is gone with the test.
struct TempDirectory(PathBuf);

impl TempDirectory {
    fn new() -> Self {
        Self(
            std::env::temp_dir()
                .join(format!("tracing-feedback-unit-{:016x}", crate::random::number())),
        )
    }
}

impl std::ops::Drop for TempDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn header() -> Header {
    let (resource, note) = (Bytes::from_static(b"resource"), "note".to_owned());
    let signal = Signal::Traces;
    Header { signal, resource, note, created: 7, marker: *b"\x01marker\xff" }
}

fn some(sequence: u64, text: &str) -> SegmentEntry {
    let (scope, encoded) = (Bytes::from_static(b"scope"), Bytes::copy_from_slice(text.as_bytes()));
    SegmentEntry { sequence, time: 1_000 + sequence, spans: 1, scope, encoded }
}

fn segment_of(entries: &[SegmentEntry]) -> Vec<u8> {
    let header = header();
    let mut bytes = header.encode();
    entries.iter().for_each(|entry| entry.append(header.marker, &mut bytes));
    bytes
}

fn disk_full() -> PersistError {
    PersistError::of_write(&io::ErrorKind::StorageFull.into())
}

/// What can still be read of a segment.
fn read(bytes: &[u8]) -> Vec<SegmentEntry> {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok((header, start)) = Header::decode(&bytes) else { return Vec::new() };
    let found = entries(&bytes, start, header.marker);
    found
        .filter_map(|found| match found {
            SegmentPart::Entry(_, entry) => Some(entry),
            SegmentPart::Damage(..) => None,
        })
        .collect()
}

#[test]
fn either_copy_of_a_header_will_do() {
    let (header, entry) = (header(), some(3, "spans"));
    let whole = segment_of(std::slice::from_ref(&entry));
    let length = header.encode().len() / 2;
    for damaged in [0, 9, 20, length - 1, length, length + 9, 2 * length - 1] {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 0x40;
        let bytes = Bytes::from(bytes);
        let (read, start) = Header::decode(&bytes).unwrap();
        assert_eq!((read, start), (header.clone(), 2 * length), "{damaged}");
        let found: Vec<_> = entries(&bytes, start, header.marker).collect();
        assert_eq!(found, [SegmentPart::Entry(start, entry.clone())]);
    }
    let mut bytes = whole;
    (bytes[9], bytes[length + 9]) = (9, 9);
    assert_eq!(Header::decode(&Bytes::from(bytes)), Err(HeaderError::Damaged));
}

#[test]
fn a_segment_of_another_version_is_left_alone() {
    // As a later version would write it, its checksums included.
    let later = |version: u8, signal: u8| {
        let mut later = header().encode();
        later.truncate(later.len() / 2);
        (later[8], later[10]) = (version, signal);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&later[..36]);
        crc.update(&later[40..]);
        later[36..40].copy_from_slice(&crc.finalize().to_le_bytes());
        Header::decode(&Bytes::from(later)).map(|(header, _)| header.signal)
    };
    assert_eq!(later(3, 0), Err(HeaderError::Version(3)));
    assert_eq!(later(2, 9), Err(HeaderError::Signal(9)));
    assert_eq!(later(2, 1), Ok(Signal::Logs));
}

#[test]
fn a_segment_of_log_records_has_a_version_that_older_programs_leave_alone() {
    let logs = Header { signal: Signal::Logs, ..header() }.encode();
    assert_eq!(logs[..12], *b"TFOUTBOX\x02\0\x01\0");
    assert_eq!(header().encode()[..12], *b"TFOUTBOX\x01\0\0\0");
}

#[test]
fn an_acknowledgement_that_was_cut_off_or_damaged_acknowledges_nothing() {
    let (marker, mut file) = (header().marker, Vec::new());
    let cells = [(10, 20), (30, 30), (40, 50)].map(|(first, last)| Acknowledged { first, last });
    cells.iter().for_each(|cell| cell.append(marker, &mut file));
    assert_eq!(Acknowledged::all(&file, marker).collect::<Vec<_>>(), cells);
    file[25] ^= 1;
    file.truncate(file.len() - 1);
    assert_eq!(Acknowledged::all(&file, marker).collect::<Vec<_>>(), [cells[0]]);
    assert_eq!(Acknowledged::all(&file, *b"another!").count(), 0);
}

proptest! {
    #[test]
    fn damage_costs_the_entries_it_touches_and_no_others(
        texts in vec("[a-z]{0,40}", 1..8),
        damaged in vec((any::<prop::sample::Index>(), 1_u8..), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let known: Vec<_> = (0..).zip(&texts).map(|(at, text)| some(at, text)).collect();
        let whole = segment_of(&known);
        let start = header().encode().len();
        let mut bytes = whole.clone();
        for (at, bits) in &damaged {
            bytes[start + at.index(whole.len() - start)] ^= bits;
        }
        if let Some(cut) = cut {
            bytes.truncate(start + cut.index(whole.len() - start));
        }
        let mut from = start;
        let untouched = known.iter().filter(|entry| {
            let to = from + entry.size();
            let range = std::mem::replace(&mut from, to)..to;
            bytes.get(range.clone()) == Some(&whole[range])
        });
        let untouched: Vec<_> = untouched.cloned().collect();
        prop_assert_eq!(read(&bytes), untouched);
    }

    #[test]
    fn whatever_lies_in_a_file_can_be_read_without_harm(bytes in vec(any::<u8>(), 0..300)) {
        read(&bytes);
        let mut with_header = header().encode();
        with_header.extend_from_slice(&header().marker);
        with_header.extend_from_slice(&bytes);
        prop_assert_eq!(read(&with_header).len(), 0);
        let _ = Acknowledged::all(&bytes, header().marker).count();
    }
}

#[test]
fn what_looks_like_an_entry_inside_of_one_is_not_taken_for_one() {
    // A comment that contains a whole segment. Its author doesn't know the marker of the real one.
    let forged = segment_of(&[some(9, "forged")]);
    let mut other = header();
    other.marker = *b"unknown!";
    let mut bytes = other.encode();
    let start = bytes.len();
    let encoded = Bytes::from(forged);
    SegmentEntry { encoded, ..some(1, "") }.append(other.marker, &mut bytes);
    some(2, "behind").append(other.marker, &mut bytes);
    bytes[start + 20] ^= 1; // its own entry is damaged
    assert_eq!(read(&bytes), [some(2, "behind")]);
}

fn log(temp: &TempDirectory) -> SegmentLog {
    SegmentLog::create(temp.0.join("log"), Signal::Traces, us(), String::new()).unwrap()
}

const RESOURCE: Bytes = Bytes::from_static(b"resource");

fn ready(entries: impl IntoIterator<Item = SegmentEntry>) -> Vec<(SegmentEntry, EntryState)> {
    entries.into_iter().map(|entry| (entry, EntryState::Ready)).collect()
}

fn take(log: &mut SegmentLog, most: usize) -> (Vec<segment_log::LogPosition>, Vec<String>) {
    let mut taken = Vec::new();
    log.take(most, &mut taken);
    let text = |taken: &TakenEntry| String::from_utf8(taken.entry.encoded.to_vec()).unwrap();
    (taken.iter().map(|taken| taken.position).collect(), taken.iter().map(text).collect())
}

#[test]
fn entries_come_out_in_the_order_they_went_in_until_they_are_acknowledged() {
    let temp = TempDirectory::new();
    let mut log = log(&temp);
    let texts: Vec<_> = (0..10).map(|at| format!("text {at}")).collect();
    for (at, text) in (0..).zip(&texts) {
        log.append(&ready([some(at, text)]), &RESOURCE, "", 5).unwrap();
    }
    let size = some(0, "text 0").size();
    let (first, got) = take(&mut log, 3 * size);
    assert_eq!(got, texts[..3]);
    let (second, got) = take(&mut log, 3 * size);
    assert_eq!(got, texts[3..6]);
    log.settle(second, EntryState::Ready); // could not be sent
    log.settle(first, EntryState::Gone);
    let (rest, got) = take(&mut log, usize::MAX);
    assert_eq!(got, texts[3..]);
    assert_eq!(log.spans(), 7);
    log.settle(rest, EntryState::Gone);
    assert_eq!((log.spans(), log.has_ready()), (0, false));
    log.tidy();
    assert_eq!(log.bytes(), 0);
    assert_eq!(std::fs::read_dir(temp.0.join("log")).unwrap().count(), 0);
}

#[test]
fn an_entry_that_is_too_large_for_a_batch_makes_one_of_its_own() {
    let temp = TempDirectory::new();
    let mut log = log(&temp);
    log.append(&ready([some(0, "small"), some(1, "large")]), &RESOURCE, "", 5).unwrap();
    assert_eq!(take(&mut log, 1).1, ["small"]);
    assert_eq!(take(&mut log, 1).1, ["large"]);
    assert_eq!(take(&mut log, 1).1, [""; 0]);
}

#[test]
fn acknowledged_entries_are_not_sent_by_the_process_that_adopts_the_line() {
    let temp = TempDirectory::new();
    let path = temp.0.join("log");
    {
        let mut log = log(&temp);
        let entries = (0..6).map(|at| some(at, &at.to_string()));
        log.append(&ready(entries), &RESOURCE, "", 5).unwrap();
        let (positions, _) = take(&mut log, usize::MAX);
        log.settle(vec![positions[0], positions[1], positions[4]], EntryState::Gone);
    }
    let mut successor =
        SegmentLog::create(temp.0.join("successor"), Signal::Traces, us(), String::new()).unwrap();
    successor.append(&ready([some(0, "own")]), &RESOURCE, "", 9).unwrap();
    successor.adopt(&path).unwrap();
    assert_eq!(take(&mut successor, usize::MAX).1, ["2", "3", "5", "own"]); // the oldest first
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    // Later entries are written after its own.
    successor.append(&ready([some(1, "more")]), &RESOURCE, "", 9).unwrap();
    assert_eq!(take(&mut successor, usize::MAX).1, ["more"]);
    assert_eq!(successor.notices.len(), 0);
}

#[test]
fn an_own_entry_is_found_by_its_sequence_and_one_of_another_process_is_not() {
    let temp = TempDirectory::new();
    {
        let mut log = log(&temp);
        log.append(&[(some(0, "of another"), EntryState::Held)], &RESOURCE, "", 5).unwrap();
    }
    let mut successor =
        SegmentLog::create(temp.0.join("successor"), Signal::Traces, us(), String::new()).unwrap();
    let held = [(some(0, "own"), EntryState::Held), (some(1, "left"), EntryState::Held)];
    successor.append(&held, &RESOURCE, "", 9).unwrap();
    successor.adopt(&temp.0.join("log")).unwrap();
    assert_eq!(take(&mut successor, usize::MAX).1, ["of another"]); // its finalizer ended with the process
    successor.settle_sequences(&[0], EntryState::Gone);
    successor.settle_sequences(&[1], EntryState::Ready);
    assert_eq!(take(&mut successor, usize::MAX).1, ["left"]);
}

#[test]
fn a_damaged_segment_is_named_with_the_offset() {
    let temp = TempDirectory::new();
    {
        let entries = ["first", "second", "third"].map(|text| some(0, text));
        log(&temp).append(&ready(entries), &RESOURCE, "", 5).unwrap();
    }
    let path = temp.0.join("log/0000000001.segment");
    let mut bytes = std::fs::read(&path).unwrap();
    let second = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[second] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(temp.0.join("log/0000000002.segment"), "no segment").unwrap();

    let mut successor =
        SegmentLog::create(temp.0.join("successor"), Signal::Traces, us(), String::new()).unwrap();
    successor.adopt(&temp.0.join("log")).unwrap();
    assert_eq!(take(&mut successor, usize::MAX).1, ["first", "third"]);
    let [Notice { path: damaged, what: FileProblem::Damage(from, to) }, other] =
        &successor.notices[..]
    else {
        panic!("{:?}", successor.notices)
    };
    let size = some(0, "second").size();
    assert_eq!((damaged, *from + size - 6, *to - *from), (&path, second, size));
    assert!(matches!(other.what, FileProblem::Unreadable(_)));
    assert!(other.path.exists()); // it is left for a newer version, or for repair
}

#[test]
fn an_entry_damaged_while_it_waits_is_passed_over() {
    let temp = TempDirectory::new();
    let mut log = log(&temp);
    let entries = ["first", "second", "third"].map(|text| some(0, text));
    log.append(&ready(entries), &RESOURCE, "", 5).unwrap();
    let path = temp.0.join("log/0000000001.segment");
    let mut bytes = std::fs::read(&path).unwrap();
    let second = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[second] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(take(&mut log, usize::MAX).1, ["first", "third"]);
    assert!(matches!(log.notices[..], [Notice { what: FileProblem::Damage(..), .. }]));
    assert_eq!(take(&mut log, usize::MAX).1, [""; 0]);
}

#[test]
fn a_line_goes_on_in_another_segment_when_one_is_full() {
    let temp = TempDirectory::new();
    let mut log = log(&temp);
    let megabyte = "x".repeat(1024 * 1024);
    for at in 0..9 {
        log.append(&ready([some(at, &megabyte)]), &RESOURCE, "", 5).unwrap();
    }
    let segments = || std::fs::read_dir(temp.0.join("log")).unwrap().count();
    assert_eq!(segments(), 3);
    let size = some(0, &megabyte).size();
    let (positions, _) = take(&mut log, 4 * size);
    log.settle(positions, EntryState::Gone);
    let (positions, _) = take(&mut log, size);
    assert_eq!(positions.len(), 1);
    log.settle(positions, EntryState::Gone);
    assert_eq!(segments(), 2 + 1); // two, and what was acknowledged of one of them
    assert_eq!(log.drop_oldest(), Some(3)); // of four
    assert_eq!(log.drop_oldest(), None); // never the one that is written
}

#[test]
fn entries_that_could_not_be_written_are_not_there() {
    let temp = TempDirectory::new();
    let mut log = log(&temp);
    log.append(&ready([some(0, "first")]), &RESOURCE, "", 5).unwrap();
    let path = temp.0.join("log/0000000001.segment");
    let length = path.metadata().unwrap().len();
    // A file that can't be written any more.
    let mut segment = Segment::read(path.clone(), us(), |_, _| panic!("damage")).unwrap();
    let unwritable = std::fs::File::open(&path).unwrap();
    let failed = segment.append(&unwritable, &ready([some(1, "second")]), &mut Vec::new());
    assert!(failed.is_err());
    assert_eq!((segment.spans(), path.metadata().unwrap().len()), (1, length));
}

fn outbox(
    temp: &TempDirectory,
    configure: impl FnOnce(OutboxOptions) -> OutboxOptions,
) -> Arc<Outbox> {
    let options = configure(OutboxOptions::new(&temp.0).with_policy(OutboxPolicy::WriteAhead));
    Outbox::open(options, Signal::Traces, b"resource".to_vec(), b"scope".to_vec()).unwrap()
}

fn plain(text: &str) -> EncodedItems {
    EncodedItems {
        signal: Signal::Traces,
        resource: RESOURCE,
        scope: Bytes::from_static(b"scope"),
        encoded: Bytes::copy_from_slice(text.as_bytes()),
        items: 10,
        feedback: 0,
    }
}

fn rated(text: &str) -> EncodedItems {
    EncodedItems { items: 1, feedback: 1, ..plain(text) }
}

fn texts(taken: &[(EntryLocation, EncodedItems)]) -> Vec<&str> {
    taken.iter().map(|(_, it)| std::str::from_utf8(&it.encoded).unwrap()).collect()
}

#[test]
fn an_entry_is_sent_only_when_its_finalizer_is_dropped() {
    let temp = TempDirectory::new();
    let outbox = outbox(&temp, |options| options);
    let held = ["arrives", "is lost", "is on its way"].map(|text| {
        let mut finalizers = Finalizers::default();
        finalizers.push(outbox.hold(text.as_bytes().to_vec(), true, 1).unwrap());
        finalizers
    });
    outbox.sync_within_limit().unwrap();
    assert_eq!((outbox.usage().spans, outbox.take(usize::MAX).len()), (3, 0));
    let [arrives, is_lost, _on_its_way] = held;
    arrives.release();
    drop(is_lost);
    // The thread that writes sees the new states with the next entry.
    outbox.spill_feedback(&rated("spilled")).unwrap();
    outbox.sync_within_limit().unwrap();
    let taken = outbox.take(usize::MAX);
    assert_eq!(texts(&taken), ["is lost", "spilled"]);
    assert_eq!(outbox.usage().spans, 3);
    outbox.close();
}

#[test]
fn feedback_comes_first_and_everything_is_gone_when_it_was_taken() {
    let temp = TempDirectory::new();
    let outbox = outbox(&temp, |options| options);
    outbox.spill(&[plain("spans"), plain("more")]).unwrap();
    outbox.spill_feedback(&rated("feedback")).unwrap();
    outbox.sync_within_limit().unwrap();
    assert!(outbox.has_ready());
    let taken = outbox.take(usize::MAX);
    assert_eq!(texts(&taken), ["feedback", "spans", "more"]);
    assert_eq!(taken.iter().map(|(_, it)| it.feedback).collect::<Vec<_>>(), [1, 0, 0]);
    let positions: Vec<_> = taken.iter().map(|(location, _)| *location).collect();
    outbox.put_back(&positions[1..]);
    outbox.acknowledge(&positions[..1], 1);
    assert_eq!(texts(&outbox.take(usize::MAX)), ["spans", "more"]);
    outbox.acknowledge(&positions[1..], 20);
    let OutboxUsage { spans, replayed, .. } = outbox.usage();
    assert_eq!((spans, replayed), (0, 21));
    outbox.close();
    let left: Vec<_> = std::fs::read_dir(&temp.0).unwrap().flatten().collect();
    assert_eq!(left.len(), 1); // the directory for what is rejected
}

#[test]
fn spans_make_room_the_oldest_first_and_feedback_is_refused_rather_than_dropped() {
    let temp = TempDirectory::new();
    const MEGABYTE: usize = 1024 * 1024;
    let outbox = outbox(&temp, |options| options.with_max_bytes(16 * MEGABYTE as u64));
    let large = |letter: &str| letter.repeat(5 * MEGABYTE);
    for letter in ["a", "b", "c"] {
        outbox.spill(&[plain(&large(letter))]).unwrap();
    }
    assert_eq!(outbox.take_lost(), (0, 0));
    outbox.spill(&[plain(&large("d"))]).unwrap();
    assert_eq!(outbox.take_lost(), (10, 0)); // the spans of "a"
    for _ in 0..2 {
        outbox.spill_feedback(&rated(&large("f"))).unwrap();
        outbox.sync_within_limit().unwrap();
    }
    assert_eq!(outbox.take_lost(), (20, 0));
    for _ in 0..2 {
        outbox.spill_feedback(&rated(&large("g"))).unwrap();
        outbox.sync_within_limit().unwrap();
    }
    // The outbox is full of feedback by now, and none of it is dropped.
    assert_eq!(outbox.spill_feedback(&rated("h")), Err(PushError::Full));
    assert!(outbox.spill(&[plain(&large("e"))]).is_err());
    let taken = outbox.take(usize::MAX);
    assert_eq!(taken.iter().filter(|(_, it)| it.feedback > 0).count(), 4);
    outbox.close();
}

#[test]
fn what_is_too_old_is_dropped_and_counted() {
    let temp = TempDirectory::new();
    let outbox = outbox(&temp, |options| {
        let second = Duration::from_secs(1);
        options.with_max_age(second).with_max_feedback_age(10 * second)
    });
    outbox.spill(&[plain("spans")]).unwrap();
    outbox.spill_feedback(&rated("feedback")).unwrap();
    outbox.sync_within_limit().unwrap();
    let later = |seconds: i64| {
        let now = clock::now().saturating_add_signed(seconds * 1_000_000_000);
        outbox.with_store(|store| {
            // As if from an earlier process: a segment that is being written is never dropped.
            store.spans.finish();
            store.feedback.finish();
            store.make_room(0, now);
        });
        outbox.take_lost()
    };
    assert_eq!(later(-3600), (0, 0)); // the clock was set back: nothing is older than it is
    assert_eq!(later(0), (0, 0));
    assert_eq!(later(2), (10, 0));
    assert_eq!(later(9), (0, 0));
    assert_eq!(later(11), (1, 1));
    assert_eq!(outbox.usage().spans, 0);
    outbox.close();
}

#[test]
fn what_the_disk_can_not_take_waits_in_memory_and_is_sent_from_there() {
    let temp = TempDirectory::new();
    let outbox = outbox(&temp, |options| options);
    // Without a directory nothing can be written.
    let logs = outbox.with_store(|store| store.directory.path());
    std::fs::remove_dir_all(&logs).unwrap();
    let mut finalizers = Finalizers::default();
    finalizers.push(outbox.hold(b"held".to_vec(), true, 1).unwrap());
    outbox.spill_feedback(&rated("spilled")).unwrap();
    let error = outbox.sync_within_limit().unwrap_err();
    assert!(
        matches!(error, PersistError::Write { kind: io::ErrorKind::NotFound, .. }),
        "{error:?}"
    );
    assert!(outbox.has_ready());
    let taken = outbox.take(usize::MAX);
    assert_eq!(texts(&taken), ["spilled"]);
    outbox.put_back(&taken.iter().map(|(location, _)| *location).collect::<Vec<_>>());
    drop(finalizers);
    let taken = outbox.take(usize::MAX);
    assert_eq!(texts(&taken), ["held", "spilled"]);
    outbox.acknowledge(&taken.iter().map(|(location, _)| *location).collect::<Vec<_>>(), 2);
    outbox.sync_within_limit().unwrap(); // there is nothing left to write
    outbox.close();
}

#[test]
fn what_can_be_neither_written_nor_sent_is_counted_in_the_end() {
    let temp = TempDirectory::new();
    let outbox = outbox(&temp, |options| options);
    let logs = outbox.with_store(|store| store.directory.path());
    std::fs::remove_dir_all(&logs).unwrap();
    outbox.spill_feedback(&rated("spilled")).unwrap();
    let mut finalizers = Finalizers::default();
    finalizers.push(outbox.hold(b"held".to_vec(), true, 1).unwrap());
    outbox.close();
    assert_eq!(outbox.take_lost(), (2, 2));
    assert_eq!(outbox.hold(b"late".to_vec(), true, 1).err(), Some(PushError::Closed));
}

#[test]
fn many_open_a_shared_directory_at_once_and_each_has_its_own_part() {
    let temp = TempDirectory::new();
    let texts: Vec<_> = (0..16).map(|at| at.to_string()).collect();
    std::thread::scope(|scope| {
        for text in &texts {
            scope.spawn(|| {
                let outbox = outbox(&temp, |options| options);
                outbox.spill_feedback(&rated(text)).unwrap();
                outbox.sync_within_limit().unwrap();
                outbox.close();
            });
        }
    });
    // Later processes may have adopted the entries of earlier ones: each entry is there once.
    let last = outbox(&temp, |options| options);
    let (mut found, until) = (Vec::new(), clock::after(Duration::from_secs(30)));
    while found.len() < texts.len() && Instant::now() < until {
        last.with_store(OutboxStore::maintain).unwrap();
        found.extend(last.take(usize::MAX).into_iter().map(|(_, it)| it.encoded));
    }
    let mut found: Vec<_> = found.iter().map(|it| std::str::from_utf8(it).unwrap()).collect();
    let mut expected: Vec<_> = texts.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    last.close();
}

#[test]
fn what_was_replaced_is_there_until_what_replaced_it_is_durable() {
    let journal = Journal::default();
    let push = |text: &'static str| {
        let encoded = Bytes::from_static(text.as_bytes());
        journal.push(Bytes::new(), encoded, 1, EntryState::Held, 1).unwrap()
    };
    let patch = push("patch");
    assert_eq!(journal.next_work(Duration::ZERO).entries.len(), 1);
    journal.written(1, false);
    let whole = push("whole");
    journal.supersede(patch, whole);
    let work = journal.next_work(Duration::ZERO);
    assert_eq!((work.released, work.entries.len()), (vec![], 1));
    journal.failed(work.entries, disk_full());
    let work = journal.next_work(Duration::ZERO);
    assert_eq!((work.released, work.entries.len()), (vec![], 1));
    journal.written(2, false);
    assert_eq!(journal.next_work(Duration::ZERO).released, [patch]);

    // An entry that is not written must not keep the one that it has replaced.
    let [first, second] = ["first", "second"].map(push);
    let work = journal.next_work(Duration::ZERO);
    journal.supersede(first, second); // while it is being written
    journal.failed(work.entries, disk_full());
    let work = journal.next_work(Duration::ZERO);
    assert_eq!(work.entries.iter().map(|(it, _)| it.sequence).collect::<Vec<_>>(), [second]);
    journal.written(second + 1, false);
    let third = push("third");
    journal.supersede(second, third);
    journal.settle(third, EntryState::Gone);
    let work = journal.next_work(Duration::ZERO);
    assert_eq!((work.released, work.entries.len()), (vec![second], 0));
}

#[test]
fn entries_that_could_not_be_made_durable_are_written_again() {
    let temp = TempDirectory::new();
    let mut log = log(&temp);
    let held = || [0, 1].map(|at| (some(at, "held"), EntryState::Held));
    log.append(&[(some(9, "before"), EntryState::Ready)], &RESOURCE, "", 5).unwrap();
    log.append(&held(), &RESOURCE, "", 5).unwrap();
    log.forget_unsynced(2);
    assert_eq!(log.spans(), 1);
    log.append(&held(), &RESOURCE, "", 5).unwrap();
    assert_eq!(std::fs::read_dir(temp.0.join("log")).unwrap().count(), 2);
    log.settle_sequences(&[0, 1], EntryState::Gone);
    log.tidy();
    assert_eq!(take(&mut log, usize::MAX).1, ["before"]);
    assert_eq!(log.spans(), 1);
}

#[test]
fn a_deleted_segment_is_counted_and_has_one_notice() {
    let temp = TempDirectory::new();
    let mut log = log(&temp);
    log.append(&ready([some(0, "one"), some(1, "two")]), &RESOURCE, "", 5).unwrap();
    std::fs::remove_file(temp.0.join("log/0000000001.segment")).unwrap();
    assert!(log.has_ready());
    for _ in 0..3 {
        assert_eq!(take(&mut log, usize::MAX).1, [""; 0]);
    }
    assert!(!log.has_ready()); // or the export thread would never wait
    assert_eq!((log.take_lost(), log.take_lost()), (2, 0));
    assert!(matches!(log.notices[..], [Notice { what: FileProblem::Missing, .. }]));
    // Later entries can be read.
    log.append(&ready([some(2, "three")]), &RESOURCE, "", 5).unwrap();
    assert_eq!(take(&mut log, usize::MAX).1, ["three"]);
}

#[test]
fn a_segment_that_can_not_be_read_now_is_tried_again_later() {
    let temp = TempDirectory::new();
    let mut log = log(&temp);
    log.append(&ready([some(0, "text")]), &RESOURCE, "", 5).unwrap();
    let (path, aside) = (temp.0.join("log/0000000001.segment"), temp.0.join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    for _ in 0..3 {
        assert_eq!(take(&mut log, usize::MAX).1, [""; 0]);
        assert!(!log.has_ready());
    }
    assert!(matches!(log.notices[..], [Notice { what: FileProblem::Unreadable(_), .. }]));
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    log.tidy();
    assert_eq!(take(&mut log, usize::MAX).1, ["text"]);
    assert_eq!(log.take_lost(), 0);
}

#[test]
fn a_directory_that_can_not_be_adopted_keeps_no_other_from_it() {
    let temp = TempDirectory::new();
    for name in ["0000000000000000", "5555555555555555", "ffffffffffffffff"] {
        let directory = temp.0.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("lock"), "").unwrap();
        match name.starts_with('5') {
            true => SegmentLog::create(
                directory.join(directory::FEEDBACK),
                Signal::Traces,
                us(),
                String::new(),
            )
            .and_then(|mut log| {
                let entry = SegmentEntry { time: clock::now(), ..some(0, name) };
                log.append(&ready([entry]), &RESOURCE, "", 5)
            })
            .unwrap(),
            false => std::fs::write(directory.join(directory::FEEDBACK), "no directory").unwrap(),
        }
    }
    let outbox = outbox(&temp, |options| options);
    outbox.with_store(OutboxStore::maintain).unwrap();
    assert_eq!(texts(&outbox.take(usize::MAX)), ["5555555555555555"]);
    outbox.close();
}

#[test]
fn a_clock_that_goes_backwards_loses_nothing() {
    let temp = TempDirectory::new();
    let path = temp.0.join("log");
    let day = |day: u64| day * 24 * 60 * 60 * 1_000_000_000;
    log(&temp).append(&ready([some(0, "before")]), &RESOURCE, "", day(9)).unwrap();
    let mut successor =
        SegmentLog::create(temp.0.join("successor"), Signal::Traces, us(), String::new()).unwrap();
    successor.append(&ready([some(0, "after")]), &RESOURCE, "", day(7)).unwrap();
    successor.adopt(&path).unwrap();
    successor.append(&ready([some(1, "still")]), &RESOURCE, "", day(6)).unwrap();
    let (positions, mut got) = take(&mut successor, usize::MAX);
    got.sort_unstable();
    assert_eq!(got, ["after", "before", "still"]);
    successor.settle(positions, EntryState::Gone);
    successor.tidy();
    assert_eq!((successor.spans(), successor.bytes()), (0, 0));
}

#[test]
fn notices_from_before_there_is_a_subscriber_are_logged_later() {
    let temp = TempDirectory::new();
    let outbox = outbox(&temp, |options| options);
    let unheard = || outbox.with_store(|store| store.feedback.notices.len());
    outbox.with_store(|store| {
        let path = temp.0.join("segment");
        store.feedback.notices.push(Notice { path, what: FileProblem::Missing });
    });
    assert_eq!((unheard(), unheard()), (1, 1));
    tracing::subscriber::with_default(tracing_subscriber::registry(), unheard);
    assert_eq!(unheard(), 0);
    outbox.close();
}
