//! Encoded items: the `ResourceSpans` or `ResourceLogs` of a batch, which can be sent more than once.
//!
//! A request is made of several of them, which are neither copied nor decoded for it. The messages of the two
//! signals have the same field numbers.

use bytes::Bytes;

use crate::otlp::{Signal, protobuf as wire, truncate};

/// `ExportTraceServiceRequest.resource_spans` and `ExportLogsServiceRequest.resource_logs`.
const RESOURCE_ITEMS: u32 = 1;

/// `ResourceSpans.scope_spans` and `ResourceLogs.scope_logs`.
const SCOPE_ITEMS: u32 = 2;

/// Encoded items of one resource and scope: spans or log records.
#[derive(Clone, Debug)]
pub(crate) struct EncodedItems {
    pub(crate) signal: Signal,
    /// The fields `resource` and `schema_url` of a `ResourceSpans` or `ResourceLogs`.
    pub(crate) resource: Bytes,
    /// The fields of a `ScopeSpans` or `ScopeLogs` beside its items.
    pub(crate) scope: Bytes,
    /// The items of that scope.
    pub(crate) encoded: Bytes,
    pub(crate) items: usize,
    /// How many of them carry feedback.
    pub(crate) feedback: usize,
}

impl EncodedItems {
    /// Splits it between two of its items, and returns the second half. `None` if there is only one.
    pub(crate) fn halve(&mut self) -> Option<Self> {
        let first = self.items / 2;
        if first == 0 {
            return None;
        }
        let encoded = self.encoded.split_off(end_of_item(&self.encoded, first)?);
        // An item with feedback is alone in its `EncodedItems`, which is never split.
        let half = Self { encoded, items: self.items - first, feedback: 0, ..self.clone() };
        self.items = first;
        Some(half)
    }

    /// Cuts the values of the only item, and of the resource, to about half of their bytes, for a receiver
    /// that takes less. Returns whether that had an effect: it has none on a few items, and on a small one.
    pub(crate) fn truncate(&mut self) -> bool {
        /// Every receiver takes so much, for the item and the resource: a refusal has another reason.
        const LEAST: usize = 64 << 10;
        if self.items != 1 || self.encoded.len() + self.resource.len() <= LEAST {
            return false;
        }
        let item = match self.signal {
            Signal::Traces => truncate::encoded_span(&self.encoded, self.encoded.len() / 2),
            Signal::Logs => truncate::encoded_log_record(&self.encoded, self.encoded.len() / 2),
        };
        let resource = (self.resource.len() > LEAST / 4)
            .then(|| truncate::resource_fields(&self.resource, self.resource.len() / 2))
            .flatten();
        let is_cut = item.is_some() || resource.is_some();
        self.encoded = item.map_or_else(|| self.encoded.clone(), Bytes::from);
        self.resource = resource.map_or_else(|| self.resource.clone(), Bytes::from);
        is_cut
    }
}

/// The items of each scope.
type Scopes = Vec<(Bytes, Vec<Bytes>)>;

/// The request for these items of one signal, grouped by resource and scope.
pub(crate) fn request<'s>(encoded_items: impl IntoIterator<Item = &'s EncodedItems>) -> Vec<Bytes> {
    let mut resources: Vec<(&Bytes, Scopes)> = Vec::new();
    for EncodedItems { resource, scope, encoded, .. } in encoded_items {
        let position = resources.iter().position(|(other, _)| *other == resource);
        let at = position.unwrap_or_else(|| {
            resources.push((resource, Vec::new()));
            resources.len() - 1
        });
        let scopes = &mut resources[at].1;
        match scopes.iter_mut().find(|(other, _)| other == scope) {
            Some((_, of_scope)) => of_scope.push(encoded.clone()),
            None => scopes.push((scope.clone(), vec![encoded.clone()])),
        }
    }
    let mut request = Vec::new();
    for (resource, scopes) in resources {
        append_resource(&mut request, resource.clone(), scopes);
    }
    request
}

/// How many items there are in all, and how many of them carry feedback.
pub(crate) fn totals<'s>(encoded_items: impl IntoIterator<Item = &'s EncodedItems>) -> (u64, u64) {
    encoded_items.into_iter().fold((0, 0), |(items, feedback), batch| {
        (items + batch.items as u64, feedback + batch.feedback as u64)
    })
}

/// Appends a `ResourceSpans` or `ResourceLogs` to a request that is made of pieces which follow one another:
/// the items of each scope, spans as [`Packed`](crate::otlp::Packed) encodes them, stay where they are.
pub(crate) fn append_resource<Piece: AsRef<[u8]> + From<Vec<u8>>>(
    request: &mut Vec<Piece>,
    resource: Piece,
    scopes: impl IntoIterator<Item = (Piece, Vec<Piece>)>,
) {
    let mut pieces = vec![resource];
    for (scope, items) in scopes {
        let length = scope.as_ref().len() + length(&items);
        pieces.push(tag_and_length(SCOPE_ITEMS, length).into());
        pieces.push(scope);
        pieces.extend(items);
    }
    request.push(tag_and_length(RESOURCE_ITEMS, length(&pieces)).into());
    request.extend(pieces);
}

fn length(pieces: &[impl AsRef<[u8]>]) -> usize {
    pieces.iter().map(|piece| piece.as_ref().len()).sum()
}

fn tag_and_length(field: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    wire::length_of(&mut out, field, length);
    out
}

/// Where item number `items` of those in `encoded` ends. `None` if there are fewer.
fn end_of_item(encoded: &[u8], items: usize) -> Option<usize> {
    let mut end = 0;
    for _ in 0..items {
        let (length, size) = wire::read_varint(encoded.get(end + 1..)?)?;
        end += 1 + size + usize::try_from(length).ok()?;
    }
    (end <= encoded.len()).then_some(end)
}
