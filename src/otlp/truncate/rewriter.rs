//! Writing the fields of a span anew, within limits.

use super::{Class, EVENT, LINK, MARK, MOST_LINKS, PartFields, SHORTEST, span};
use crate::otlp::message::{Content, WireField, count_of, fields, key_of, read_field};
use crate::otlp::protobuf as wire;

/// How far a span is cut.
#[derive(Clone, Copy)]
pub(super) struct CutLimits {
    /// The most bytes of a value, for each class.
    pub(super) lengths: [usize; 3],
    /// How many attributes of each class are kept, and how many events and links.
    attributes: [usize; 3],
    events: usize,
    links: usize,
}

impl CutLimits {
    pub(super) const NONE: Self = Self {
        lengths: [usize::MAX; 3],
        attributes: [usize::MAX; 3],
        events: usize::MAX,
        links: usize::MAX,
    };
}

/// Writes the fields of a span anew, within limits, and measures them.
pub(super) struct Rewriter {
    limits: CutLimits,
    pub(super) out: Vec<u8>,
    /// The lengths of the values that were written, for each class.
    pub(super) sizes: [Vec<usize>; 3],
    /// The bytes of the attributes that were written, for each class, and those of events and links.
    attributes: [Vec<usize>; 3],
    events: Vec<usize>,
    links: Vec<usize>,
}

impl Rewriter {
    pub(super) fn rewrite(encoded: &[u8], limits: CutLimits) -> Self {
        let mut this = Self {
            limits,
            out: Vec::with_capacity(encoded.len()),
            sizes: Default::default(),
            attributes: Default::default(),
            events: Vec::new(),
            links: Vec::new(),
        };
        let mut out = std::mem::take(&mut this.out);
        let (mut attributes, mut events, mut links) = (0_u32, 0_u32, 0_u32);
        for field in fields(encoded) {
            let before = out.len();
            match (field.number, field.content) {
                (span::TRACE_STATE, Content::Bytes(state)) => {
                    wire::bytes(&mut out, span::TRACE_STATE, this.trace_state(state));
                }
                (span::NAME, Content::Bytes(name)) => {
                    this.text(&mut out, span::NAME, name, Class::Field);
                }
                (span::ATTRIBUTES, Content::Bytes(attribute)) => {
                    let class = Class::of_attribute(attribute);
                    if this.is_kept(class) {
                        let cut = this.attribute(&mut out, span::ATTRIBUTES, attribute, class);
                        attributes = attributes.saturating_add(cut.into());
                        if class != Class::Protected {
                            this.attributes[class as usize].push(out.len() - before);
                        }
                    } else {
                        attributes = attributes.saturating_add(1);
                    }
                }
                (span::DROPPED_ATTRIBUTES_COUNT, Content::Number(count)) => {
                    attributes = attributes.saturating_add(count_of(count));
                }
                (span::EVENTS, Content::Bytes(event)) if this.events.len() < limits.events => {
                    this.inner(&mut out, EVENT, event);
                    this.events.push(out.len() - before);
                }
                (span::EVENTS, _) => events = events.saturating_add(1),
                (span::DROPPED_EVENTS_COUNT, Content::Number(count)) => {
                    events = events.saturating_add(count_of(count));
                }
                (span::LINKS, Content::Bytes(link)) if this.links.len() < limits.links => {
                    this.inner(&mut out, LINK, link);
                    this.links.push(out.len() - before);
                }
                (span::LINKS, _) => links = links.saturating_add(1),
                (span::DROPPED_LINKS_COUNT, Content::Number(count)) => {
                    links = links.saturating_add(count_of(count));
                }
                (span::STATUS, Content::Bytes(status)) => {
                    wire::message(&mut out, span::STATUS, 2, |out| {
                        for field in fields(status) {
                            match (field.number, field.content) {
                                (span::MESSAGE, Content::Bytes(text)) => {
                                    this.text(out, span::MESSAGE, text, Class::Field);
                                }
                                _ => out.extend_from_slice(field.raw),
                            }
                        }
                    });
                }
                _ => out.extend_from_slice(field.raw),
            }
        }
        wire::uint32(&mut out, span::DROPPED_ATTRIBUTES_COUNT, attributes);
        wire::uint32(&mut out, span::DROPPED_EVENTS_COUNT, events);
        wire::uint32(&mut out, span::DROPPED_LINKS_COUNT, links);
        this.out = out;
        this
    }

