//! What can be read of a protobuf message in which an item (a span, a log record), or the resource or scope of items,
//! can't be: `prost` decodes all or nothing, and a string that was cut within a character is no UTF-8. A sender does
//! not send a refused request again, so one such item would cost all others.

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use super::decoded::{DecodedRequest, RefusedItems};
use super::refusal::RequestRefusal;
use super::signal::{ExportRequest, ResourceGroup, ScopeGroup};

/// The items of an export request that can be read, where `error` is the first fault. They may be without their
/// resource or scope. If none can be read, or the message is broken around the items, the request is refused.
pub(super) fn readable_items<M: ExportRequest>(
    bytes: &[u8],
    error: &DecodeError,
) -> Result<DecodedRequest<M>, RequestRefusal> {
    let refusal = RequestRefusal::malformed(error.to_string());
    let mut salvage = Salvage::default();
    match salvage.request(bytes) {
        Some(groups) if salvage.items > 0 => {
            let refused = RefusedItems { count: salvage.refused, first: Some(refusal) };
            Ok(DecodedRequest { message: M::of_groups(groups), refused })
        }
        _ => Err(refusal),
    }
}

#[derive(Default)]
struct Salvage {
    /// The items that can't be read.
    refused: u64,
    /// The items that were read.
    items: usize,
}

/// Numbers of fields, by `opentelemetry/proto/**/*.proto`. They are the same for both signals.
const RESOURCE_GROUPS: u32 = 1;
const RESOURCE: u32 = 1;
const SCOPE_GROUPS: u32 = 2;
const SCOPE: u32 = 1;
const ITEMS: u32 = 2;

impl Salvage {
    fn request<T: Message + Default>(&mut self, mut bytes: &[u8]) -> Option<Vec<ResourceGroup<T>>> {
        let mut groups = Vec::new();
        while !bytes.is_empty() {
            let (number, field) = next_field(&mut bytes)?;
            if number == RESOURCE_GROUPS {
                groups.push(self.resource_group(field)?);
            }
        }
        Some(groups)
    }

    fn resource_group<T: Message + Default>(
        &mut self,
        mut bytes: &[u8],
    ) -> Option<ResourceGroup<T>> {
        let mut group = ResourceGroup { resource: None, scopes: Vec::new() };
        while !bytes.is_empty() {
            let (number, field) = next_field(&mut bytes)?;
            match number {
                RESOURCE => group.resource = Resource::decode(field).ok(),
                SCOPE_GROUPS => group.scopes.push(self.scope_group(field)?),
                _ => {}
            }
        }
        Some(group)
    }

    fn scope_group<T: Message + Default>(&mut self, mut bytes: &[u8]) -> Option<ScopeGroup<T>> {
        let mut group = ScopeGroup { scope: None, items: Vec::new() };
        while !bytes.is_empty() {
            let (number, field) = next_field(&mut bytes)?;
            match number {
                SCOPE => group.scope = InstrumentationScope::decode(field).ok(),
                ITEMS => match T::decode(field) {
                    Ok(item) => {
                        self.items += 1;
                        group.items.push(item);
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
