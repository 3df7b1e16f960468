//! What a backend is made of besides its URL.

use std::collections::BTreeMap;

/// The parameters and secrets of one backend.
pub(super) struct BackendSetup {
    parameters: BTreeMap<String, String>,
    secrets: BTreeMap<&'static str, String>,
}

impl BackendSetup {
    pub(super) fn new(
        parameters: BTreeMap<String, String>,
        secrets: BTreeMap<&'static str, String>,
    ) -> Self {
        Self { parameters, secrets }
    }

    /// For tests of a backend.
    #[cfg(test)]
    pub(super) fn of(parameters: &[(&str, &str)], secrets: &[(&'static str, &str)]) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            parameters: parameters.iter().map(owned).collect(),
            secrets: secrets.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        }
    }

    /// The value of a variable of the environment.
    pub(super) fn secret(&self, name: &str) -> Option<&str> {
        self.secrets.get(name).map(String::as_str)
    }

    /// Every secret, to be left out of what is written down.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.secrets.values().cloned().collect()
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// A text as a part of a path or query.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(out, "{}", char::from(byte))
            }
            byte => write!(out, "%{byte:02X}"),
        }; // a String takes all
        out
    })
}

/// The text of a part of a query; `None` if it is not UTF-8.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}
