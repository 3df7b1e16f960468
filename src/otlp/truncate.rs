//! Truncation: spans that are too large for a receiver lose their largest values, and keep their place in
//! the trace and their feedback.
//!
//! It works on encoded spans, so that it is the same for a span that has just ended and for one that was
//! read back from disk. The values are cut in this order, each step only as far as it takes:
//!
//! 1. Fields, the values of events and links, names, the description of the status, the trace state. The
//!    largest are cut first, to one common length. If that is not enough, events are dropped, then fields,
//!    in both cases the last ones first.
//! 2. The same for the enrichments that are not opinions: `inputs`, `outputs`, `config`, `metadata`,
//!    `user_properties`.
//! 3. `feedback` and `metrics`.
//!
//! `session.id`, `tracing_feedback.*`, `service.name` (of at most 64 KiB each), ids and times are never cut. A value that was cut
//! ends at a character and with [`MARK`], and is counted as a dropped attribute of its span, event or link.

use super::protobuf as wire;

/// The most bytes of a span's own fields. A gRPC receiver takes requests of 4 MiB by default; the
/// difference is for the resource, the scope, and the other spans of a batch.
pub(crate) const MOST_SPAN: usize = 3584 << 10;

/// The most bytes of the attributes of a resource, and of a scope.
pub(crate) const MOST_RESOURCE: usize = 256 << 10;

/// The last characters of a value that was cut.
pub(crate) const MARK: &str = "… (cut: the span was too large)";

/// Values up to this length are not cut: they are dropped if there are too many of them.
const SHORTEST: usize = 256;

/// Links of fewer bytes in all are not dropped: the one link of a carrier names its target.
const MOST_LINKS: usize = 64 << 10;

/// The first segment of keys by which `Convention::HoneyHive` begins the names of namespaces.
const CONVENTION_PREFIX: &str = "honeyhive_";

/// In which order values are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Field = 0,
    Enrichment = 1,
    Opinion = 2,
    Protected = 3,
}

/// The classes whose values may be cut, in this order.
const CLASSES: [Class; 3] = [Class::Field, Class::Enrichment, Class::Opinion];

impl Class {
    /// The class of a `KeyValue`. What is never cut is short: otherwise a service has used a reserved name.
    fn of_attribute(attribute: &[u8]) -> Self {
        const MOST_PROTECTED: usize = 64 << 10;
        match Self::of(key_of(attribute)) {
            Self::Protected if attribute.len() > MOST_PROTECTED => Self::Opinion,
            class => class,
        }
    }

    fn of(key: &[u8]) -> Self {
        let Ok(key) = std::str::from_utf8(key) else { return Self::Field };
        if matches!(key, "session.id" | "service.name") || key.starts_with("tracing_feedback.") {
            return Self::Protected;
        }
        let first = key.split('.').next().unwrap_or_default();
        match first.strip_prefix(CONVENTION_PREFIX).unwrap_or(first) {
            "feedback" | "metrics" => Self::Opinion,
            "metadata" | "user_properties" | "inputs" | "outputs" | "config" => Self::Enrichment,
            _ => Self::Field,
        }
    }
}

/// The fields of `Span` that are rewritten; others are copied.
mod span {
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const NAME: u32 = 5;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const DROPPED_ATTRIBUTES_COUNT: u32 = 10;
    pub(super) const EVENTS: u32 = 11;
    pub(super) const DROPPED_EVENTS_COUNT: u32 = 12;
    pub(super) const LINKS: u32 = 13;
    pub(super) const DROPPED_LINKS_COUNT: u32 = 14;
    pub(super) const STATUS: u32 = 15;
    /// `Status`.
    pub(super) const MESSAGE: u32 = 2;
}

/// The fields of a message with attributes within a span: `Event` and `Link`.
#[derive(Clone, Copy)]
struct Inner {
    field: u32,
    /// A string that may be cut, and whether it is a trace state.
    text: (u32, bool),
    attributes: u32,
    dropped: u32,
}

const EVENT: Inner = Inner { field: span::EVENTS, text: (2, false), attributes: 3, dropped: 4 };
const LINK: Inner = Inner { field: span::LINKS, text: (3, true), attributes: 4, dropped: 5 };

