//! Shipments: spans that are encoded, and can be sent, and sent again.

use bytes::Bytes;

use super::end_of_span;
use super::request::append_resource;

/// Encoded spans of one resource and scope.
#[derive(Clone, Debug)]
pub(crate) struct Shipment {
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

impl Shipment {
    /// Cuts it between two of its spans, and returns the second half.
    pub(crate) fn halve(&mut self) -> Option<Self> {
        let first = self.spans / 2;
        let encoded = self.encoded.split_off(end_of_span(&self.encoded, first)?);
        // A span with feedback has a shipment to itself, which is never cut.
        let half = Self { encoded, spans: self.spans - first, feedback: 0, ..self.clone() };
        self.spans = first;
        Some(half)
    }
}

/// The spans of each scope.
type Scopes = Vec<(Bytes, Vec<Bytes>)>;

/// The request for shipments, their spans grouped by resource and scope.
pub(crate) fn request<'s>(shipments: impl IntoIterator<Item = &'s Shipment>) -> Vec<Bytes> {
    let mut resources: Vec<(&Bytes, Scopes)> = Vec::new();
    for Shipment { resource, scope, encoded, .. } in shipments {
        let known = resources.iter().position(|(known, _)| *known == resource);
        let at = known.unwrap_or_else(|| {
            resources.push((resource, Vec::new()));
            resources.len() - 1
        });
        let scopes = &mut resources[at].1;
        match scopes.iter_mut().find(|(known, _)| known == scope) {
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

/// Spans of all shipments, and how many of them carry feedback.
pub(crate) fn totals<'s>(shipments: impl IntoIterator<Item = &'s Shipment>) -> (u64, u64) {
    shipments.into_iter().fold((0, 0), |(spans, feedback), shipment| {
        (spans + shipment.spans as u64, feedback + shipment.feedback as u64)
    })
}
