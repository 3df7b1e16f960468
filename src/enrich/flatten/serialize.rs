//! Values: the `serde::Serializer` that walks a value and writes its leaves.

use std::fmt;

use serde::ser::{self, Serialize, Serializer as _};

use super::keys::{KeySerializer, NotAKey};
use super::position::{Depth, MOST_WRAPPERS, Position};
use super::scalar::Scalar;
use super::{Checkpoint, ContainerKind, Flattener, Frame, cut};
use crate::enrich::error::EnrichError;
use crate::formatted;

impl Flattener {
    /// Flattens `value` at `position`.
    pub(crate) fn value<T: Serialize + ?Sized>(&mut self, position: &Position, value: &T) {
        self.move_to(position);
        if let Err(failure) = value.serialize(ValueSerializer(self)) {
            self.refuse(failure, position.depth, 0, None);
        }
    }

    /// Flattens `value` at the current key. If its `Serialize` fails, only this key is refused.
    pub(crate) fn serialize<T: Serialize + ?Sized>(&mut self, value: &T) {
        if self.depth.muted {
            return;
        }
        let depth = self.depth;
        let path = self.path.len();
        let json = self.json.as_ref().map(|json| json.length());
        if let Err(failure) = value.serialize(ValueSerializer(self)) {
            self.refuse(failure, depth, path, json);
        }
    }

    /// Returns to the position where a value began whose `Serialize` failed: it may have left containers open.
    #[cold]
    fn refuse(
        &mut self,
        Failure(message): Failure,
        depth: Depth,
        path: usize,
        json: Option<usize>,
    ) {
        self.depth = depth;
        self.path.truncate(path);
        match (json, &mut self.json) {
            (Some(length), Some(text)) => text.truncate(length),
            _ => self.json = None,
        }
        let (key, message) = (self.key_name(), message.into());
        self.outcome.push(EnrichError::Serialize { key, message });
    }
}

/// The message of a value whose own `Serialize` failed. So small that a result of it is returned in registers.
#[derive(Debug)]
struct Failure(Box<str>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl ser::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let (message, _) = formatted::text(format_args!("{message}"));
        Self(cut(&message, 1024).into())
    }
}

/// The struct names by which `serde_json` passes values that serde's data model can't hold.
const JSON_NUMBER: &str = "$serde_json::private::Number";
const JSON_RAW: &str = "$serde_json::private::RawValue";

struct ValueSerializer<'f>(&'f mut Flattener);

/// A container of the value that is being flattened.
struct Container<'f> {
    flattener: &'f mut Flattener,
    frame: Frame,
    /// The object around the container of a variant, whose only key is the variant's name.
    outer: Option<(Checkpoint, Frame)>,
    index: usize,
    key: String,
    key_is_refused: bool,
    /// The name of the struct, if it stands for JSON text or an exact number.
    text: Option<&'static str>,
}

impl<'f> ValueSerializer<'f> {
    fn container(self, kind: ContainerKind) -> Container<'f> {
        let frame = self.0.begin(kind);
        Container::new(self.0, frame, None)
    }

    fn big_integer(self, value: impl fmt::Display) -> Result<(), Failure> {
        self.0.scalar(Scalar::BigInt(&value.to_string()));
        Ok(())
    }

    /// Flattens the value in an option or a newtype.
    fn wrapped<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        let flattener = self.0;
        if flattener.depth.wrappers >= MOST_WRAPPERS {
            let key = flattener.key_name();
            let limit = "512 options and newtypes";
            flattener.outcome.push(EnrichError::TooDeepToKeep { key, limit });
            return Ok(());
        }
        flattener.depth.wrappers += 1;
        let result = value.serialize(ValueSerializer(flattener));
        flattener.depth.wrappers -= 1;
        result
    }

    /// Begins `{variant: …}`, as `serde_json` writes variants.
    fn variant(self, variant: &'static str, kind: ContainerKind) -> Container<'f> {
        let outer = self.0.begin_object();
        let checkpoint = self.0.enter_key(variant);
        let mut container = self.container(kind);
        container.outer = Some((checkpoint, outer));
        container
    }
}

