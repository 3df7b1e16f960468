//! Extractors for handlers of `axum`.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::StatusCode;
use http::request::Parts;

use super::{Problem, TICKET_HEADER};
use crate::layer::ticket::verify_here;
use crate::session::Session;
use crate::ticket::Ticket;

/// Extracts the verified ticket from the header [`TICKET_HEADER`].
///
/// A request without a ticket, or with an invalid one, is refused as by
/// [`feedback_routes`](super::feedback_routes). Behind a
/// [`FeedbackHttpLayer`](super::FeedbackHttpLayer) the ticket is not verified a second time.
///
/// ```
/// use axum::{Router, routing::post};
/// use tracing_feedback::{Ticket, enrich_span};
///
/// async fn regenerate(ticket: Ticket) -> String {
///     enrich_span!(target = &ticket, feedback = { "regenerated": true });
///     "Albany".to_owned()
/// }
///
/// let router: Router = Router::new().route("/regenerate", post(regenerate));
/// # assert!(router.has_routes());
/// ```
impl<S: Sync> FromRequestParts<S> for Ticket {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if let Some(ticket) = parts.extensions.get::<Self>() {
            return Ok(ticket.clone());
        }
        let Some(text) = parts.headers.get(TICKET_HEADER) else {
            let detail = format!("a ticket is missing: send it in the header {TICKET_HEADER}");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "no_ticket", detail));
        };
        Ok(verify_here(text.to_str().unwrap_or_default(), None)?)
    }
}

/// Extracts the session of a request: the one that the
/// [`FeedbackHttpLayer`](super::FeedbackHttpLayer) around the handler has set, or else the session
/// of the current span.
///
/// ```
/// use axum::{Router, routing::get};
/// use tracing_feedback::Session;
/// use tracing_feedback::web::FeedbackHttpLayer;
///
/// async fn greet(session: Option<Session>) -> String {
///     session.map_or("Hello".to_owned(), |session| format!("Welcome back to {session}"))
/// }
///
/// let layer = FeedbackHttpLayer::new();
/// let router: Router = Router::new().route("/", get(greet)).layer(layer);
/// # assert!(router.has_routes());
/// ```
impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().or_else(Self::current))
    }
}

/// As above, but a request without a session is refused.
impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().or_else(Self::current).ok_or_else(|| {
            let detail = "the request belongs to no session: send the ticket of a session";
            Problem::new(StatusCode::BAD_REQUEST, "no_session", detail)
        })
    }
}
