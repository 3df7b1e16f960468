//! The texts of lists, which show their beginning only: one row of whole inputs and outputs may have megabytes.

use serde_json::Value as Json;

/// Characters of one text of a row.
const LONGEST_TEXT: usize = 1_000;
/// Characters of all texts of a row, and values, together.
const LONGEST_ROW: usize = 16_000;
/// What identifies something, and is not cut: a part of it would be another.
const WHOLE: [&str; 6] = ["trace_id", "span_id", "session_id", "field", "given", "start"];

/// Cuts the rows of a list. A text that is cut ends with `…`, and its row has `cut: true`.
pub(super) fn shorten(list: &mut Json) {
    for key in ["rows", "list"] {
        let Some(Json::Array(rows)) = list.get_mut(key) else { continue };
        for row in rows.iter_mut().filter_map(Json::as_object_mut) {
            let mut left = LONGEST_ROW;
            let mut is_cut = false;
            // The members of a row stay: its reader expects them. Its own texts come first, so that a comment isn't
            // lost to a long output.
            for is_own in [true, false] {
                let members = row.iter_mut().filter(|(key, value)| !is_whole(key, value));
                for (_, value) in members.filter(|(_, value)| value.is_string() == is_own) {
                    is_cut |= cut(value, &mut left);
                }
            }
            if is_cut {
                row.insert("cut".to_owned(), Json::Bool(true));
            }
        }
    }
}

fn is_whole(key: &str, value: &Json) -> bool {
    WHOLE.contains(&key) && !matches!(value, Json::Array(_) | Json::Object(_))
}

/// Cuts what is in a value. Returns whether anything was cut.
fn cut(value: &mut Json, left: &mut usize) -> bool {
    match value {
        Json::String(text) => {
            let most = LONGEST_TEXT.min(*left);
            let end = text.char_indices().nth(most).map(|(end, _)| end);
            *left -= match end {
                Some(_) => most,
                None => text.chars().count(),
            };
            if let Some(end) = end {
                text.truncate(end);
                text.push('…');
            }
            end.is_some()
        }
        Json::Array(values) => {
            let shown = values.len().min(*left);
            let mut is_cut = shown < values.len();
            values.truncate(shown);
            *left -= shown;
            for value in values {
                is_cut |= cut(value, left);
            }
            is_cut
        }
        Json::Object(map) => {
            let before = map.len();
            let mut is_cut = false;
            map.retain(|key, value| {
                if is_whole(key, value) {
                    return true;
                }
                if *left == 0 {
                    return false;
                }
                *left = left.saturating_sub(key.chars().count().max(1));
                is_cut |= cut(value, left);
                true
            });
            is_cut || map.len() < before
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character_and_marked() {
        let long = "ü".repeat(LONGEST_TEXT + 1);
        let id = "i".repeat(LONGEST_TEXT + 1);
        let mut list = json!({ "rows": [
            { "text": long, "session_id": id },
            { "text": "ü".repeat(LONGEST_TEXT), "about": { "input": { "a": ["b", 1] } } },
        ]});
        let whole = list["rows"][1].clone();
        shorten(&mut list);
        let expected = "ü".repeat(LONGEST_TEXT) + "…";
        assert_eq!(list["rows"][0], json!({ "text": expected, "session_id": id, "cut": true }));
        assert_eq!(list["rows"][1], whole);
    }

    #[test]
    fn the_texts_of_a_row_come_before_what_is_nested_in_it() {
        let output: Vec<_> = (0..30).map(|_| "x".repeat(LONGEST_TEXT)).collect();
        let mut list = json!({ "rows": [{ "output": output, "text": "a comment" }] });
        shorten(&mut list);
        let row = &list["rows"][0];
        assert_eq!((&row["text"], &row["cut"]), (&json!("a comment"), &json!(true)));
    }

    #[test]
    fn a_row_has_a_limit_of_its_own() {
        let many: Vec<_> = (0..100_000).map(|at| json!([{ "a": at }, "text"])).collect();
        let map: serde_json::Map<_, _> =
            (0..100).map(|at| (format!("k{at}"), Json::from("x".repeat(900)))).collect();
        let mut list = json!({ "rows": [{ "output": many, "z": 1 }, { "input": map }] });
        shorten(&mut list);
        for row in list["rows"].as_array().unwrap() {
            assert_eq!(row["cut"], true);
            assert!(row.to_string().len() < 20 * LONGEST_ROW);
        }
    }
}
