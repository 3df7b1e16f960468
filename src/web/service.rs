//! The layer's service and its future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http::{HeaderName, HeaderValue, Request, Response};
use opentelemetry::Context as OtelContext;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Span;
use tracing::instrument::{Instrument, Instrumented};

use super::{HttpLayerSettings, TICKET_HEADER, grpc, session, span};
use crate::active_context;
use crate::layer::locate;
use crate::layer::ticket::verify_here;
use crate::layer::{SpanError, SpanExt};
use crate::propagation;
use crate::session::Session;
use crate::ticket::{Ticket, TicketError, TicketOptions};

/// The middleware that [`FeedbackHttpLayer`](super::FeedbackHttpLayer) wraps around a service.
#[derive(Clone, Debug)]
#[must_use = "a service does nothing before it is called"]
pub struct FeedbackHttpService<S> {
    inner: S,
    settings: Arc<HttpLayerSettings>,
}

impl<S> FeedbackHttpService<S> {
    pub(super) fn new(inner: S, settings: HttpLayerSettings) -> Self {
        Self { inner, settings: Arc::new(settings) }
    }

    /// The span of a request, with its parent and session set. Adds session and ticket to the
    /// extensions of the request.
    ///
    /// Parent and session are in the OpenTelemetry context, too, in which the span is made: a layer of
    /// another crate takes them from there.
    fn span<B>(&self, request: &mut Request<B>) -> Span {
        let (is_public, opens_span) = (self.settings.is_public, self.settings.opens_span);
        let caller = propagation::extract(request.headers());
        let from_baggage = caller.get::<Session>().filter(|_| !is_public).cloned();
        let ticket = self.ticket(request);
        let joined = session::joined(&self.settings, request.headers(), ticket.as_ref());
        let joined = joined.or(from_baggage);
        let session = joined.or_else(|| self.settings.starts_sessions.then(Session::new));
        let claimed = caller.span().span_context().clone();
        let parent = if is_public { OtelContext::new() } else { caller };
        let span = match opens_span {
            true => {
                let context = |is_suppressed: bool| {
                    let parent = (!is_suppressed).then(|| parent.clone())?;
                    Some(match &session {
                        Some(session) => parent.with_value(session.clone()),
                        None => parent,
                    })
                };
                let _parent = active_context::attach(context, || ());
                Conventions::of(request).open(request, &self.settings)
            }
            false => Span::current(),
        };
        if opens_span && is_public {
            if claimed.is_valid() {
                link(&span, claimed);
            }
        } else if opens_span {
            let _ = span.set_parent(parent); // fails for a span that no layer of ours captures
        }
        if let Some(session) = session {
            set_session(&span, &session);
            request.extensions_mut().insert(session);
        }
        if let Some(ticket) = ticket {
            request.extensions_mut().insert(ticket);
        }
        span
    }

    /// The verified ticket of a request. A ticket that is refused is counted and otherwise ignored.
    fn ticket<B>(&self, request: &Request<B>) -> Option<Ticket> {
        let text = request.headers().get(TICKET_HEADER)?.to_str().ok()?;
        let subject = self.settings.subject.of(request.headers(), request.extensions());
        verify_here(text, subject.as_deref()).ok()
    }
}

impl<S, B, R> Service<Request<B>> for FeedbackHttpService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let settings = &self.settings;
        if !settings.filter.takes(request.uri().path()) {
            let future = self.inner.call(request).instrument(Span::none());
            return ResponseFuture { future, handled: None };
        }
        let conventions = settings.opens_span.then(|| Conventions::of(&request));
        let (tickets, trace_header) = (settings.tickets.clone(), settings.trace_header.clone());
        let span = self.span(&mut request);
        let future = span.in_scope(|| self.inner.call(request)).instrument(span.clone());
        let handled = Some(Handled { span, conventions, tickets, trace_header });
        ResponseFuture { future, handled }
    }
}