    pub(super) fn excess(&self, most: usize) -> Option<usize> {
        self.out.len().checked_sub(most).filter(|excess| *excess > 0)
    }

    fn is_kept(&self, class: Class) -> bool {
        class == Class::Protected
            || self.attributes[class as usize].len() < self.limits.attributes[class as usize]
    }

    fn length(&self, class: Class) -> usize {
        self.limits.lengths.get(class as usize).copied().unwrap_or(usize::MAX)
    }

    /// Notes a value of `length` bytes.
    fn note(&mut self, class: Class, length: usize) {
        if length > SHORTEST
            && let Some(sizes) = self.sizes.get_mut(class as usize)
        {
            sizes.push(length);
        }
    }

    /// Writes a string, and returns whether it was cut.
    fn text(&mut self, out: &mut Vec<u8>, field: u32, text: &[u8], class: Class) -> bool {
        let most = self.length(class);
        if text.len() <= most {
            self.note(class, text.len());
            wire::length_of(out, field, text.len());
            out.extend_from_slice(text);
            return false;
        }
        let kept = up_to_character(text, most.saturating_sub(MARK.len()));
        self.note(class, kept.len() + MARK.len());
        wire::length_of(out, field, kept.len() + MARK.len());
        out.extend_from_slice(kept);
        out.extend_from_slice(MARK.as_bytes());
        true
    }

