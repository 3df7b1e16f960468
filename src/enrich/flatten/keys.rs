//! Map keys, written as text.

use std::fmt::{self, Write as _};

use serde::ser::{self, Serialize};

use super::position::MOST_WRAPPERS;

/// Writes a map key as text: strings, and the other types that `serde_json` accepts as keys.
pub(super) struct KeySerializer<'k> {
    text: &'k mut String,
    /// Newtypes around the key.
    wrappers: u32,
}

impl<'k> KeySerializer<'k> {
    pub(super) fn new(text: &'k mut String) -> Self {
        Self { text, wrappers: 0 }
    }
}

/// The reason why a value can't be a key.
#[derive(Debug)]
pub(super) struct NotAKey(pub(super) &'static str);

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotAKey {}

impl ser::Error for NotAKey {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self("could not be serialized")
    }
}

const NOT_A_STRING: NotAKey = NotAKey("is not a string");

macro_rules! displayed_keys {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result<(), NotAKey> {
            let _ = write!(self.text, "{value}"); // writing to a `String` can't fail
            Ok(())
        }
    )*};
}

impl ser::Serializer for KeySerializer<'_> {
    type Ok = ();
    type Error = NotAKey;
    type SerializeSeq = ser::Impossible<(), NotAKey>;
    type SerializeTuple = ser::Impossible<(), NotAKey>;
    type SerializeTupleStruct = ser::Impossible<(), NotAKey>;
    type SerializeTupleVariant = ser::Impossible<(), NotAKey>;
    type SerializeMap = ser::Impossible<(), NotAKey>;
    type SerializeStruct = ser::Impossible<(), NotAKey>;
    type SerializeStructVariant = ser::Impossible<(), NotAKey>;

    displayed_keys! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), NotAKey> {
        write!(self.text, "{value}").map_err(|_| NotAKey("could not be formatted"))
    }

    fn serialize_f32(self, _: f32) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_f64(self, _: f64) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_none(self) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_unit(self) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), NotAKey> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotAKey> {
        if self.wrappers >= MOST_WRAPPERS {
            return Err(NotAKey("nests too deep"));
        }
        value.serialize(KeySerializer { wrappers: self.wrappers + 1, ..self })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, NotAKey> {
        Err(NOT_A_STRING)
    }
}
