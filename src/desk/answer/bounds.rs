//! Limits of what is kept of an answer. Its attributes come from anywhere: a conversation may have thousands of
//! messages, and a part may be an image of megabytes. What is kept is enough for a reader; the attributes
//! themselves are shown beside it as they came.

use serde_json::{Map, Value as Json};

use crate::desk::query::datum::Datum;

/// Messages of an input, and of an output: the last ones.
pub(super) const MOST_MESSAGES: usize = 200;
/// Parts of a message: the first ones.
pub(super) const MOST_PARTS: usize = 100;
pub(super) const MOST_TOOLS: usize = 100;
/// Characters of one text.
pub(super) const LONGEST_TEXT: usize = 200_000;
/// Characters of a role, a name, an id.
pub(super) const LONGEST_NAME: usize = 400;
/// Characters of all texts together.
pub(super) const LONGEST_ANSWER: usize = 1_000_000;
/// Values in all JSON of an answer.
pub(super) const MOST_VALUES: usize = 20_000;
/// Levels of a value of JSON, and of the parts of a key.
pub(super) const DEEPEST: usize = 24;
/// Bytes of a text that is parsed as JSON.
const LONGEST_JSON: usize = 8 << 20;

/// What may still be kept of an answer.
pub(super) struct Budget {
    characters: usize,
    values: usize,
    /// Whether anything was left out.
    pub(super) is_cut: bool,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { characters: LONGEST_ANSWER, values: MOST_VALUES, is_cut: false }
    }

    /// A text, or its beginning with `…`.
    pub(super) fn text(&mut self, text: &str) -> String {
        self.beginning(text, LONGEST_TEXT)
    }

    pub(super) fn name(&mut self, name: &str) -> String {
        self.beginning(name, LONGEST_NAME)
    }

    fn beginning(&mut self, text: &str, most: usize) -> String {
        let most = most.min(self.characters);
        match text.char_indices().nth(most) {
            None => {
                self.characters -= text.chars().count();
                text.to_owned()
            }
            Some((end, _)) => {
                self.characters -= most;
                self.is_cut = true;
                format!("{}…", &text[..end])
            }
        }
    }

    /// A value without what is too much of it. An integer that a reader might round becomes a text, as in all
    /// answers of the API.
    pub(super) fn value(&mut self, value: &Json) -> Json {
        self.level(value, DEEPEST)
    }

    fn level(&mut self, value: &Json, levels: usize) -> Json {
        if self.values == 0 || levels == 0 {
            self.is_cut = true;
            return Json::from("…");
        }
        self.values -= 1;
        match value {
            Json::String(text) => Json::String(self.text(text)),
            Json::Number(number) => match (number.as_i64(), number.is_u64()) {
                (Some(int), _) => serde_json::to_value(Datum::Int(int)).unwrap_or_default(),
                (None, true) => Json::String(number.to_string()),
                (None, false) => value.clone(),
            },
            Json::Array(values) => {
                let shown = values.len().min(self.values);
                self.is_cut |= shown < values.len();
                values[..shown].iter().map(|value| self.level(value, levels - 1)).collect()
            }
            Json::Object(map) => {
                let shown = map.len().min(self.values);
                self.is_cut |= shown < map.len();
                let mut kept = Map::new();
                for (key, value) in map.iter().take(shown) {
                    let key = self.name(key);
                    kept.insert(key, self.level(value, levels - 1));
                }
                Json::Object(kept)
            }
            Json::Null | Json::Bool(_) => value.clone(),
        }
    }
}

/// An object or an array that is written as text.
pub(super) fn parsed(text: &str) -> Option<Json> {
    let is_candidate = text.len() <= LONGEST_JSON && text.trim_start().starts_with(['{', '[']);
    // A text of more than 128 levels is refused, and is a text then.
    is_candidate.then(|| serde_json::from_str(text).ok()).flatten()
}
