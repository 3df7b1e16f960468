//! Text of foreign values, whose `Debug` or `Display` may return an error, as that of a date does for
//! an invalid format.
//!
//! `format!` and `to_string` panic then. Here the part that was written is kept, with a mark.

use std::fmt;

/// Follows the part that was written of a value whose formatting failed.
pub(crate) const FAILED: &str = "… (formatting failed)";

/// The text of `value`, and whether it is complete.
pub(crate) fn text(value: fmt::Arguments<'_>) -> (String, bool) {
    let mut text = String::new();
    let is_complete = fmt::Write::write_fmt(&mut text, value).is_ok();
    if !is_complete {
        text.push_str(FAILED);
    }
    (text, is_complete)
}
