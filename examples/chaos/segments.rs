//! Segments as bytes: the files of an outbox, to damage them. Their layout is described in
//! `src/outbox/format.rs`.

use std::collections::HashSet;
use std::path::Path;

use crate::Result;
use crate::random::Random;

/// A kind of damage to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// A flipped bit in an entry.
    Bit,
    /// The rest of the file is cut off.
    End,
    /// A flipped bit in the first copy of the header.
    Header,
}

/// What the damage costs.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    pub(crate) tags: HashSet<String>,
    pub(crate) spans: u64,
    /// Where the damage begins, if a warning about it is expected.
    pub(crate) offset: Option<usize>,
}

/// Damages a segment somewhere.
pub(crate) fn damage(path: &Path, damage: Damage, random: &mut Random) -> Result<Cost> {
    let mut bytes = std::fs::read(path)?;
    let entries = entries(&bytes);
    let chosen = random.between(0, entries.len());
    let Some(&(start, end)) = entries.get(chosen) else { return Ok(Cost::default()) };
    let mut cost = Cost { offset: Some(start), ..Cost::default() };
    let mut pay = |of: &[(usize, usize)]| {
        for &(start, end) in of {
            let tags = tags(&bytes[start..end]);
            // Feedback by ticket is not counted among the spans of a service.
            let is_of_user = tags.iter().any(|tag| tag.contains(".h."));
            cost.tags.extend(tags);
            let spans =
                bytes[start + 32..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
            cost.spans += if is_of_user { 0 } else { u64::from(spans) };
        }
    };
    match damage {
        Damage::Bit => {
            pay(&[(start, end)]);
            bytes[random.between(start, end)] ^= 1 << random.between(0, 8);
        }
        Damage::End => {
            pay(&entries[chosen..]);
            bytes.truncate(random.between(start + 1, end));
        }
        Damage::Header => {
            cost.offset = None;
            bytes[random.between(0, 40)] ^= 1 << random.between(0, 8);
        }
    }
    std::fs::write(path, bytes)?;
    Ok(cost)
}

/// The ranges of entries: from one marker to the next.
fn entries(bytes: &[u8]) -> Vec<(usize, usize)> {
    let Some(marker) = bytes.get(28..36) else { return Vec::new() };
    let found = bytes.windows(8).enumerate().filter(|(_, window)| *window == marker);
    // The header stands twice.
    let mut starts: Vec<_> = found.map(|(at, _)| at).skip(2).collect();
    starts.push(bytes.len());
    starts.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// All tags of feedback in these bytes: `s1.i.000017`.
pub(crate) fn tags(bytes: &[u8]) -> HashSet<String> {
    let words = bytes.split(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'.'));
    let words = words.filter_map(|word| std::str::from_utf8(word).ok());
    // The byte before a text may look like a part of it: its length does.
    words.filter_map(tag_in).map(str::to_owned).collect()
}

fn tag_in(word: &str) -> Option<&str> {
    let (before, rest) = word.split_once('.')?;
    let start = before.rfind('s')?;
    let number = before.get(start + 1..)?;
    let (kind, digits) = rest.split_once('.')?;
    let digits = digits.get(..6)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let end = start + 1 + number.len() + 1 + kind.len() + 1 + digits.len();
    (is_number(number) && is_number(digits) && kind.len() == 1).then(|| &word[start..end])
}

pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