/// Cuts the values of a span, given by its encoded fields, to `most` bytes. `None` if it has no more.
/// The result may be larger only if what is never cut is.
pub(crate) fn span_fields(fields: &[u8], most: usize) -> Option<Vec<u8>> {
    if fields.len() <= most {
        return None;
    }
    let mut limits = Limits::NONE;
    let mut written = Rewriter::rewrite(fields, limits);
    for class in CLASSES {
        // The counts of dropped attributes take bytes too, so one step may not be enough.
        for _ in 0..3 {
            let Some(excess) = written.excess(most) else { return Some(written.out) };
            let sizes = &mut written.sizes[class as usize];
            limits.lengths[class as usize] = common_length(sizes, excess);
            written = Rewriter::rewrite(fields, limits);
        }
        for _ in 0..3 {
            let Some(excess) = written.excess(most) else { return Some(written.out) };
            // Dropping the small values of this class would not help if a later class has the large ones.
            if written.droppable(class) * 2 < excess {
                break;
            }
            written.limit_counts(class, excess, &mut limits);
            written = Rewriter::rewrite(fields, limits);
        }
    }
    for class in CLASSES {
        let Some(excess) = written.excess(most) else { break };
        written.limit_counts(class, excess, &mut limits);
        written = Rewriter::rewrite(fields, limits);
    }
    Some(written.out)
}

/// Cuts the one span of `encoded`, as it stands in a `ScopeSpans`, to `most` bytes. `None` if that has no
/// effect.
#[cfg(any(feature = "grpc", feature = "http-proto", feature = "outbox"))]
pub(crate) fn encoded_span(encoded: &[u8], most: usize) -> Option<Vec<u8>> {
    let only = read_field(encoded).filter(|(_, rest)| rest.is_empty());
    let (Field { number, content: Content::Bytes(fields), .. }, _) = only? else { return None };
    let cut = span_fields(fields, most).filter(|cut| cut.len() < fields.len())?;
    let mut out = Vec::with_capacity(cut.len() + 12);
    wire::length_of(&mut out, number, cut.len());
    out.extend_from_slice(&cut);
    Some(out)
}

/// Cuts the values of attributes to `most` bytes. They are encoded as in a span, and are returned as field
/// `attributes` of another message, with the number of cut ones as field `dropped`.
pub(crate) fn attributes_of_other(
    encoded: &[u8],
    most: usize,
    attributes: u32,
    dropped: u32,
) -> Vec<u8> {
    let cut = span_fields(encoded, most);
    let mut out = Vec::with_capacity(encoded.len().min(most));
    for field in fields(cut.as_deref().unwrap_or(encoded)) {
        match (field.number, field.content) {
            (span::ATTRIBUTES, Content::Bytes(bytes)) => wire::bytes(&mut out, attributes, bytes),
            (span::DROPPED_ATTRIBUTES_COUNT, Content::Number(count)) => {
                wire::uint32(&mut out, dropped, count_of(count));
            }
            _ => {}
        }
    }
    out
}

/// Cuts the attributes of the encoded fields of a `ResourceSpans` to `most` bytes. `None` if that has no
/// effect.
#[cfg(any(feature = "grpc", feature = "http-proto", feature = "outbox"))]
pub(crate) fn resource_fields(encoded: &[u8], most: usize) -> Option<Vec<u8>> {
    const RESOURCE: u32 = 1;
    const ATTRIBUTES: u32 = 1;
    const DROPPED: u32 = 2;
    let mut out = Vec::new();
    for field in fields(encoded) {
        let Field { number: RESOURCE, content: Content::Bytes(resource), .. } = field else {
            out.extend_from_slice(field.raw);
            continue;
        };
        let mut attributes = Vec::new();
        for field in fields(resource) {
            match (field.number, field.content) {
                (ATTRIBUTES, Content::Bytes(bytes)) => {
                    wire::bytes(&mut attributes, span::ATTRIBUTES, bytes);
                }
                (DROPPED, Content::Number(count)) => {
                    let count = count_of(count);
                    wire::uint32(&mut attributes, span::DROPPED_ATTRIBUTES_COUNT, count);
                }
                _ => {}
            }
        }
        let cut = attributes_of_other(&attributes, most, ATTRIBUTES, DROPPED);
        wire::length_of(&mut out, RESOURCE, cut.len());
        out.extend_from_slice(&cut);
    }
    (out.len() < encoded.len()).then_some(out)
}

