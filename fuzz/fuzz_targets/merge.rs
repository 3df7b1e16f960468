//! Any sequence of changes to a document: the invariants hold, and folding does not depend on the
//! order in which submissions arrived.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opentelemetry::trace::SpanId;
use tracing_feedback::fold::Document;
use tracing_feedback::fold::{Submission, fold};

#[derive(Arbitrary, Debug)]
enum Change {
    Set(Key, i8),
    Remove(Key),
    Apply(Vec<(bool, Key, i8)>),
}

/// Few segments, so that keys meet; some of them sort around the dot.
#[derive(Arbitrary, Debug)]
enum Key {
    Path(Vec<Segment>),
    Any(String),
}

#[derive(Arbitrary, Debug)]
enum Segment {
    A,
    B,
    Ab,
    Dash,
    Zero,
}

impl Key {
    fn text(&self) -> String {
        let mut text = String::from("feedback");
        match self {
            Self::Path(segments) => {
                for segment in segments {
                    text.push('.');
                    text.push_str(match segment {
                        Segment::A => "a",
                        Segment::B => "b",
                        Segment::Ab => "ab",
                        Segment::Dash => "a-b",
                        Segment::Zero => "0",
                    });
                }
            }
            Self::Any(any) => {
                text.push('.');
                text.push_str(any);
            }
        }
        text
    }
}

fn is_under(key: &str, root: &str) -> bool {
    key.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'))
}

fn check(document: &Document<i8>) {
    let keys: Vec<_> = document.leaves().map(|(key, _)| key).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "sorted, and each once");
    for key in keys.iter().filter(|key| **key != "feedback") {
        let under = keys.iter().find(|root| **root != "feedback" && is_under(key, root));
        assert!(under.is_none(), "{key} lies under {under:?}");
    }
    let cleared: Vec<_> = document.cleared().collect();
    for (at, key) in cleared.iter().enumerate() {
        let mut others = cleared.iter().enumerate().filter(|(other, _)| *other != at);
        assert!(others.all(|(_, root)| key != root && !is_under(key, root)), "{cleared:?}");
    }
}

fuzz_target!(|changes: Vec<Change>| {
    let mut document = Document::default();
    let mut submissions = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        let mut patch = Document::default();
        match change {
            Change::Set(key, value) => patch.set(key.text(), *value),
            Change::Remove(key) => patch.remove(key.text()),
            Change::Apply(changes) => {
                for (is_set, key, value) in changes {
                    match is_set {
                        true => patch.set(key.text(), *value),
                        false => patch.remove(key.text()),
                    }
                }
            }
        }
        check(&patch);
        let leaves = patch.leaves().map(|(key, value)| (key.to_owned(), *value));
        let submission = Submission::new(SpanId::from(1000 - at as u64), at as u64, leaves)
            .with_cleared(patch.cleared().map(str::to_owned));
        submissions.push(submission);
        document.apply(patch);
        check(&document);
    }
    let folded = fold([], submissions.clone());
    let merged = document.leaves().map(|(key, value)| (key.to_owned(), *value)).collect();
    assert_eq!(folded, merged);
    submissions.reverse();
    submissions.extend(submissions.clone());
    assert_eq!(fold([], submissions), merged);
});
