//! Encoded spans: the `ResourceSpans` of a batch, which can be sent more than once.
//!
//! A request is made of several of them, which are neither copied nor decoded for it.

use bytes::Bytes;

use crate::otlp::{protobuf as wire, truncate};

/// `ExportTraceServiceRequest`.
const RESOURCE_SPANS: u32 = 1;

/// `ResourceSpans`.
const SCOPE_SPANS: u32 = 2;

/// Encoded spans of one resource and scope.
#[derive(Clone, Debug)]
pub(crate) struct EncodedSpans {
    /// The fields `resource` and `schema_url` of a `ResourceSpans`.
    pub(crate) resource: Bytes,
    /// The fields of a `ScopeSpans` beside its spans.
    pub(crate) scope: Bytes,
    /// The spans of that `ScopeSpans`.
    pub(crate) encoded: Bytes,
    pub(crate) spans: usize,
    /// How many of them carry feedback.
    pub(crate) feedback: usize,
}

impl EncodedSpans {
    /// Splits it between two of its spans, and returns the second half. `None` if there is only one.
    pub(crate) fn halve(&mut self) -> Option<Self> {
        let first = self.spans / 2;
        if first == 0 {
            return None;
        }
        let encoded = self.encoded.split_off(end_of_span(&self.encoded, first)?);
        // A span with feedback is alone in its `EncodedSpans`, which is never split.
        let half = Self { encoded, spans: self.spans - first, feedback: 0, ..self.clone() };
        self.spans = first;
        Some(half)
    }

    /// Cuts the values of the only span, and of the resource, to about half of their bytes, for a receiver
    /// that takes less. Returns whether that had an effect: it has none on a few spans, and on a small one.
    pub(crate) fn truncate(&mut self) -> bool {
        /// Every receiver takes so much, for the span and the resource: a refusal has another reason.
        const LEAST: usize = 64 << 10;
        if self.spans != 1 || self.encoded.len() + self.resource.len() <= LEAST {
            return false;
        }
        let span = truncate::encoded_span(&self.encoded, self.encoded.len() / 2);
        let resource = (self.resource.len() > LEAST / 4)
            .then(|| truncate::resource_fields(&self.resource, self.resource.len() / 2))
            .flatten();
        let is_cut = span.is_some() || resource.is_some();
        self.encoded = span.map_or_else(|| self.encoded.clone(), Bytes::from);
        self.resource = resource.map_or_else(|| self.resource.clone(), Bytes::from);
        is_cut
    }
}

/// The spans of each scope.
type Scopes = Vec<(Bytes, Vec<Bytes>)>;

/// The request for these spans, grouped by resource and scope.
pub(crate) fn request<'s>(encoded_spans: impl IntoIterator<Item = &'s EncodedSpans>) -> Vec<Bytes> {
    let mut resources: Vec<(&Bytes, Scopes)> = Vec::new();
    for EncodedSpans { resource, scope, encoded, .. } in encoded_spans {
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

/// How many spans there are in all, and how many of them carry feedback.
pub(crate) fn totals<'s>(encoded_spans: impl IntoIterator<Item = &'s EncodedSpans>) -> (u64, u64) {
    encoded_spans.into_iter().fold((0, 0), |(spans, feedback), batch| {
        (spans + batch.spans as u64, feedback + batch.feedback as u64)
    })
}

/// Appends a `ResourceSpans` to a request that is made of pieces which follow one another: the
/// spans of each scope, as [`Packed`](crate::otlp::Packed) encodes them, stay where they are.
pub(crate) fn append_resource<Piece: AsRef<[u8]> + From<Vec<u8>>>(
    request: &mut Vec<Piece>,
    resource: Piece,
    scopes: impl IntoIterator<Item = (Piece, Vec<Piece>)>,
) {
    let mut pieces = vec![resource];
    for (scope, spans) in scopes {
        let length = scope.as_ref().len() + length(&spans);
        pieces.push(tag_and_length(SCOPE_SPANS, length).into());
        pieces.push(scope);
        pieces.extend(spans);
    }
    request.push(tag_and_length(RESOURCE_SPANS, length(&pieces)).into());
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

/// Where span number `spans` of those in `encoded` ends. `None` if there are fewer.
fn end_of_span(encoded: &[u8], spans: usize) -> Option<usize> {
    let mut end = 0;
    for _ in 0..spans {
        let (length, size) = wire::read_varint(encoded.get(end + 1..)?)?;
        end += 1 + size + usize::try_from(length).ok()?;
    }
    (end <= encoded.len()).then_some(end)
}