/// The parts of a span that may have been cut, read back for a record.
#[derive(Default)]
pub(crate) struct TruncatedSpan<'a> {
    pub(crate) trace_state: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    /// The attributes as in a span.
    pub(crate) attributes: Vec<u8>,
    pub(crate) dropped_attributes: u32,
    /// The first events and links, which are those that were kept.
    pub(crate) events: Vec<TruncatedPart<'a>>,
    pub(crate) links: Vec<TruncatedPart<'a>>,
    pub(crate) dropped_events: u32,
    pub(crate) dropped_links: u32,
    pub(crate) status_message: Option<&'a str>,
}

/// The parts of an event or link that may have been cut.
#[derive(Default)]
pub(crate) struct TruncatedPart<'a> {
    /// The name of an event, the trace state of a link.
    pub(crate) text: &'a str,
    /// The attributes as in a span.
    pub(crate) attributes: Vec<u8>,
    pub(crate) dropped_attributes: u32,
}

/// The largest length for which cutting every longer value to it removes `excess` bytes.
fn common_length(sizes: &mut [usize], excess: usize) -> usize {
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let mut longer = 0; // bytes of the values up to this one
    for (at, size) in sizes.iter().enumerate() {
        longer += size;
        let next = sizes.get(at + 1).copied().unwrap_or(0).max(SHORTEST);
        let values = at + 1;
        // What all of them together have beyond the length of the next.
        if longer.saturating_sub(next * values) >= excess {
            return ((longer - excess) / values).max(SHORTEST);
        }
    }
    SHORTEST
}

/// How far a span is cut.
#[derive(Clone, Copy)]
struct Limits {
    /// The most bytes of a value, for each class.
    lengths: [usize; 3],
    /// How many attributes of each class are kept, and how many events and links.
    attributes: [usize; 3],
    events: usize,
    links: usize,
}

impl Limits {
    const NONE: Self = Self {
        lengths: [usize::MAX; 3],
        attributes: [usize::MAX; 3],
        events: usize::MAX,
        links: usize::MAX,
    };
}

/// Writes the fields of a span anew, within limits, and measures them.
struct Rewriter {
    limits: Limits,
    out: Vec<u8>,
    /// The lengths of the values that were written, for each class.
    sizes: [Vec<usize>; 3],
    /// The bytes of the attributes that were written, for each class, and those of events and links.
    attributes: [Vec<usize>; 3],
    events: Vec<usize>,
    links: Vec<usize>,
}

