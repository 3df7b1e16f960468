//! The response to a request that is refused:
//! [problem details](https://www.rfc-editor.org/rfc/rfc9457).

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::enrich::{EnrichError, seconds};
use crate::ticket::TicketError;

/// Why a request was refused: a status, a reason for programs, and a sentence for people.
///
/// As a response it is JSON of type `application/problem+json` with the members `status`, `title`,
/// `detail` and `reason`.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    reason: &'static str,
    detail: String,
    retry_after_seconds: Option<u32>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { status, reason, detail: detail.into(), retry_after_seconds: None }
    }

    /// The service can't accept the feedback now: status 503 with `Retry-After`.
    pub(super) fn unavailable(reason: &'static str, detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { retry_after_seconds: Some(1), ..Self::new(status, reason, detail) }
    }

    /// The feedback may still arrive. A submission that is sent again with the same `id` counts
    /// once.
    pub(super) fn not_durable() -> Self {
        Self::unavailable("not_durable", "feedback can't be stored now: send it again later")
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason for programs, such as `expired` or `too_deep`.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

/// The refusal of a ticket. The detail of a bad signature reveals only the class of the error.
impl From<TicketError> for Problem {
    fn from(error: TicketError) -> Self {
        let (status, detail) = match &error {
            TicketError::Expired => {
                (StatusCode::GONE, "the ticket has expired: ask for another answer")
            }
            TicketError::BadSignature => {
                (StatusCode::FORBIDDEN, "the ticket was not issued by this service")
            }
            TicketError::WrongSubject | TicketError::SubjectMissing => (
                StatusCode::FORBIDDEN,
                "the ticket was issued to another user: sign in as that user",
            ),
            TicketError::NotYetValid => {
                (StatusCode::FORBIDDEN, "the ticket is not valid yet: try again later")
            }
            TicketError::NotAllowed { key } => {
                let detail = format!("the ticket doesn't allow {key}: leave it out");
                return Self::new(StatusCode::FORBIDDEN, error.reason(), detail);
            }
            TicketError::NoKeys | TicketError::NotInstalled | TicketError::SdkDisabled => {
                let detail = "this service accepts no feedback now";
                return Self::unavailable(error.reason(), detail);
            }
            _ => (StatusCode::BAD_REQUEST, "this is not a ticket: send it as it was issued"),
        };
        Self::new(status, error.reason(), detail)
    }
}

/// The refusal of the feedback itself.
impl From<&EnrichError> for Problem {
    fn from(error: &EnrichError) -> Self {
        match error {
            EnrichError::NotInstalled | EnrichError::SdkDisabled | EnrichError::ShutDown => {
                Self::unavailable(error.reason(), "this service accepts no feedback now")
            }
            EnrichError::QueueFull => {
                Self::unavailable(error.reason(), "the queue for feedback is full")
            }
            EnrichError::NotDurable => Self::not_durable(),
            EnrichError::ShareFull => Self::unavailable(
                error.reason(),
                "there is too much feedback now: send it again later",
            ),
            EnrichError::OverBudget { what, retry_after } => {
                let seconds = seconds(*retry_after);
                let detail = format!(
                    "this ticket has spent its budget of {what}: send it again in {seconds} s"
                );
                Self {
                    retry_after_seconds: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
                    ..Self::new(StatusCode::TOO_MANY_REQUESTS, error.reason(), detail)
                }
            }
            EnrichError::NotAllowed { .. } => {
                Self::new(StatusCode::FORBIDDEN, error.reason(), error.to_string())
            }
            error => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Self::new(status, error.reason(), error.to_string())
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, reason, detail, retry_after_seconds } = self;
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({ "status": status.as_u16(), "title": title, "detail": detail, "reason": reason });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
