//! JSON for a terminal.

use std::fmt::Write as _;

use crate::printable::is_printable;

/// JSON in which characters that change the text around them are escaped as JSON does it (`\u202e`): the same
/// value. Outside of strings JSON has none of them but line feeds, which are in no string.
pub(super) fn printable_json(json: &str) -> String {
    let mut printed = String::with_capacity(json.len());
    for character in json.chars() {
        if is_printable(character) || character == '\n' {
            printed.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(printed, "\\u{unit:04x}"); // a `String` takes everything
            }
        }
    }
    printed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_value() {
        let text = "a\u{202e}b\u{7f}\u{9b}\u{e0041}\n\"\\\u{1b}größe 👩‍💻";
        let printed = printable_json(&serde_json::to_string(text).unwrap());
        assert!(printed.contains("a\\u202eb\\u007f\\u009b\\udb40\\udc41\\n"), "{printed}");
        assert!(printed.chars().all(is_printable), "{printed:?}");
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
    }
}