impl Rewriter {
    fn rewrite(encoded: &[u8], limits: Limits) -> Self {
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

    fn excess(&self, most: usize) -> Option<usize> {
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
            Some((Field { number: STRING_VALUE, content: Content::Bytes(text), .. }, _)) => {
                self.text(out, STRING_VALUE, text, class)
            }
            Some((Field { number: ARRAY_VALUE, content: Content::Bytes(array), .. }, _))
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
    fn last_element(&self, elements: &mut Vec<u8>, element: Field<'_>, most: usize) {
        const STRING_VALUE: u32 = 1;
        let Content::Bytes(value) = element.content else { return };
        let Some((Field { number: STRING_VALUE, content: Content::Bytes(text), .. }, _)) =
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
    fn inner(&mut self, out: &mut Vec<u8>, kind: Inner, message: &[u8]) {
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
    fn droppable(&self, class: Class) -> usize {
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
    fn limit_counts(&self, class: Class, mut excess: usize, limits: &mut Limits) {
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

/// Reads back what is left of a span, from its encoded fields.
pub(crate) fn read_span(encoded: &[u8]) -> TruncatedSpan<'_> {
    let mut read = TruncatedSpan::default();
    for field in fields(encoded) {
        match (field.number, field.content) {
            (span::TRACE_STATE, Content::Bytes(state)) => read.trace_state = Some(text(state)),
            (span::NAME, Content::Bytes(name)) => read.name = Some(text(name)),
            (span::ATTRIBUTES, _) => read.attributes.extend_from_slice(field.raw),
            (span::DROPPED_ATTRIBUTES_COUNT, Content::Number(count)) => {
                read.dropped_attributes = count_of(count);
            }
            (span::EVENTS, Content::Bytes(event)) => read.events.push(read_inner(event, EVENT)),
            (span::DROPPED_EVENTS_COUNT, Content::Number(count)) => {
                read.dropped_events = count_of(count);
            }
            (span::LINKS, Content::Bytes(link)) => read.links.push(read_inner(link, LINK)),
            (span::DROPPED_LINKS_COUNT, Content::Number(count)) => {
                read.dropped_links = count_of(count);
            }
            (span::STATUS, Content::Bytes(status)) => {
                for field in fields(status) {
                    if let (span::MESSAGE, Content::Bytes(message)) = (field.number, field.content)
                    {
                        read.status_message = Some(text(message));
                    }
                }
            }
            _ => {}
        }
    }
    read
}

fn read_inner(message: &[u8], kind: Inner) -> TruncatedPart<'_> {
    let mut read = TruncatedPart::default();
    for field in fields(message) {
        match (field.number, field.content) {
            (number, Content::Bytes(bytes)) if number == kind.text.0 => read.text = text(bytes),
            (number, Content::Bytes(bytes)) if number == kind.attributes => {
                wire::bytes(&mut read.attributes, span::ATTRIBUTES, bytes);
            }
            (number, Content::Number(count)) if number == kind.dropped => {
                read.dropped_attributes = count_of(count);
            }
            _ => {}
        }
    }
    read
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A field of a message.
#[derive(Clone, Copy)]
struct Field<'a> {
    number: u32,
    content: Content<'a>,
    /// The field with its tag.
    raw: &'a [u8],
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Number(u64),
    Fixed,
    Bytes(&'a [u8]),
}

/// The fields of a message. What can't be read ends them.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Field<'_>> {
    std::iter::from_fn(move || {
        let (field, rest) = read_field(bytes)?;
        bytes = rest;
        Some(field)
    })
}

/// The first field of a message, and the bytes after it.
fn read_field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (tag, size) = wire::read_varint(bytes)?;
    let number = u32::try_from(tag >> 3).ok()?;
    let after = bytes.get(size..)?;
    let (content, rest) = match (tag & 7) as u8 {
        wire::VARINT => {
            let (value, size) = wire::read_varint(after)?;
            (Content::Number(value), after.get(size..)?)
        }
        wire::FIXED64 => (Content::Fixed, after.get(8..)?),
        wire::FIXED32 => (Content::Fixed, after.get(4..)?),
        wire::LENGTH => {
            let (length, size) = wire::read_varint(after)?;
            let (content, rest) =
                after.get(size..)?.split_at_checked(usize::try_from(length).ok()?)?;
            (Content::Bytes(content), rest)
        }
        _ => return None,
    };
    let raw = bytes.get(..bytes.len() - rest.len())?;
    Some((Field { number, content, raw }, rest))
}

/// The key of a `KeyValue`.
fn key_of(attribute: &[u8]) -> &[u8] {
    match read_field(attribute) {
        Some((Field { number: 1, content: Content::Bytes(key), .. }, _)) => key,
        _ => &[],
    }
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

fn count_of(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// How many bytes to leave for the length of a message of about `length` bytes.
fn varint_room(length: usize) -> usize {
    wire::varint_size(length as u64)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::Event, span::Link};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let text = "[a-zéö…🙂]{0,600}".prop_map(Value::StringValue).boxed();
        let element = text.clone().prop_map(|value| AnyValue { value: Some(value) });
        prop_oneof![
            4 => text,
            1 => any::<bool>().prop_map(Value::BoolValue),
            1 => any::<i64>().prop_map(Value::IntValue),
            1 => any::<f64>().prop_filter("equal to itself", |it| !it.is_nan()).prop_map(Value::DoubleValue),
            1 => vec(element, 0..6).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
        ]
    }

    fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
        let key = prop_oneof![
            4 => "[a-z.]{1,30}",
            1 => "[a-z]{260,900}",
            1 => "(feedback|metrics|outputs|honeyhive_feedback)\\.[a-z]{1,9}",
            1 => "tracing_feedback\\.[a-z]{1,9}",
            1 => Just("session.id".to_owned()),
        ];
        let attribute = (key, any_value()).prop_map(|(key, value)| KeyValue {
            key,
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
        vec(attribute, 0..20)
    }

    fn span() -> impl Strategy<Value = Span> {
        let inner = || vec(("[a-zé]{0,700}", attributes()), 0..4);
        let texts = ("[a-zé]{0,700}", "[a-zé]{0,700}");
        (attributes(), inner(), inner(), texts, any::<u32>()).prop_map(
            |(attributes, events, links, (name, message), count)| Span {
                trace_id: vec![7; 16],
                span_id: vec![8; 8],
                name,
                attributes,
                dropped_attributes_count: count / 2,
                events: events
                    .into_iter()
                    .map(|(name, attributes)| Event {
                        time_unix_nano: 5,
                        name,
                        attributes,
                        dropped_attributes_count: 1,
                    })
                    .collect(),
                links: links
                    .into_iter()
                    .map(|(_, attributes)| Link { attributes, flags: 3, ..Link::default() })
                    .collect(),
                status: Some(Status { message, code: 2 }),
                flags: 257,
                ..Span::default()
            },
        )
    }

    /// The attributes of a class, or of those that are never cut.
    fn of_class(span: &Span, class: Class) -> Vec<&KeyValue> {
        span.attributes.iter().filter(|it| Class::of(it.key.as_bytes()) == class).collect()
    }

    proptest! {
        #[test]
        fn a_cut_span_fits_and_is_a_span_with_the_same_identity(span in span(), most in 0..30_000_usize) {
            let encoded = span.encode_to_vec();
            let Some(cut) = span_fields(&encoded, most) else {
                prop_assert!(encoded.len() <= most);
                return Ok(());
            };
            let decoded = Span::decode(&*cut).unwrap(); // texts are UTF-8 still
            prop_assert_eq!(&decoded.trace_id, &span.trace_id);
            prop_assert_eq!((decoded.flags, decoded.status.as_ref().unwrap().code), (257, 2));
            prop_assert_eq!(of_class(&decoded, Class::Protected), of_class(&span, Class::Protected));
            // What can't be cut: the protected attributes, names and a few links of at most 256 bytes each.
            let protected = of_class(&span, Class::Protected);
            let rest: usize = protected.iter().map(|it| it.encoded_len() + 4).sum();
            prop_assert!(cut.len() <= most.max(rest + MOST_LINKS), "{} {most} {rest}", cut.len());
            let dropped = (span.events.len() - decoded.events.len()) as u32;
            prop_assert_eq!(decoded.dropped_events_count, dropped);
            let gone = span.attributes.len() - decoded.attributes.len();
            prop_assert!(decoded.dropped_attributes_count as usize >= gone);
            // Opinions are whole unless everything else is as short as it can be.
            if of_class(&decoded, Class::Opinion) != of_class(&span, Class::Opinion) {
                let long = |it: &&KeyValue| it.encoded_len() > 2 * SHORTEST + 64;
                prop_assert!(!of_class(&decoded, Class::Field).iter().any(long));
            }
        }

        #[test]
        fn any_bytes_are_cut_without_a_panic(bytes in vec(any::<u8>(), 0..2000), most in 0..2000_usize) {
            if let Some(cut) = span_fields(&bytes, most) {
                let _ = read_span(&cut);
            }
            let _ = encoded_span(&bytes, most);
            let _ = resource_fields(&bytes, most);
        }
    }

    #[test]
    fn every_namespace_is_cut_after_the_fields() {
        for namespace in crate::feedback::document::NAMESPACES {
            for key in [format!("{namespace}.a"), format!("honeyhive_{namespace}.a.b")] {
                assert_ne!(Class::of(key.as_bytes()), Class::Field, "{key}");
            }
        }
        assert_eq!(Class::of(b"feedback_of_theirs.a"), Class::Field);
    }

    #[test]
    fn the_longest_values_get_one_length() {
        assert_eq!(common_length(&mut [1000, 5000, 3000], 1000), 4000);
        assert_eq!(common_length(&mut [1000, 5000, 3000], 4000), 2000);
        assert_eq!(common_length(&mut [1000, 5000, 3000], 7500), 500);
        assert_eq!(common_length(&mut [1000, 5000], 10_000), SHORTEST);
        assert_eq!(common_length(&mut [], 1), SHORTEST);
    }
}
