use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use proptest::prelude::*;

use super::binary::{Claims, MOST_BYTES, Namespaces};
use super::issue::issue_at;
use super::*;
use crate::feedback::document::NAMESPACES;

/// The end of January 2026, in milliseconds.
const NOW: u64 = 1_769_900_000_000;

fn keys() -> TicketKeys {
    TicketKeys::new([[7; 32]]).unwrap()
}

fn span(trace_id: u128, span_id: u64, flags: u8) -> SpanContext {
    let (trace_id, span_id) = (TraceId::from(trace_id), SpanId::from(span_id));
    SpanContext::new(trace_id, span_id, TraceFlags::new(flags), true, TraceState::NONE)
}

fn answer() -> SpanContext {
    span(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331, 1)
}

fn issued(options: &TicketOptions) -> Result<Ticket, TicketError> {
    let session = Session::with_id("conversation-42").unwrap();
    issue_at(&keys(), Some(&answer()), Some(session), options, NOW)
}

fn ticket() -> Ticket {
    issued(&TicketOptions::new()).unwrap()
}

fn verified(text: &str, milliseconds: u64) -> Result<Ticket, TicketError> {
    keys().verifier().verify_at(text, time(milliseconds))
}

/// The text of any bytes, signed as by a service that has the key and a bug.
fn signed(bytes: &[u8]) -> String {
    let signature = keys().all()[0].signature(bytes).finalize().into_bytes();
    URL_SAFE_NO_PAD.encode([bytes, signature.as_slice()].concat())
}

// ---- the bytes ---------------------------------------------------------------------------------

/// Computed by other means: tickets outlive the version of this crate that has issued them.
#[test]
fn the_text_of_a_ticket_stays_what_it_is() {
    let mut namespaces = Namespaces::default();
    namespaces.insert("feedback");
    namespaces.insert("metadata");
    let claims = Claims {
        span: Some(answer()),
        session: Some(Session::with_id("conversation-42").unwrap()),
        issued: NOW,
        expires: NOW + 60_000,
        nonce: *b"nonce  8",
        subject: None,
        namespaces,
        keys: vec!["rating".to_owned(), "comment".to_owned()],
    };
    let text = "ARkK92UZFs1D3YRI6yEcgDGct61rcWkgMzEBD2NvbnZlcnNhdGlvbi00MggAAAGcFkLDAAgAAAGcFkOtYAhub25jZSAgOAABBQZyYXRpbmcHY29tbWVudFeohqqbUu-l-0Qzlh4rYWhptkavTO8hlZetndFozGUL";
    assert_eq!(signed(&claims.encode()), text);
    let ticket = verified(text, NOW).unwrap();
    assert_eq!(ticket.inner.claims, claims);

    let subject = keys().all()[0].subject(&claims.target(), "user-17").finalize().into_bytes();
    assert_eq!(URL_SAFE_NO_PAD.encode(&subject[..16]), "JSvyfNZ8CJ3QrFILfQcEVg");
}

#[test]
fn what_is_signed_is_not_taken_on_trust() {
    let good = ticket().inner.claims.encode();
    assert!(verified(&signed(&good), NOW).is_ok());
    let malformed: &[(&str, Vec<u8>)] = &[
        ("only a version", vec![1]),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("an empty key is allowed, half a one isn't", [&good, b"\x02a".as_slice()].concat()),
        ("a key that isn't UTF-8", [&good, b"\x01\xff".as_slice()].concat()),
        ("a short span", [b"\x01\x18", &good[2..26], &good[27..]].concat()),
        ("no trace id", [&good[..2], &[0; 16], &good[18..]].concat()),
        ("no span id", [&good[..18], &[0; 8], &good[26..]].concat()),
        ("no session id", [&good[..28], b"two words 12345", &good[43..]].concat()),
        ("neither span nor session", [b"\x01\0\0", &good[43..]].concat()),
        ("after the year 9999", [&good[..44], &[0xff; 8], &good[52..]].concat()),
        ("no namespace", [&good[..good.len() - 1], &[0]].concat()),
        ("an unknown namespace", [&good[..good.len() - 1], &[0x80]].concat()),
        ("many namespaces", [&good[..good.len() - 2], b"\x02\x01\x01"].concat()),
    ];
    for (what, bytes) in malformed {
        assert_eq!(verified(&signed(bytes), NOW), Err(TicketError::Malformed), "{what}");
    }
    let mut newer = good.clone();
    newer[0] = 2;
    assert_eq!(verified(&signed(&newer), NOW), Err(TicketError::UnknownVersion { version: 2 }));
}

