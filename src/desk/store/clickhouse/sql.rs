//! The text of queries: literals, and the templates in the folder `sql`.

use std::fmt::{self, Display, Write};

/// A string literal. Whatever the text holds, it ends where the text does.
/// <https://clickhouse.com/docs/sql-reference/syntax#string>
pub(super) fn text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for character in text.chars() {
        match character {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// A name of a table or column.
pub(super) fn name(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// An array of string literals.
pub(super) fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<_> = texts.into_iter().map(|each| text(each.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// String literals with commas between, for `IN (…)`: never without one, for that is no list.
pub(super) fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<_> = texts.into_iter().map(|each| text(each.as_ref())).collect();
    if quoted.is_empty() { "NULL".to_owned() } else { quoted.join(", ") }
}

/// A number as a literal that is read as the same number.
pub(super) fn number(number: f64) -> String {
    if number.is_finite() {
        format!("toFloat64({number:e})")
    } else {
        format!("toFloat64({})", text(if number > 0.0 { "inf" } else { "-inf" }))
    }
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Conjunction(Vec<String>);

impl Conjunction {
    pub(super) fn and(mut self, condition: impl Into<String>) -> Self {
        self.0.push(condition.into());
        self
    }
}

impl Display for Conjunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("1");
        }
        for (at, condition) in self.0.iter().enumerate() {
            write!(f, "{}({condition})", if at == 0 { "" } else { " AND " })?;
        }
        Ok(())
    }
}

/// A template with its `{names}` filled in. The templates are ours: a name that is not given stays as
/// it is, and is an error in every test.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, behind)) = after.split_once('}') else { break };
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => filled.push_str(value),
            None => {
                let _ = write!(filled, "{{{name}}}"); // a String takes all
            }
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_ends_where_its_text_does() {
        assert_eq!(text(r"it's a \ b"), r"'it\'s a \\ b'");
        assert_eq!(text(r"\' OR 1 --"), r"'\\\' OR 1 --'");
        assert_eq!(text("a\0b\n"), "'a\\0b\n'");
        assert_eq!(name("a`b"), r"`a\`b`");
        assert_eq!(list(["a", "b'"]), r"'a', 'b\''");
        assert_eq!((list([""; 0]), texts([""; 0])), ("NULL".to_owned(), "[]".to_owned()));
        assert_eq!(number(-0.5), "toFloat64(-5e-1)");
        assert_eq!(number(f64::INFINITY), "toFloat64('inf')");
    }

    #[test]
    fn a_template_is_filled_in_by_names() {
        assert_eq!(fill("{a} and {b}{a}", &[("a", "x"), ("b", "{a}")]), "x and {a}x");
        assert_eq!(fill("{a} {c}", &[("a", "x")]), "x {c}");
    }
}