pin_project! {
    /// The future of a [`FeedbackHttpService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: Instrumented<F>,
        handled: Option<Handled>,
    }
}

/// A request that the layer handles. The span ends when this is dropped: with the response, not with its
/// future.
#[derive(Debug)]
struct Handled {
    span: Span,
    /// Those of the span that the layer has opened, if it has.
    conventions: Option<Conventions>,
    tickets: Option<TicketOptions>,
    trace_header: Option<HeaderName>,
}

/// The semantic conventions that a span follows.
#[derive(Clone, Copy, Debug)]
enum Conventions {
    Http,
    Grpc,
}

impl Conventions {
    fn of<B>(request: &Request<B>) -> Self {
        if grpc::is_grpc(request) { Self::Grpc } else { Self::Http }
    }

    /// The span of `request`.
    fn open<B>(self, request: &Request<B>, settings: &HttpLayerSettings) -> Span {
        match self {
            Self::Http => span::open(request, settings),
            Self::Grpc => grpc::open(request, settings),
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.future.poll(cx));
        let Some(handled) = this.handled.take() else { return Poll::Ready(result) };
        match &mut result {
            Ok(response) => handled.finish(response),
            Err(_) if handled.conventions.is_some() => {
                span::record_error(&handled.span, std::any::type_name::<E>());
            }
            Err(_) => {}
        }
        Poll::Ready(result)
    }
}

impl Handled {
    /// Records the status of the response, and adds the headers that are configured.
    fn finish<R>(self, response: &mut Response<R>) {
        let span = &self.span;
        match self.conventions {
            Some(Conventions::Http) => span::record_status(span, response.status()),
            Some(Conventions::Grpc) => grpc::record_status(span, response),
            None => {}
        }
        if let Some(ticket) = self.tickets.and_then(|options| issue(span, &options)) {
            response.headers_mut().insert(TICKET_HEADER, ticket);
        }
        if let Some(name) = self.trace_header
            && let Some(traceparent) = traceparent(span)
        {
            response.headers_mut().insert(name, traceparent);
        }
    }
}

/// Links the span to the one that a caller of a public endpoint claims.
fn link(span: &Span, claimed: SpanContext) {
    if let Err(SpanError::OtherLayer) = span.add_link(claimed.clone()) {
        span.in_scope(|| active_context::current().span().add_link(claimed, Vec::new()));
    }
}

/// Sets the session of the span.
fn set_session(span: &Span, session: &Session) {
    if let Err(SpanError::OtherLayer) = span.set_session(session) {
        span.in_scope(|| locate::current().map(|state| state.set_session(session)));
    }
}

/// The active span of the OpenTelemetry API: inside a span of another crate's layer, that one.
fn active() -> SpanContext {
    active_context::current().span().span_context().clone()
}

/// The span in the form of [`traceparent`](https://www.w3.org/TR/trace-context/#traceparent-header).
fn traceparent(span: &Span) -> Option<HeaderValue> {
    let context = match span.span_context() {
        Err(SpanError::OtherLayer) => span.in_scope(active),
        context => context.ok()?,
    };
    if !context.is_valid() {
        return None;
    }
    let (trace, id, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
    HeaderValue::from_str(&format!("00-{trace}-{id}-{flags:02x}")).ok()
}

/// The ticket header of a response. The reason why none can be issued is logged once.
fn issue(span: &Span, options: &TicketOptions) -> Option<HeaderValue> {
    static HAS_WARNED: AtomicBool = AtomicBool::new(false);
    let issued = match span.ticket_with(options) {
        Err(TicketError::OtherLayer) => span.in_scope(|| crate::ticket_with(options)),
        issued => issued,
    };
    match issued {
        Ok(ticket) => HeaderValue::from_str(ticket.as_str()).ok(),
        Err(error) => {
            if !HAS_WARNED.swap(true, Ordering::Relaxed) {
                tracing::warn!(target: "tracing_feedback", %error, "responses go without a ticket");
            }
            None
        }
    }
}