#[test]
fn a_text_that_is_no_ticket_is_malformed_and_a_foreign_one_has_a_bad_signature() {
    let text = ticket().to_string();
    for malformed in ["", "A", "AQ", "AQ==", "ü", "AQ AQ", "AQ\n", &format!("{text}="), &text[1..]]
    {
        let refused = verified(malformed, NOW).unwrap_err();
        let is_one = matches!(refused, TicketError::Malformed | TicketError::UnknownVersion { .. });
        assert!(is_one, "{malformed}: {refused}");
    }
    let foreign = TicketKeys::new([[8; 32]]).unwrap();
    let foreign = issue_at(&foreign, Some(&answer()), None, &TicketOptions::new(), NOW).unwrap();
    assert_eq!(verified(foreign.as_str(), NOW), Err(TicketError::BadSignature));
    let unsigned = URL_SAFE_NO_PAD.encode([1; 100]);
    assert_eq!(verified(&unsigned, NOW), Err(TicketError::BadSignature));
}

#[test]
fn a_ticket_has_at_most_512_characters() {
    let of = |length: usize| {
        let names = ["x".repeat(128), "y".repeat(64), "z".repeat(length)];
        issued(&TicketOptions::new().with_keys(names))
    };
    let longest = (1..=128).map_while(|length| of(length).ok()).last().unwrap();
    assert_eq!(longest.as_str().len(), 512);
    assert!(verified(longest.as_str(), NOW).is_ok());
    let length = longest.keys().unwrap().last().unwrap().len() + 1;
    let error = of(length).unwrap_err();
    assert_eq!(error, TicketError::TooLong { length: 514 });
    assert!(error.to_string().contains("at most 512 characters"), "{error}");

    let text = format!("{longest}A");
    assert_eq!(verified(&text, NOW), Err(TicketError::TooLong { length: 513 }));
    let bytes = ticket().inner.claims.encode();
    let padded = [bytes.clone(), vec![0; MOST_BYTES - 31 - bytes.len()]].concat();
    assert!(matches!(verified(&signed(&padded), NOW), Err(TicketError::TooLong { .. })));
}

// ---- times -------------------------------------------------------------------------------------

#[test]
fn a_ticket_is_accepted_until_the_millisecond_before_it_expires() {
    let options = TicketOptions::new().with_time_to_live(Duration::from_millis(1500));
    let ticket = issued(&options).unwrap();
    let text = ticket.as_str();
    assert_eq!((ticket.issued_at(), ticket.expires_at()), (time(NOW), time(NOW + 1500)));
    for (now, expected) in [
        (NOW, Ok(())),
        (NOW + 1499, Ok(())),
        (NOW + 1500, Err(TicketError::Expired)),
        (NOW + 1501, Err(TicketError::Expired)),
        (u64::MAX / 1_000_000, Err(TicketError::Expired)),
    ] {
        assert_eq!(verified(text, now).map(drop), expected, "{now}");
    }
}

