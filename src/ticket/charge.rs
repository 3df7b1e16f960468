//! What a submission costs, and what becomes of it. It is the same where the feature `tickets` is off.

use std::time::Duration;

/// What a submission would cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost<'a> {
    /// The name of the submission, if it has one.
    pub(crate) id: Option<&'a str>,
    pub(crate) bytes: u64,
    /// How many bytes late feedback may use, in the queue or in the outbox.
    pub(crate) share: u64,
}

/// What becomes of a submission that the budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// It was charged.
    Charged,
    /// It was charged before, and is sent on once more.
    Copy,
    /// It was charged before, and sent on often enough: a reader counts it once.
    Known,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget {
    /// What was spent, with the limit's unit of time.
    pub(crate) what: &'static str,
    /// After how long the same submission is accepted.
    pub(crate) retry_after: Duration,
}
