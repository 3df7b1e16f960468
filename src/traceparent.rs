//! Targets as text: the `traceparent` of W3C Trace Context.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Why a text is not a valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceparentError {
    /// The text doesn't have the form `VERSION-TRACE_ID-SPAN_ID-FLAGS`, all in lower-case
    /// hexadecimal.
    #[error(
        "the traceparent is malformed: send `00-TRACE_ID-SPAN_ID-FLAGS` with 32, 16 and 2 lower-case \
         hexadecimal digits"
    )]
    Malformed,
    /// The trace id or the span id consists of zeros.
    #[error("the traceparent names no span: its trace id or span id is zero")]
    ZeroId,
}

/// Parses a `traceparent`, and returns the span context in it, marked as remote: a target for
/// [`enrich_span!`](crate::enrich_span), where a client has the text and no ticket.
///
/// The text proves nothing: any sender can name any span. Accept tickets from browsers instead.
///
/// Foreign bytes: parsed by the rules of [W3C Trace Context, section
/// 3.2](https://www.w3.org/TR/trace-context/#traceparent-header). A version above `00` may have
/// more fields after the flags, which are ignored; of the flags only the sampled one is read.
///
/// # Errors
///
/// The text is malformed or names no span.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::{enrich_span, traceparent};
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let answer = traceparent::parse(text)?;
/// assert_eq!(answer.span_id().to_string(), "b7ad6b7169203331");
/// assert!(answer.is_remote() && answer.is_sampled());
/// assert!(enrich_span!(target = answer, feedback = { "rating": true }).is_ok());
/// assert!(traceparent::parse("0af7651916cd43dd8448eb211c80319c").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn parse(text: &str) -> Result<SpanContext, TraceparentError> {
    let mut fields = text.splitn(5, '-');
    let version = digits::<2>(fields.next())?;
    let trace_id = digits::<32>(fields.next())?;
    let span_id = digits::<16>(fields.next())?;
    let flags = digits::<2>(fields.next())? as u8;
    if version == 0xff || version == 0 && fields.next().is_some() {
        return Err(TraceparentError::Malformed);
    }
    let (trace_id, span_id) = (TraceId::from(trace_id), SpanId::from(span_id as u64));
    if trace_id == TraceId::INVALID || span_id == SpanId::INVALID {
        return Err(TraceparentError::ZeroId);
    }
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    Ok(SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE))
}

/// Parses exactly `DIGITS` lower-case hexadecimal digits.
fn digits<const DIGITS: usize>(text: Option<&str>) -> Result<u128, TraceparentError> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let text = text.filter(|text| text.len() == DIGITS && text.bytes().all(is_digit));
    text.and_then(|text| u128::from_str_radix(text, 16).ok()).ok_or(TraceparentError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn what_the_specification_refuses_is_refused() {
        let zeros = ("0".repeat(32), "0".repeat(16));
        for text in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        ] {
            assert_eq!(parse(&text), Err(TraceparentError::Malformed), "{text}");
        }
        assert_eq!(parse(&format!("00-{}-{SPAN}-01", zeros.0)), Err(TraceparentError::ZeroId));
        assert_eq!(parse(&format!("00-{TRACE}-{}-01", zeros.1)), Err(TraceparentError::ZeroId));
    }

    #[test]
    fn a_later_version_may_have_more_fields() {
        let later = parse(&format!("cc-{TRACE}-{SPAN}-03-more-fields")).unwrap();
        assert_eq!(later.trace_flags(), TraceFlags::SAMPLED);
        assert!(!parse(&format!("00-{TRACE}-{SPAN}-02")).unwrap().is_sampled());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_names_a_span(text in ".{0,80}") {
            prop_assert!(parse(&text).is_ok_and(|context| context.is_valid()) || parse(&text).is_err());
        }

        #[test]
        fn every_span_is_read_back(trace in 1..u128::MAX, span in 1..u64::MAX, sampled: bool) {
            let text = format!("00-{trace:032x}-{span:016x}-0{}", u8::from(sampled));
            let context = parse(&text).unwrap();
            prop_assert_eq!(context.trace_id(), TraceId::from(trace));
            prop_assert_eq!(context.span_id(), SpanId::from(span));
            prop_assert_eq!(context.is_sampled(), sampled);
        }
    }
}