#[test]
fn clocks_may_differ_by_a_minute_by_default() {
    let ticket = ticket();
    let text = ticket.as_str();
    assert!(verified(text, NOW - 60_000).is_ok());
    assert_eq!(verified(text, NOW - 60_001), Err(TicketError::NotYetValid));
    let before_all = std::time::UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(keys().verifier().verify_at(text, before_all), Err(TicketError::NotYetValid));

    let exact = keys().verifier().with_clock_skew(Duration::ZERO);
    assert!(exact.verify_at(text, time(NOW)).is_ok());
    assert_eq!(exact.verify_at(text, time(NOW - 1)), Err(TicketError::NotYetValid));
    let any = keys().verifier().with_clock_skew(Duration::MAX);
    assert!(any.verify_at(text, before_all).is_ok());
}

#[test]
fn a_ticket_lives_for_a_millisecond_to_ten_years() {
    let years = 10 * 365 * 24 * 60 * 60;
    let of = |time_to_live| issued(&TicketOptions::new().with_time_to_live(time_to_live));
    for given in [
        Duration::ZERO,
        Duration::from_nanos(999_999),
        Duration::from_secs(years) + Duration::from_nanos(1),
        Duration::MAX,
    ] {
        assert_eq!(of(given), Err(TicketError::InvalidTimeToLive { given }));
    }
    assert!(of(Duration::from_millis(1)).is_ok());
    let long = of(Duration::from_secs(years)).unwrap();
    assert!(verified(long.as_str(), NOW + years * 1000 - 1).is_ok());
}

// ---- keys --------------------------------------------------------------------------------------

#[test]
fn verifiers_follow_the_rotation_of_keys() {
    let [old, new, newest] = [[1; 32], [2; 32], [3; 32]];
    let keys = TicketKeys::new([old]).unwrap();
    let verifier = keys.clone().verifier();
    let issue = || issue_at(&keys, Some(&answer()), None, &TicketOptions::new(), NOW).unwrap();
    let is_accepted = |ticket: &Ticket| verifier.verify_at(ticket.as_str(), time(NOW)).is_ok();

    let first = issue();
    keys.set(TicketKeys::new([new, old]).unwrap());
    let second = issue();
    assert!(is_accepted(&first) && is_accepted(&second));
    keys.set(TicketKeys::new([newest, new]).unwrap());
    assert!(!is_accepted(&first) && is_accepted(&second) && is_accepted(&issue()));
    keys.set(keys.clone()); // by itself: nothing changes, and nothing hangs
    assert_eq!(keys.len(), 2);
    keys.set(TicketKeys::default());
    assert_eq!(verifier.verify(second.as_str()), Err(TicketError::NoKeys));
}

#[test]
fn an_older_key_also_verifies_its_subjects() {
    let keys = TicketKeys::new([[1; 32]]).unwrap();
    let options = TicketOptions::new().with_subject("user-17");
    let ticket = issue_at(&keys, Some(&answer()), None, &options, NOW).unwrap();
    keys.set(TicketKeys::new([[2; 32], [1; 32]]).unwrap());
    let verifier = keys.verifier().with_subject("user-17");
    assert!(verifier.verify_at(ticket.as_str(), time(NOW)).is_ok());
}

#[test]
fn without_keys_nothing_is_issued_and_the_error_says_how_to_have_some() {
    let none = TicketKeys::default();
    let error = issue_at(&none, Some(&answer()), None, &TicketOptions::new(), NOW).unwrap_err();
    assert_eq!(error, TicketError::NoKeys);
    for way in ["with_ticket_keys", "FEEDBACK_TICKET_KEYS"] {
        assert!(error.to_string().contains(way), "{error}");
    }
    assert_eq!(none.verifier().verify(ticket().as_str()), Err(TicketError::NoKeys));
}

