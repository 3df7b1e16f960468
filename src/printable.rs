//! Foreign text in messages, log lines and terminals: keys, names and what other programs answer.

use std::fmt::{self, Display, Write};

/// The longest text that is shown whole, in characters: no key that people write is longer.
const MAX_CHARACTERS: usize = 256;

/// A text as it may stand in a log line or a terminal, where a line feed would begin a line of its
/// own, and an escape sequence or a bidirectional control would change what is shown around it.
/// Such characters are escaped as in a Rust string (`\n`, `\u{202e}`), and a long text is cut.
///
/// Which characters: control characters, and of Unicode's format characters those that reorder or
/// hide text ([UTS #55](https://www.unicode.org/reports/tr55/), `Bidi_Control`, tags, line and
/// paragraph separators).
#[derive(Clone, Copy)]
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.0.chars().enumerate() {
            if at == MAX_CHARACTERS {
                return write!(f, "… ({} bytes)", self.0.len());
            }
            write_character(f, character)?;
        }
        Ok(())
    }
}

/// As [`Printable`], and not cut.
pub(crate) fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    for character in text.chars() {
        let _ = write_character(&mut printed, character); // a `String` takes everything
    }
    printed
}

fn write_character(to: &mut impl Write, character: char) -> fmt::Result {
    if is_printable(character) {
        to.write_char(character)
    } else {
        write!(to, "{}", character.escape_default())
    }
}

/// Whether a character changes nothing around it.
pub(crate) fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_text_around_it_is_escaped() {
        for (text, printed) in [
            ("feedback.rating", "feedback.rating"),
            ("größe 日本 👩‍💻 \"quoted\" C:\\dir", "größe 日本 👩‍💻 \"quoted\" C:\\dir"),
            ("a\nERROR forged", "a\\nERROR forged"),
            ("\r\t\0", "\\r\\t\\u{0}"),
            ("\u{1b}[2J\u{9b}31m\u{7f}", "\\u{1b}[2J\\u{9b}31m\\u{7f}"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a\\u{202e}b\\u{2066}c\\u{200f}"),
            ("a\u{2028}b\u{2029}", "a\\u{2028}b\\u{2029}"),
            ("\u{feff}\u{200b}\u{e0041}", "\\u{feff}\\u{200b}\\u{e0041}"),
        ] {
            assert_eq!(printable(text), printed);
            assert_eq!(Printable(text).to_string(), printed);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let whole = "é".repeat(MAX_CHARACTERS);
        assert_eq!(Printable(&whole).to_string(), whole);
        let long = "é".repeat(MAX_CHARACTERS + 1);
        assert_eq!(Printable(&long).to_string(), format!("{whole}… (514 bytes)"));
    }
}
