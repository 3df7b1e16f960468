//! The answers of the service. Some of them are wrong, so that there is something to correct.

/// Words of a question, and answers to it. Asked again, the next one is given.
const KNOWN: [(&[&str], &[&str]); 6] = [
    (
        &["capital", "new york"],
        &["The capital of New York is New York City.", "The capital of New York is Albany."],
    ),
    (
        &["capital", "australia"],
        &["The capital of Australia is Sydney.", "The capital of Australia is Canberra."],
    ),
    (
        &["far", "moon"],
        &[
            "The Moon is about 384,400 kilometres away, on average.",
            "About a light-second and a bit.",
        ],
    ),
    (
        &["wrote", "frankenstein"],
        &["Mary Shelley wrote Frankenstein.", "Frankenstein was written by Mary Shelley in 1818."],
    ),
    (&["feedback"], &["Say what you think of this answer, and look what arrives."]),
    (&["hello"], &["Hello! Ask me for the capital of New York."]),
];

const UNKNOWN: &[&str] =
    &["I don't know that. Ask me for the capital of New York.", "I still don't know."];

/// An answer to `question`; another one when it is asked again.
pub(crate) fn answer(question: &str) -> &'static str {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: [AtomicUsize; KNOWN.len() + 1] = [const { AtomicUsize::new(0) }; KNOWN.len() + 1];
    let question = question.to_lowercase();
    let is_known =
        |(words, _): &(&[&str], &[&str])| words.iter().all(|word| question.contains(word));
    let at = KNOWN.iter().position(is_known);
    let (answers, at) = at.map_or((UNKNOWN, KNOWN.len()), |at| (KNOWN[at].1, at));
    answers[ASKED[at].fetch_add(1, Ordering::Relaxed) % answers.len()]
}
