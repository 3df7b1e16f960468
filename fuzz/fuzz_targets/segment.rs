//! Any bytes where a segment of the outbox is expected, and one with parts of it overwritten: what can
//! be read of it is, without a panic, and in the order in which it stands there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracing_feedback::__fuzz::read_segment;

/// The header of an empty segment, both copies of it: without resource and note, created at 0.
fn header() -> Vec<u8> {
    let mut header = b"TFOUTBOX".to_vec();
    header.extend_from_slice(&[1, 0, 0, 0]); // version
    header.extend_from_slice(&[0; 16]); // lengths, and when it was created
    header.extend_from_slice(b"_marker_");
    header.extend_from_slice(&crc32(&header).to_le_bytes());
    header.repeat(2)
}

/// The checksum of gzip, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// An entry around `encoded`.
fn entry(encoded: &[u8]) -> Vec<u8> {
    let mut rest = u32::try_from(encoded.len()).unwrap_or_default().to_le_bytes().to_vec();
    rest.extend_from_slice(&[0; 24]); // sequence, time, spans, length of the scope
    rest.extend_from_slice(encoded);
    [b"_marker_".as_slice(), &crc32(&rest).to_le_bytes(), &rest].concat()
}

fuzz_target!(|input: (&[u8], Vec<&[u8]>, Vec<(u16, u8)>)| {
    let (bytes, entries, damage) = input;
    read_segment(bytes);

    let mut segment = header();
    let start = segment.len();
    entries.iter().for_each(|encoded| segment.extend(entry(encoded)));
    assert_eq!(read_segment(&segment), 0, "an undamaged segment is read whole");
    segment.extend_from_slice(bytes);
    for (at, byte) in damage {
        if let Some(damaged) = segment.get_mut(start + usize::from(at)) {
            *damaged = byte;
        }
    }
    read_segment(&segment);
});
