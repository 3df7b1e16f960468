//! Propagation: a trace, and a trusted session, across services.
//!
//! [`inject`] writes the current span into the headers of an outgoing request, [`extract`] reads
//! the caller's from an incoming one. The formats are those of `OTEL_PROPAGATORS`: W3C [Trace
//! Context](https://www.w3.org/TR/trace-context/) and [Baggage](https://www.w3.org/TR/baggage/) by
//! default.
//!
//! A session is propagated in baggage, as `session.id`, in both directions only with
//! `with_session_propagation(true)` on the builder: anyone can send a header, so a session id in a
//! header is only a claim. Without that setting such a member is neither trusted nor forwarded.
//!
//! ```
//! use std::collections::HashMap;
//! use tracing_feedback::{SpanExt, propagation};
//! use tracing_subscriber::prelude::*;
//!
//! let (layer, _telemetry) =
//!     tracing_feedback::builder().with_session_propagation(true).build()?;
//! tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
//!     let mut headers = HashMap::new(); // or an `http::HeaderMap`
//!     tracing::info_span!("front end", session.id = "conversation-42")
//!         .in_scope(|| propagation::inject(&mut headers));
//!     assert_eq!(headers["baggage"], "session.id=conversation-42");
//!
//!     // In the other service:
//!     let span = tracing::info_span!("back end");
//!     span.set_parent(propagation::extract(&headers))?;
//!     let _entered = span.enter();
//!     assert_eq!(tracing_feedback::Session::current().unwrap().id(), "conversation-42");
//!     Ok::<(), tracing_feedback::SpanError>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use opentelemetry::Context;
use opentelemetry::baggage::{Baggage, BaggageExt, BaggageMetadata};
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use crate::active_context;
use crate::layer::locate;
use crate::layer::{SpanExt, current_context};
use crate::session::{SESSION_ID, Session};
use crate::settings::Formats;

/// Writes the current span, its baggage, and its session if sessions are propagated, into
/// `headers`.
///
/// The current span is the one that is active in the OpenTelemetry API, created there or captured
/// by this crate; with `with_context_activation(false)` it is the nearest captured one.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use std::collections::HashMap;
/// use tracing_feedback::{SpanExt, propagation};
///
/// let mut headers = HashMap::new();
/// let span = tracing::info_span!("request");
/// span.in_scope(|| propagation::inject(&mut headers));
/// let context = span.span_context()?;
/// assert_eq!(headers["traceparent"], format!("00-{}-{}-01", context.trace_id(), context.span_id()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn inject(headers: &mut impl Headers) {
    propagator().inject_context(&current_context(), headers.injector().as_mut());
}

/// As [`inject`], for the given span.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use std::collections::HashMap;
/// use tracing_feedback::propagation;
///
/// let mut headers = HashMap::new();
/// propagation::inject_span(&tracing::info_span!("request"), &mut headers);
/// assert!(headers["traceparent"].starts_with("00-"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn inject_span(span: &tracing::Span, headers: &mut impl Headers) {
    let context = span.context().unwrap_or_else(|_| active_context::current());
    propagator().inject_context(&context, headers.injector().as_mut());
}

/// Reads the caller's span and baggage from `headers`, for [`SpanExt::set_parent`].
///
/// Foreign bytes: a malformed header is ignored, and the context then holds no span.
///
/// ```
/// use opentelemetry::trace::TraceContextExt;
/// use std::collections::HashMap;
/// use tracing_feedback::propagation;
///
/// let headers = HashMap::from([(
///     "traceparent".to_owned(),
///     "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
/// )]);
/// let caller = propagation::extract(&headers);
/// assert!(caller.span().span_context().is_remote());
///
/// let headers = HashMap::from([("traceparent".to_owned(), "nonsense".to_owned())]);
/// assert!(!propagation::extract(&headers).has_active_span());
/// ```
#[must_use = "extracting changes nothing: give the context to `SpanExt::set_parent`"]
pub fn extract(headers: &impl Headers) -> Context {
    propagator().extract_with_context(&Context::new(), headers.extractor().as_ref())
}

fn propagator() -> FeedbackPropagator {
    match locate::current_core() {
        Some(core) => FeedbackPropagator {
            formats: core.settings.formats,
            sessions: core.settings.session_propagation,
        },
        None => FeedbackPropagator { formats: Formats::default(), sessions: false },
    }
}

/// A map of header names and values: `HashMap<String, String>`, `http::HeaderMap` with the feature
/// `http` (part of every protocol; `reqwest` takes it too), and `tonic::metadata::MetadataMap` with
/// the feature `grpc`.
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::propagation;
///
/// let mut request = tonic::Request::new(());
/// propagation::inject_span(&tracing::info_span!("call"), request.metadata_mut());
/// assert!(request.metadata().contains_key("traceparent"));
/// # }
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
pub trait Headers: sealed::Sealed {}

impl<T: sealed::Sealed> Headers for T {}

mod sealed {
    use std::collections::HashMap;
    use std::hash::BuildHasher;

    use opentelemetry::propagation::{Extractor, Injector};

    pub trait Sealed {
        fn injector(&mut self) -> Box<dyn Injector + '_>;
        fn extractor(&self) -> Box<dyn Extractor + '_>;
    }

    struct Strings<T>(T);

    impl<S: BuildHasher> Injector for Strings<&mut HashMap<String, String, S>> {
        fn set(&mut self, key: &str, value: String) {
            self.0.insert(key.to_owned(), value);
        }
    }

    impl<S: BuildHasher> Extractor for Strings<&HashMap<String, String, S>> {
        fn get(&self, key: &str) -> Option<&str> {
            let named = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
            named.map(|(_, value)| value.as_str())
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(String::as_str).collect()
        }
    }

