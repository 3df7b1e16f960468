//! Tickets of the layer: issued for captured spans and for sessions, and verified, with the layer's
//! keys. [`mod@crate::ticket`] has the tickets themselves.

use super::locate::{Located, current_core, locate_current, locate_span};
use crate::session::Session;
use crate::span::LayerCore;
use crate::ticket::{Ticket, TicketError, TicketKeys, TicketOptions, issue};

/// A ticket for the nearest captured span around the caller, and for its session.
///
/// Starts the span: its place in a trace is fixed from then on.
///
/// # Errors
///
/// No captured span is around the caller, or there are no keys: see [`TicketError`].
///
/// ```
/// # #[cfg(feature = "collector")] {
/// # use tracing_subscriber::prelude::*;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// use tracing_feedback::{Ticket, TicketError, TicketKeys, enrich_span};
///
/// #[tracing::instrument]
/// fn answer(question: &str) -> Result<(&'static str, Ticket), TicketError> {
///     Ok(("New York City", tracing_feedback::ticket()?))
/// }
///
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_endpoint(collector.endpoint())
///     .with_ticket_keys(TicketKeys::new([[7; 32]])?) // a secret, of course
///     .build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// let (_, ticket) = answer("What is the capital of New York?")?;
///
/// // The browser sends `ticket` back, with the user's rating.
/// let ticket = telemetry.ticket_verifier().verify(ticket.as_str())?;
/// enrich_span!(target = &ticket, id = "vote-1", feedback = { "rating": false }).into_result()?;
///
/// telemetry.flush()?;
/// let spans = collector.spans();
/// let answer = spans.iter().find(|span| span.name == "answer").unwrap();
/// let feedback = collector.feedback(answer.trace_id, answer.span_id);
/// assert_eq!(feedback["feedback.rating"], false);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ticket() -> Result<Ticket, TicketError> {
    ticket_with(&TicketOptions::new())
}

/// As [`ticket`], with options: what the ticket allows, to which subject, and for how long.
///
/// # Errors
///
/// As [`ticket`], or the options are invalid: see [`TicketError`].
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # use tracing_feedback::TicketKeys;
/// # let keys = TicketKeys::new([[7; 32]])?;
/// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::{TicketError, TicketOptions, ticket_with};
///
/// let _span = tracing::info_span!("answer").entered();
/// let text = ticket_with(&TicketOptions::new().with_subject("user-17"))?.to_string();
///
/// let verifier = telemetry.ticket_verifier();
/// assert!(verifier.clone().with_subject("user-17").verify(&text).is_ok());
/// let other = verifier.with_subject("user-18").verify(&text);
/// assert_eq!(other, Err(TicketError::WrongSubject));
/// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ticket_with(options: &TicketOptions) -> Result<Ticket, TicketError> {
    issue_for(locate_current(), options)
}

/// As [`ticket_with`], for the given span.
pub(crate) fn issue_for_span(
    span: &tracing::Span,
    options: &TicketOptions,
) -> Result<Ticket, TicketError> {
    issue_for(locate_span(span), options)
}

impl Session {
    /// A ticket for feedback on this session as a whole: the target of
    /// [`enrich_session!`](crate::enrich_session). It is signed with the keys of the layer in the
    /// current subscriber.
    ///
    /// # Errors
    ///
    /// There is no layer, or there are no keys: see [`TicketError`].
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// # let keys = tracing_feedback::TicketKeys::new([[7; 32]])?;
    /// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    /// # let (layer, telemetry) = builder.with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{Session, enrich_session};
    ///
    /// let text = Session::with_id("conversation-42")?.ticket()?.to_string();
    ///
    /// let ticket = telemetry.ticket_verifier().verify(&text)?;
    /// enrich_session!(target = &ticket, feedback = { "resolved": true }).into_result()?;
    /// telemetry.flush()?;
    /// assert_eq!(collector.session_feedback("conversation-42")["feedback.resolved"], true);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ticket(&self) -> Result<Ticket, TicketError> {
        self.ticket_with(&TicketOptions::new())
    }

    /// As [`ticket`](Self::ticket), with options: what the ticket allows, to which subject, and for
    /// how long.
    ///
    /// # Errors
    ///
    /// As [`ticket`](Self::ticket), or the options are invalid: see [`TicketError`].
    pub fn ticket_with(&self, options: &TicketOptions) -> Result<Ticket, TicketError> {
        let core = current_core().ok_or(TicketError::NotInstalled)?;
        issue(keys_of(&core)?, None, Some(self.clone()), options)
    }
}

fn issue_for(located: Located, options: &TicketOptions) -> Result<Ticket, TicketError> {
    match located {
        Located::Span(span) => {
            let keys = keys_of(span.core())?;
            issue(keys, Some(&span.start().context), span.session(), options)
        }
        Located::Layer(core) => {
            keys_of(&core)?;
            Err(TicketError::NoActiveSpan)
        }
        Located::NotRecording(span) => {
            issue(keys_of(&span.core)?, Some(&span.context), span.session, options)
        }
        Located::Disabled(core) => {
            keys_of(&core)?;
            Err(TicketError::SpanDisabled)
        }
        Located::OtherLayer(core) => {
            keys_of(&core)?;
            Err(TicketError::OtherLayer)
        }
        Located::Nothing => Err(TicketError::NotInstalled),
    }
}

/// The keys of a layer, unless telemetry is switched off.
fn keys_of(core: &LayerCore) -> Result<&TicketKeys, TicketError> {
    if core.is_disabled() {
        return Err(TicketError::SdkDisabled);
    }
    Ok(&core.ticket_keys)
}

/// Verifies a ticket that `subject` sends, with the keys of the current subscriber's layer. A
/// refusal is counted.
#[cfg(feature = "tower")]
pub(crate) fn verify_here(text: &str, subject: Option<&str>) -> Result<Ticket, TicketError> {
    let core = current_core().ok_or(TicketError::NotInstalled)?;
    let verifier = core.ticket_keys.verifier();
    let verified = match subject {
        Some(subject) => verifier.with_subject(subject).verify(text),
        None => verifier.verify(text),
    };
    verified.inspect_err(|error| core.count_refused(error.reason()))
}