    /// The first members of a trace state that fit: a part of a member would have another meaning.
    fn trace_state<'s>(&mut self, state: &'s [u8]) -> &'s [u8] {
        let most = self.length(Class::Field);
        let kept = match state.get(..most) {
            Some(fits) if state.len() > most => {
                let end = fits.iter().rposition(|byte| *byte == b',').unwrap_or(0);
                &fits[..end]
            }
            _ => state,
        };
        self.note(Class::Field, kept.len());
        kept
    }

    /// Writes an attribute, and returns whether it was cut, or dropped because of its key.
    fn attribute(&mut self, out: &mut Vec<u8>, field: u32, attribute: &[u8], class: Class) -> bool {
        const KEY: u32 = 1;
        const VALUE: u32 = 2;
        let most = self.length(class);
        let key = key_of(attribute);
        if key.len() > most {
            return true; // a part of a key is another key
        }
        self.note(class, key.len());
        let mut cut = false;
        wire::message(out, field, varint_room(attribute.len().min(most)), |out| {
            for field in fields(attribute) {
                match (field.number, field.content) {
                    (KEY, _) => out.extend_from_slice(field.raw),
                    (VALUE, Content::Bytes(value)) => {
                        wire::message(out, VALUE, varint_room(value.len().min(most)), |out| {
                            cut = self.any_value(out, value, class);
                        });
                    }
                    _ => {}
                }
            }
        });
        cut
    }

    /// Writes the content of an `AnyValue`, and returns whether it was cut.
    fn any_value(&mut self, out: &mut Vec<u8>, value: &[u8], class: Class) -> bool {
        const STRING_VALUE: u32 = 1;
        const ARRAY_VALUE: u32 = 5;
        let most = self.length(class);
        match read_field(value) {
            Some((WireField { number: STRING_VALUE, content: Content::Bytes(text), .. }, _)) => {
                self.text(out, STRING_VALUE, text, class)
            }
            Some((WireField { number: ARRAY_VALUE, content: Content::Bytes(array), .. }, _))
                if array.len() > most =>
            {
                let mut elements = Vec::new();
                for element in fields(array) {
                    if elements.len() + element.raw.len() > most.saturating_sub(64) {
                        self.last_element(&mut elements, element, most);
                        break;
                    }
                    elements.extend_from_slice(element.raw);
                }
                self.note(class, elements.len());
                wire::length_of(out, ARRAY_VALUE, elements.len());
                out.extend_from_slice(&elements);
                true
            }
            _ if value.len() > most => {
                // No other kind of value is written here. It is left out, and read as an empty value.
                true
            }
            _ => {
                self.note(class, value.len());
                out.extend_from_slice(value);
                false
            }
        }
    }

    /// Cuts the element of an array at which the limit is reached, if it is a string: the mark then tells
    /// that the array goes on.
    fn last_element(&self, elements: &mut Vec<u8>, element: WireField<'_>, most: usize) {
        const STRING_VALUE: u32 = 1;
        let Content::Bytes(value) = element.content else { return };
        let Some((WireField { number: STRING_VALUE, content: Content::Bytes(text), .. }, _)) =
            read_field(value)
        else {
            return;
        };
        let room = most.saturating_sub(elements.len() + MARK.len() + 16);
        let kept = up_to_character(text, room.min(text.len()));
        wire::message(elements, element.number, 1, |out| {
            wire::length_of(out, STRING_VALUE, kept.len() + MARK.len());
            out.extend_from_slice(kept);
            out.extend_from_slice(MARK.as_bytes());
        });
    }

    /// Writes an event or link.
    fn inner(&mut self, out: &mut Vec<u8>, kind: PartFields, message: &[u8]) {
        let mut dropped = 0_u32;
        wire::message(out, kind.field, varint_room(message.len()), |out| {
            for field in fields(message) {
                match (field.number, field.content) {
                    (number, Content::Bytes(text)) if number == kind.text.0 => match kind.text.1 {
                        true => wire::bytes(out, number, self.trace_state(text)),
                        false => {
                            self.text(out, number, text, Class::Field);
                        }
                    },
                    (number, Content::Bytes(attribute)) if number == kind.attributes => {
                        let cut = self.attribute(out, number, attribute, Class::Field);
                        dropped = dropped.saturating_add(cut.into());
                    }
                    (number, Content::Number(count)) if number == kind.dropped => {
                        dropped = dropped.saturating_add(count_of(count));
                    }
                    _ => out.extend_from_slice(field.raw),
                }
            }
            wire::uint32(out, kind.dropped, dropped);
        });
    }

    /// How many bytes dropping all values of this class would remove.
    pub(super) fn droppable(&self, class: Class) -> usize {
        let attributes: usize = self.attributes[class as usize].iter().sum();
        let links: usize = self.links.iter().sum();
        match class {
            Class::Field => {
                let events: usize = self.events.iter().sum();
                attributes + events + if links > MOST_LINKS { links } else { 0 }
            }
            _ => attributes,
        }
    }

    /// Lowers the limits so that the last events, links and attributes of this class are dropped, as many
    /// as have `excess` bytes.
    pub(super) fn limit_counts(&self, class: Class, mut excess: usize, limits: &mut CutLimits) {
        if class == Class::Field {
            limits.events = kept(&self.events, &mut excess);
            if self.links.iter().sum::<usize>() > MOST_LINKS {
                limits.links = kept(&self.links, &mut excess);
            }
        }
        limits.attributes[class as usize] = kept(&self.attributes[class as usize], &mut excess);
    }
}

/// How many of the first items remain if the last ones are dropped, until those have `excess` bytes. Takes
/// the bytes from `excess`.
fn kept(sizes: &[usize], excess: &mut usize) -> usize {
    let mut left = sizes.len();
    while let Some(size) = left.checked_sub(1).and_then(|last| sizes.get(last))
        && *excess > 0
    {
        *excess = excess.saturating_sub(*size);
        left -= 1;
    }
    left
}

/// The first bytes of a text, at most `most` of them, to the end of a character.
fn up_to_character(text: &[u8], most: usize) -> &[u8] {
    if text.len() <= most {
        return text;
    }
    let mut end = most;
    // A byte that continues a character has the bits 10 first.
    while end > 0 && text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// How many bytes to leave for the length of a message of about `length` bytes.
fn varint_room(length: usize) -> usize {
    wire::varint_size(length as u64)
}
