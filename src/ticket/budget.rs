//! The budget of a ticket: how much feedback its holder may send.

/// How much feedback one ticket may bring, and one subject with all of its tickets.
///
/// | | a ticket | a subject |
/// | --- | --- | --- |
/// | submissions | 120 an hour | 480 an hour |
/// | bytes | 256 KiB an hour | 1 MiB an hour |
/// | different keys | 64 a day | 256 a day |
///
/// A budget fills up steadily: after a burst of 120 submissions, another one is accepted every 30 seconds. What
/// exceeds it is refused as [`EnrichError::OverBudget`](crate::EnrichError::OverBudget), with the time after which
/// it will be accepted; [`feedback_routes`](https://docs.rs/tracing-feedback/latest/tracing_feedback/web/fn.feedback_routes.html)
/// answer 429. Every enrichment whose target is a ticket is charged, by a route or a handler of the service. An
/// enrichment whose target is a `SpanContext` is the service's own, and is not.
///
/// A submission that comes again under its `id` is charged once. Where the queue or the outbox is small, a ticket
/// may bring at most a sixteenth of what late feedback may use there, and a subject an eighth.
///
/// The accounts are in the memory of the process: of at most 4096 tickets and subjects, a few megabytes.
///
/// ```
/// use tracing_feedback::TicketBudget;
///
/// let budget = TicketBudget::new().with_submissions(20).with_keys(8);
/// let (layer, telemetry) = tracing_feedback::builder().with_ticket_budget(budget).build()?;
/// # drop((layer, telemetry));
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a budget does nothing before `with_ticket_budget`"]
pub struct TicketBudget {
    pub(super) submissions: u32,
    pub(super) bytes: u64,
    pub(super) keys: u32,
}

impl TicketBudget {
    /// How many times the budget of a ticket its subject has.
    pub(super) const OF_SUBJECT: u32 = 4;

    /// The defaults above.
    pub fn new() -> Self {
        Self { submissions: 120, bytes: 256 * 1024, keys: 64 }
    }

    /// Submissions an hour, at least one. A subject has four times as many.
    pub fn with_submissions(mut self, an_hour: u32) -> Self {
        self.submissions = an_hour.max(1);
        self
    }

    /// Bytes an hour, of keys and values with 384 for each submission and 32 for each key. A submission of more
    /// bytes is accepted when nothing else was sent for an hour. A subject has four times as many.
    pub fn with_bytes(mut self, an_hour: u64) -> Self {
        self.bytes = an_hour.max(1);
        self
    }

    /// Different attribute keys a day, at least one. A subject has four times as many, and all tickets of the
    /// process together 4096: each key is a column, or an index, of a backend.
    pub fn with_keys(mut self, a_day: u32) -> Self {
        self.keys = a_day.max(1);
        self
    }
}

impl Default for TicketBudget {
    fn default() -> Self {
        Self::new()
    }
}