#[test]
fn keys_are_read_from_text_with_and_without_padding() {
    let first = "UjGNnMuuKexd4cZLLhxVsmmmZ-WzgHTBGWHqPO3pXqA";
    let second = "b8ZOJZnSOZd1BAsaz4FrxRIAV1ngyGkTTVpGBWi7Sb0=";
    let keys: TicketKeys = format!(" {first} , ,{second},").parse().unwrap();
    assert_eq!(keys.len(), 2);
    for (text, error) in [
        ("", TicketKeyError::Empty),
        (" , ", TicketKeyError::Empty),
        ("s3cret!", TicketKeyError::NotBase64 { position: 1 }),
        (&format!("{first},s3 cret"), TicketKeyError::NotBase64 { position: 2 }),
        ("UjGNnMuuKexd4cZLLhxVsmmmZ+WzgHTBGWHqPO3pXqA", TicketKeyError::NotBase64 { position: 1 }),
        ("c2VjcmV0", TicketKeyError::TooShort { position: 1, length: 6 }),
        (&format!("{first},AAAA"), TicketKeyError::TooShort { position: 2, length: 3 }),
    ] {
        let refused = text.parse::<TicketKeys>().unwrap_err();
        assert_eq!(refused, error);
        assert!(!refused.to_string().contains("cret"), "{refused}");
    }
    assert!(TicketKeys::new([vec![1; 31]]).is_err());
    assert!(TicketKeys::new([vec![1; 32], vec![2; 1000]]).is_ok());
}

// ---- subjects ----------------------------------------------------------------------------------

#[test]
fn a_ticket_for_one_subject_is_refused_for_any_other() {
    let ticket = issued(&TicketOptions::new().with_subject("user-17")).unwrap();
    let of = |subject: &str| {
        let verifier = keys().verifier().with_subject(subject);
        verifier.verify_at(ticket.as_str(), time(NOW)).map(|ticket| ticket.has_subject())
    };
    assert_eq!(of("user-17"), Ok(true));
    for other in ["user-18", "user-1", "user-177", "", "USER-17"] {
        assert_eq!(of(other), Err(TicketError::WrongSubject), "{other}");
    }
    assert_eq!(verified(ticket.as_str(), NOW), Err(TicketError::SubjectMissing));

    // A ticket without a subject.
    let verifier = keys().verifier().with_subject("user-17");
    assert!(verifier.verify_at(self::ticket().as_str(), time(NOW)).is_ok());
    assert_eq!(issued(&TicketOptions::new().with_subject("")), Err(TicketError::EmptySubject));
}

#[test]
fn a_ticket_does_not_reveal_its_subject() {
    let options = TicketOptions::new().with_subject("user-17");
    let hash = |span| {
        let ticket = issue_at(&keys(), Some(&span), None, &options, NOW).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(ticket.as_str()).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"user-17"));
        ticket.inner.claims.subject.unwrap()
    };
    assert_eq!(hash(answer()), hash(answer()));
    assert_ne!(hash(answer()), hash(span(1, 1, 1)), "nor that two tickets are of one subject");
}

#[test]
fn the_holder_of_a_ticket_is_its_subject_or_the_ticket_itself() {
    let of = |options: &TicketOptions| issued(options).unwrap();
    let (one, other) = (ticket(), ticket());
    assert_ne!(one.holder(), other.holder());
    let again = verified(one.as_str(), NOW).unwrap();
    assert_eq!(one.holder(), again.holder());

    let [seventeen, eighteen] =
        ["user-17", "user-18"].map(|subject| TicketOptions::new().with_subject(subject));
    assert_eq!(of(&seventeen).holder(), of(&seventeen).holder());
    assert_ne!(of(&seventeen).holder(), of(&eighteen).holder());
    assert_ne!(of(&seventeen).holder(), one.holder());
}

// ---- what it allows ----------------------------------------------------------------------------

#[test]
fn a_ticket_allows_feedback_by_default() {
    let ticket = ticket();
    assert!(ticket.namespaces().eq(["feedback"]) && ticket.keys().is_none());
    for allowed in ["feedback", "feedback.a", "feedback.a.b", "feedback.a-b"] {
        assert!(ticket.permits(allowed), "{allowed}");
    }
    for refused in
        ["metrics", "metrics.a", "feedbacks.a", "feedbac", "", ".a", "honeyhive_feedback"]
    {
        assert!(!ticket.permits(refused), "{refused}");
    }
}

