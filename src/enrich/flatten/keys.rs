//! Map keys, written as text.

use std::fmt::{self, Write as _};

use serde::ser::{self, Serialize};

use super::position::MOST_WRAPPERS;

/// The most characters of a key that came with a ticket.
const MOST_CHARACTERS: usize = 128;

/// Whether a full key may come with a ticket: from a client that may send anything.
pub(super) fn is_fit(key: &str) -> bool {
    // Most keys are short, and ASCII.
    if key.len() <= MOST_CHARACTERS && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return true;
    }
    key.chars().take(MOST_CHARACTERS + 1).count() <= MOST_CHARACTERS && key.chars().all(is_visible)
}

/// Whether a character is neither a space nor a control or format character, and is assigned. A mark that
/// combines with the character before it is visible.
fn is_visible(character: char) -> bool {
    /// Letters and marks that show nothing: fillers, joiners, and selectors of variants.
    const BLANK: [std::ops::RangeInclusive<char>; 9] = [
        '\u{034f}'..='\u{034f}',
        '\u{115f}'..='\u{1160}',
        '\u{17b4}'..='\u{17b5}',
        '\u{180b}'..='\u{180f}',
        '\u{2800}'..='\u{2800}',
        '\u{3164}'..='\u{3164}',
        '\u{fe00}'..='\u{fe0f}',
        '\u{ffa0}'..='\u{ffa0}',
        '\u{e0100}'..='\u{e01ef}',
    ];
    if character.is_whitespace() || BLANK.iter().any(|blank| blank.contains(&character)) {
        return false;
    }
    // `escape_debug` escapes what is not printable, and a combining mark only at the beginning of a text.
    let mut text = [b'a', 0, 0, 0, 0];
    let length = 1 + character.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
    text.escape_debug().count() == 2 || matches!(character, '"' | '\'' | '\\')
}

/// The beginning of a key, with invisible characters escaped, for an error.
pub(super) fn printable(key: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String = key
        .chars()
        .take(MOST)
        .flat_map(|it| {
            let visible = is_visible(it).then_some(it);
            let escaped = visible.is_none().then(|| it.escape_unicode());
            visible.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect();
    if key.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_tickets_are_short_and_visible() {
        let most = "k".repeat(MOST_CHARACTERS);
        let fit = [
            "feedback.step1.retry",
            "feedback.größe",
            "feedback.e\u{301}",
            "評価",
            "a\"'\\",
            &most,
        ];
        for key in fit {
            assert!(is_fit(key), "{key}");
        }
        let too_long = "k".repeat(MOST_CHARACTERS + 1);
        let unfit = [
            "a b",
            "a\0",
            "a\n",
            "\u{202e}a",
            "a\u{200b}",
            "\u{feff}a",
            "a\u{a0}",
            "\u{2028}",
            "\u{e000}",
            "\u{3164}",
            "a\u{fe0f}",
            "a\u{e0100}",
            "a\u{7f}",
            &too_long,
        ];
        for key in unfit {
            assert!(!is_fit(key), "{key:?}");
            assert!(printable(key).chars().all(|it| !it.is_control() && it != '\u{202e}'));
        }
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
    }
}
