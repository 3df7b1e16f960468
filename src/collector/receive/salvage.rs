//! What can be read of a protobuf message in which a span, or the resource or scope of spans, can't be: `prost`
//! decodes all or nothing, and a string that was cut within a character is no UTF-8. A sender does not send a
//! refused request again, so one such span would cost all others.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use super::decoded::{DecodedRequest, RefusedSpans};
use super::refusal::RequestRefusal;

/// The spans of an export request that can be read, where `error` is the first fault. They may be without their
/// resource or scope. If none can be read, or the message is broken around the spans, the request is refused.
pub(super) fn readable_spans(
    bytes: &[u8],
    error: &DecodeError,
) -> Result<DecodedRequest, RequestRefusal> {
    let refusal = RequestRefusal::malformed(error.to_string());
    let mut salvage = Salvage::default();
    match salvage.request(bytes) {
        Some(message) if salvage.spans > 0 => {
            let refused = RefusedSpans { count: salvage.refused, first: Some(refusal) };
            Ok(DecodedRequest { message, refused })
        }
        _ => Err(refusal),
    }
}

#[derive(Default)]
struct Salvage {
    /// The spans that can't be read.
    refused: u64,
    /// The spans that were read.
    spans: usize,
}

/// Numbers of fields, by `opentelemetry/proto/**/*.proto`.
const RESOURCE_SPANS: u32 = 1;
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SCOPE: u32 = 1;
const SPANS: u32 = 2;

impl Salvage {
    fn request(&mut self, mut bytes: &[u8]) -> Option<ExportTraceServiceRequest> {
        let mut request = ExportTraceServiceRequest::default();
        while !bytes.is_empty() {
            let (number, field) = next_field(&mut bytes)?;
            if number == RESOURCE_SPANS {
                request.resource_spans.push(self.resource_spans(field)?);
            }
        }
        Some(request)
    }

    fn resource_spans(&mut self, mut bytes: &[u8]) -> Option<ResourceSpans> {
        let mut group = ResourceSpans::default();
        while !bytes.is_empty() {
            let (number, field) = next_field(&mut bytes)?;
            match number {
                RESOURCE => group.resource = Resource::decode(field).ok(),
                SCOPE_SPANS => group.scope_spans.push(self.scope_spans(field)?),
                _ => {}
            }
        }
        Some(group)
    }

    fn scope_spans(&mut self, mut bytes: &[u8]) -> Option<ScopeSpans> {
        let mut group = ScopeSpans::default();
        while !bytes.is_empty() {
            let (number, field) = next_field(&mut bytes)?;
            match number {
                SCOPE => group.scope = InstrumentationScope::decode(field).ok(),
                SPANS => match Span::decode(field) {
                    Ok(span) => {
                        self.spans += 1;
                        group.spans.push(span);
                    }
                    Err(_) => self.refused += 1,
                },
                _ => {}
            }
        }
        Some(group)
    }
}

/// Takes the next field from a message: its number and, if it may be a message itself, its bytes. `None` if
/// the bytes are no message.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let (number, wire_type) = decode_key(bytes).ok()?;
    if wire_type != WireType::LengthDelimited {
        skip_field(wire_type, number, bytes, DecodeContext::default()).ok()?;
        return Some((number, &[]));
    }
    let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    let (field, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((number, field))
}