#[test]
fn a_ticket_allows_the_top_level_keys_it_names() {
    let options =
        TicketOptions::new().with_namespaces(["metrics", "feedback"]).with_keys(["a", "b"]);
    let ticket = verified(issued(&options).unwrap().as_str(), NOW).unwrap();
    assert!(ticket.namespaces().eq(["feedback", "metrics"]));
    assert!(ticket.keys().unwrap().eq(["a", "b"]));
    for allowed in ["feedback.a", "feedback.b.c", "metrics.a"] {
        assert!(ticket.permits(allowed), "{allowed}");
    }
    // Setting the namespace as a whole is more than setting its keys.
    for refused in ["feedback", "feedback.c", "feedback.ab", "feedback.", "config.a", "metrics"] {
        assert!(!ticket.permits(refused), "{refused}");
    }
    let key = "feedback.c".to_owned();
    assert_eq!(ticket.check("feedback", "c"), Err(TicketError::NotAllowed { key }));
    assert_eq!(ticket.check("metrics", "b"), Ok(()));
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let options = TicketOptions::new;
    let none: [&str; 0] = [];
    assert_eq!(issued(&options().with_namespaces(none)), Err(TicketError::NoNamespace));
    let namespace = "feedbacks".to_owned();
    let refused = issued(&options().with_namespaces(["feedback", "feedbacks"]));
    assert_eq!(refused, Err(TicketError::UnknownNamespace { namespace }));
    for bad in ["", "a.b", ".", &"x".repeat(129)] {
        let refused = issued(&options().with_keys(["good", bad])).unwrap_err();
        assert!(
            matches!(refused, TicketError::InvalidKey { ref key, .. } if key == bad),
            "{refused}"
        );
    }
    assert!(issued(&options().with_namespaces(NAMESPACES)).is_ok());
}

// ---- what is shown -----------------------------------------------------------------------------

#[test]
fn nothing_secret_is_shown() {
    let keys: TicketKeys = "UjGNnMuuKexd4cZLLhxVsmmmZ-WzgHTBGWHqPO3pXqA".parse().unwrap();
    assert_eq!(format!("{keys:?}"), "TicketKeys { len: 1, .. }");
    let options = TicketOptions::new().with_subject("user-17");
    let verifier = keys.verifier().with_subject("user-17");
    let ticket = issued(&options).unwrap();
    for shown in [format!("{options:?}"), format!("{verifier:?}"), format!("{ticket:?}")] {
        assert!(!shown.contains("user-17"), "{shown}");
        assert!(!shown.contains(&ticket.as_str()[ticket.as_str().len() - 43..]), "{shown}");
        assert!(shown.contains("has_subject: true"), "{shown}");
    }
    assert_eq!(serde_json::to_value(&ticket).unwrap(), ticket.as_str());
}

// ---- anything at all ---------------------------------------------------------------------------

prop_compose! {
    fn any_options()(
        milliseconds in 1..=315_360_000_000_u64,
        namespaces in proptest::sample::subsequence(NAMESPACES.to_vec(), 1..=NAMESPACES.len()),
        keys in proptest::collection::vec("[^.]{1,8}", 0..4),
        subject in proptest::option::of(".{1,40}"),
    ) -> TicketOptions {
        let options = TicketOptions::new()
            .with_time_to_live(Duration::from_millis(milliseconds))
            .with_namespaces(namespaces)
            .with_keys(keys);
        match subject {
            Some(subject) => options.with_subject(subject),
            None => options,
        }
    }
}