    impl<S: BuildHasher> Sealed for HashMap<String, String, S> {
        fn injector(&mut self) -> Box<dyn Injector + '_> {
            Box::new(Strings(self))
        }

        fn extractor(&self) -> Box<dyn Extractor + '_> {
            Box::new(Strings(self))
        }
    }

    #[cfg(feature = "http")]
    mod http_headers {
        use http::{HeaderMap, HeaderName, HeaderValue};
        use opentelemetry::propagation::{Extractor, Injector};

        use super::{Sealed, Strings};

        impl Injector for Strings<&mut HeaderMap> {
            fn set(&mut self, key: &str, value: String) {
                let name = HeaderName::from_bytes(key.as_bytes());
                if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                    self.0.insert(name, value);
                }
            }
        }

        impl Extractor for Strings<&HeaderMap> {
            fn get(&self, key: &str) -> Option<&str> {
                self.0.get(key)?.to_str().ok()
            }

            fn keys(&self) -> Vec<&str> {
                self.0.keys().map(HeaderName::as_str).collect()
            }

            fn get_all(&self, key: &str) -> Option<Vec<&str>> {
                let all: Vec<_> =
                    self.0.get_all(key).iter().filter_map(|value| value.to_str().ok()).collect();
                (!all.is_empty()).then_some(all)
            }
        }

        impl Sealed for HeaderMap {
            fn injector(&mut self) -> Box<dyn Injector + '_> {
                Box::new(Strings(self))
            }

            fn extractor(&self) -> Box<dyn Extractor + '_> {
                Box::new(Strings(self))
            }
        }

        /// gRPC metadata is sent as HTTP headers.
        #[cfg(feature = "grpc")]
        impl Sealed for tonic::metadata::MetadataMap {
            fn injector(&mut self) -> Box<dyn Injector + '_> {
                AsMut::<HeaderMap>::as_mut(self).injector()
            }

            fn extractor(&self) -> Box<dyn Extractor + '_> {
                AsRef::<HeaderMap>::as_ref(self).extractor()
            }
        }
    }
}

/// The propagator behind [`inject`] and [`extract`], which [`init`](crate::init) also installs
/// globally: W3C Trace Context and Baggage, and the session in baggage where that is configured.
#[derive(Debug)]
pub(crate) struct FeedbackPropagator {
    pub(crate) formats: Formats,
    pub(crate) sessions: bool,
}

impl TextMapPropagator for FeedbackPropagator {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        if self.formats.trace_context {
            TraceContextPropagator::new().inject_context(context, injector);
        }
        if !self.formats.baggage && !self.sessions {
            return;
        }
        let mut baggage = match self.formats.baggage {
            true => without_session(context.baggage()),
            false => Baggage::new(),
        };
        if let Some(session) = context.get::<Session>().filter(|_| self.sessions) {
            baggage.insert(SESSION_ID, session.id().to_owned());
        }
        BaggagePropagator::new().inject_context(&Context::new().with_baggage(baggage), injector);
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let mut context = context.clone();
        let extractor = &JoinedHeaders::new(extractor);
        if self.formats.trace_context {
            context = TraceContextPropagator::new().extract_with_context(&context, extractor);
        }
        if !self.formats.baggage && !self.sessions {
            return context;
        }
        let read = BaggagePropagator::new().extract_with_context(&Context::new(), extractor);
        let claimed = read.baggage().get(SESSION_ID).map(|id| id.as_str().to_owned());
        if let Some(Ok(session)) = claimed.filter(|_| self.sessions).map(Session::with_id) {
            context = context.with_value(session);
        }
        let others = without_session(read.baggage());
        if self.formats.baggage && !others.is_empty() {
            context = context.with_baggage(others);
        }
        context
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(FIELDS.as_slice())
    }
}

static FIELDS: std::sync::LazyLock<[String; 3]> = std::sync::LazyLock::new(|| {
    ["traceparent".to_owned(), "tracestate".to_owned(), "baggage".to_owned()]
});

/// Headers in which several `tracestate` or `baggage` headers are joined into one list: a sender,
/// or a proxy, may split them. A value that isn't plain text reads as absent, also from a map that
/// doesn't hold HTTP headers.
struct JoinedHeaders<'a> {
    headers: &'a dyn Extractor,
    lists: [(&'static str, Option<String>); 2],
}

impl<'a> JoinedHeaders<'a> {
    fn new(headers: &'a dyn Extractor) -> Self {
        let lists = ["tracestate", "baggage"].map(|name| {
            let several = headers.get_all(name).filter(|values| values.len() > 1);
            (name, several.map(|values| values.join(",")))
        });
        Self { headers, lists }
    }
}

impl Extractor for JoinedHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let joined = self.lists.iter().find(|(name, _)| *name == key);
        let value = joined.and_then(|(_, list)| list.as_deref()).or_else(|| self.headers.get(key));
        value.filter(|value| is_plain(value))
    }

    fn keys(&self) -> Vec<&str> {
        self.headers.keys()
    }
}

/// The members of `baggage` except `session.id`. Properties with characters that a header can't
/// have are left out: they would make the whole header invalid, or be read as another header.
fn without_session(baggage: &Baggage) -> Baggage {
    let mut others = Baggage::new();
    for (key, (value, metadata)) in baggage.iter().filter(|(key, _)| key.as_str() != SESSION_ID) {
        let is_plain = is_plain(metadata.as_str());
        let metadata = if is_plain { metadata.clone() } else { BaggageMetadata::default() };
        others.insert_with_metadata(key.clone(), value.clone(), metadata);
    }
    others
}

/// Whether a header can have this text as its value.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' ' | '\t') || c.is_ascii_graphic())
}