impl<'f> ser::Serializer for ValueSerializer<'f> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Container<'f>;
    type SerializeTuple = Container<'f>;
    type SerializeTupleStruct = Container<'f>;
    type SerializeTupleVariant = Container<'f>;
    type SerializeMap = Container<'f>;
    type SerializeStruct = Container<'f>;
    type SerializeStructVariant = Container<'f>;

    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.0.scalar(Scalar::Bool(value));
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Failure> {
        self.0.scalar(Scalar::Int(value));
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Failure> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.big_integer(value),
        }
    }

    fn serialize_u8(self, value: u8) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Failure> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.big_integer(value),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<(), Failure> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.big_integer(value),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<(), Failure> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Failure> {
        self.0.scalar(Scalar::Float(value));
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Failure> {
        self.0.scalar(Scalar::Str(value));
        Ok(())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Failure> {
        let (text, is_complete) = formatted::text(format_args!("{value}"));
        self.serialize_str(&text)?;
        match is_complete {
            true => Ok(()),
            false => Err(Failure("its `Display` failed".into())),
        }
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Failure> {
        self.0.unsupported("bytes");
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Failure> {
        Ok(()) // absent: changes nothing
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        self.wrapped(value)
    }

    fn serialize_unit(self) -> Result<(), Failure> {
        self.0.null();
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failure> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Failure> {
        self.0.scalar(Scalar::Static(variant));
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.wrapped(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        let frame = self.0.begin_object();
        let checkpoint = self.0.enter_key(variant);
        self.0.serialize(value);
        self.0.leave(checkpoint);
        self.0.end(frame);
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Container<'f>, Failure> {
        Ok(self.container(ContainerKind::Array))
    }

    fn serialize_tuple(self, _: usize) -> Result<Container<'f>, Failure> {
        Ok(self.container(ContainerKind::Array))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Container<'f>, Failure> {
        Ok(self.container(ContainerKind::Array))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Container<'f>, Failure> {
        Ok(self.variant(variant, ContainerKind::Array))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Container<'f>, Failure> {
        Ok(self.container(ContainerKind::Object))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Container<'f>, Failure> {
        if name == JSON_NUMBER || name == JSON_RAW {
            return Ok(Container::new(self.0, Frame::Refused, Some(name)));
        }
        Ok(self.container(ContainerKind::Object))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Container<'f>, Failure> {
        Ok(self.variant(variant, ContainerKind::Object))
    }
}

impl<'f> Container<'f> {
    fn new(flattener: &'f mut Flattener, frame: Frame, text: Option<&'static str>) -> Self {
        let (key, key_is_refused) = (String::new(), false);
        Self { flattener, frame, outer: None, index: 0, key, key_is_refused, text }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) {
        let checkpoint = self.flattener.enter_index(self.index);
        self.flattener.serialize(value);
        self.flattener.leave(checkpoint);
        self.index += 1;
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        let checkpoint = self.flattener.enter_key(key);
        self.flattener.serialize(value);
        self.flattener.leave(checkpoint);
    }

    fn close(self) {
        self.flattener.end(self.frame);
        if let Some((checkpoint, frame)) = self.outer {
            self.flattener.leave(checkpoint);
            self.flattener.end(frame);
        }
    }

    /// Flattens an exact number, or the value that JSON text stands for.
    fn json_struct<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Failure> {
        let mut text = String::new();
        value
            .serialize(KeySerializer::new(&mut text))
            .map_err(|NotAKey(reason)| Failure(reason.into()))?;
        if name == JSON_NUMBER {
            let written = ValueSerializer(self.flattener);
            return match (text.parse::<i128>(), text.parse::<u128>(), text.parse::<f64>()) {
                (Ok(value), ..) => written.serialize_i128(value),
                (_, Ok(value), _) => written.serialize_u128(value),
                // An integer beyond 128 bits is kept exactly, as a string.
                _ if text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) => {
                    written.serialize_str(&text)
                }
                (_, _, Ok(value)) => written.serialize_f64(value),
                _ => Err(Failure(format!("{text} is not a number").into())),
            };
        }
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Failure(error.to_string().into()))?;
        value.serialize(ValueSerializer(self.flattener))
    }
}

/// The containers with elements by position. Serde has a trait for each; here all are arrays.
macro_rules! elements {
    ($($container:ident: $method:ident,)*) => {$(
        impl ser::$container for Container<'_> {
            type Ok = ();
            type Error = Failure;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
                self.element(value);
                Ok(())
            }

            fn end(self) -> Result<(), Failure> {
                self.close();
                Ok(())
            }
        }
    )*};
}

elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

impl ser::SerializeMap for Container<'_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        self.key.clear();
        let written = key.serialize(KeySerializer::new(&mut self.key));
        self.key_is_refused = written.is_err();
        if let Err(NotAKey(reason)) = written
            && !self.flattener.depth.muted
        {
            let parent = self.flattener.key_name();
            self.flattener.outcome.push(EnrichError::InvalidKey { parent, reason });
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        if !self.key_is_refused {
            let key = std::mem::take(&mut self.key);
            self.entry(&key, value);
            self.key = key; // keeps its memory for the next key
        }
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeStruct for Container<'_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        if let Some(name) = self.text {
            return self.json_struct(name, value);
        }
        self.entry(key, value);
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeStructVariant for Container<'_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.entry(key, value);
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        self.close();
        Ok(())
    }
}