prop_compose! {
    fn any_ticket()(
        span in proptest::option::of((1..=u128::MAX, 1..=u64::MAX, any::<u8>())),
        id in "[!#-+\\--:<-\\[\\]-~&&[^%]]{1,100}",
        has_session in any::<bool>(),
        options in any_options(),
        now in 0..LAST,
    ) -> (Ticket, TicketOptions, u64) {
        let is_needed = has_session || span.is_none();
        let session = is_needed.then(|| Session::with_id(id).unwrap());
        let span = span.map(|(trace_id, span_id, flags)| self::span(trace_id, span_id, flags));
        (issue_at(&keys(), span.as_ref(), session, &options, now).unwrap(), options, now)
    }
}

/// A time that tickets of ten years fit after.
const LAST: u64 = u64::MAX / 1_000_000 - 315_360_000_000;

proptest! {
    #[test]
    fn an_issued_ticket_is_verified_with_the_same_contents((ticket, options, now) in any_ticket()) {
        let mut verifier = keys().verifier();
        if let Some(subject) = options.subject().unwrap() {
            verifier = verifier.with_subject(subject);
        }
        let verified = verifier.verify_at(ticket.as_str(), time(now));
        let verified = verified.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&verified.inner.claims, &ticket.inner.claims);
        prop_assert_eq!(verified.as_str(), ticket.as_str());
        prop_assert!(ticket.as_str().len() <= 512);
    }

    #[test]
    fn an_altered_ticket_is_refused(
        (ticket, options, now) in any_ticket(),
        at in any::<proptest::sample::Index>(),
        replacement in proptest::string::string_regex("[A-Za-z0-9_=+/ü-]{0,3}").unwrap(),
        taken in 0..3_usize,
    ) {
        let text = ticket.as_str();
        let start = at.index(text.len() + 1);
        let end = (start + taken).min(text.len());
        let altered = format!("{}{replacement}{}", &text[..start], &text[end..]);
        prop_assume!(altered != text);
        let verifier = keys().verifier().with_subject(options.subject().unwrap().unwrap_or("x"));
        let refused = verifier.verify_at(&altered, time(now));
        prop_assert!(matches!(
            refused,
            Err(TicketError::BadSignature
                | TicketError::Malformed
                | TicketError::UnknownVersion { .. }
                | TicketError::TooLong { .. })
        ), "{:?}", refused);
    }

    #[test]
    fn any_signed_bytes_are_refused_or_encoded_again_as_they_were(bytes in proptest::collection::vec(any::<u8>(), 0..352)) {
        let bytes = [&[1], bytes.as_slice()].concat();
        if let Ok(ticket) = verified(&signed(&bytes), NOW) {
            prop_assert_eq!(ticket.inner.claims.encode(), bytes);
        }
    }
}

/// Bits, characters and whole stretches changed, and pieces of two tickets put together.
#[test]
fn of_a_million_mutated_tickets_none_is_accepted() {
    const EACH: usize = 250_000;
    let base64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mutate = |seed: u64| {
        let mut state = seed;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let options = TicketOptions::new().with_subject("user-17");
        let (one, other) = (issued(&options).unwrap(), issued(&options).unwrap());
        let verifier = keys().verifier().with_subject("user-17");
        let (one, other) = (one.as_str().as_bytes(), other.as_str().as_bytes());
        assert_eq!(one.len(), other.len());
        let mut text = one.to_vec();
        for _ in 0..EACH {
            text.copy_from_slice(one);
            match random(4) {
                0 => {
                    let at = random(text.len());
                    text[at..].copy_from_slice(&other[at..]);
                }
                1 => {
                    let (from, to) = (random(text.len()), random(text.len()));
                    text.swap(from, to);
                }
                changes => {
                    for _ in 1..changes {
                        let at = random(text.len());
                        text[at] = base64[random(64)];
                    }
                }
            }
            let is_whole = text == one || text == other;
            let text = str::from_utf8(&text).unwrap();
            let accepted = verifier.verify_at(text, time(NOW)).is_ok();
            assert_eq!(accepted, is_whole, "{text}");
        }
    };
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || mutate(seed));
        }
    });
}
