//! Delivery with retries as the specification asks: exponential backoff with jitter, or the delay
//! that the collector asks for.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ExportReply, RequestPieces, SendFailure, Transport};
use crate::clock;

/// The pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// The first pause.
    pub(crate) first: Duration,
    /// The longest.
    pub(crate) most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// For a single attempt: no delivery has the time for such a pause.
    pub(crate) const ONCE: Self = {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        Self { first: year, most: year }
    };

    /// The pause before retry number `attempt`, counted from 1. It doubles each time, and `random`,
    /// in 0..1, puts it between its half and its whole. A delay that the collector asks for
    /// replaces it, with jitter on top.
    fn pause(self, attempt: u32, retry_after: Option<Duration>, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let own = doubled.min(self.most).mul_f64(0.5 + random / 2.0);
        match retry_after {
            Some(retry_after) => retry_after.saturating_add(self.first.mul_f64(random)),
            None => own,
        }
    }
}

/// What a delivery took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    /// Attempts after the first.
    pub(crate) retried: u64,
    /// Connections that were given up.
    pub(crate) reconnected: u64,
    /// Whether an attempt waits for its answer.
    pub(crate) is_waiting: bool,
}

impl Attempts {
    /// Gives up the connection of a transport, and counts it.
    pub(crate) fn reconnect(&mut self, transport: &mut impl Transport) {
        transport.reconnect();
        self.reconnected += 1;
    }
}

/// Sends `request` until it is accepted, or fails for good, or `timeout` is nearly over. A connection on
/// which there is no answer by then is given up: it may be dead without a sign, after a NAT or a load
/// balancer has forgotten it.
///
/// Time in which the process is stopped doesn't count: when it goes on, the request gets another try.
pub(crate) async fn deliver(
    transport: &mut impl Transport,
    request: RequestPieces,
    backoff: Backoff,
    timeout: Duration,
    attempts: &mut Attempts,
) -> Result<ExportReply, SendFailure> {
    let mut limit = TimeLimit::new(timeout);
    let mut attempt = 0;
    let mut failed = None;
    loop {
        attempts.is_waiting = true;
        let sent = send(transport, request.clone(), &mut limit).await;
        attempts.is_waiting = false;
        let (message, wait) = match sent {
            AttemptOutcome::Answered(Err(SendFailure::Retryable { message, wait })) => {
                (message, wait)
            }
            AttemptOutcome::Answered(result) => return result,
            AttemptOutcome::Unanswered => {
                attempts.reconnect(transport);
                let message = unanswered(failed.as_deref());
                return Err(SendFailure::Retryable { message, wait: None });
            }
            AttemptOutcome::Stopped => {
                attempts.reconnect(transport);
                attempts.retried += 1;
                continue;
            }
        };
        if transport.has_died() {
            attempts.reconnect(transport);
        }
        limit.was_stopped();
        attempt += 1;
        let pause = backoff.pause(attempt, wait, crate::random::fraction());
        if pause >= limit.left() {
            return Err(SendFailure::Retryable { message, wait });
        }
        limit.pause(pause).await;
        attempts.retried += 1;
        failed = Some(message);
    }
}

/// The message of an attempt without an answer. `failed` is the message of the attempt before it, which often
/// has the reason and the remedy.
fn unanswered(failed: Option<&str>) -> String {
    let message = "the collector did not answer in time";
    match failed {
        Some(failed) => format!("{message}; the attempt before failed: {failed}"),
        None => message.to_owned(),
    }
}

/// What became of one attempt.
enum AttemptOutcome {
    Answered(Result<ExportReply, SendFailure>),
    /// The time is over.
    Unanswered,
    /// The process was stopped meanwhile, and no answer came soon afterwards: the other side has probably
    /// given up the connection.
    Stopped,
}

/// Makes one attempt.
async fn send(
    transport: &mut impl Transport,
    request: RequestPieces,
    limit: &mut TimeLimit,
) -> AttemptOutcome {
    let mut answer = pin!(transport.send(request));
    let grace = {
        let mut end = pin!(limit.end());
        let ended = poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Err(result)),
            Poll::Pending => end.as_mut().poll(context).map(Ok),
        });
        match ended.await {
            Err(result) => return AttemptOutcome::Answered(result),
            Ok(TimeLimitEnd::Over) => return AttemptOutcome::Unanswered,
            Ok(TimeLimitEnd::Stopped { grace }) => grace,
        }
    };
    match tokio::time::timeout(grace, answer).await {
        Ok(result) => AttemptOutcome::Answered(result),
        Err(_) => AttemptOutcome::Stopped,
    }
}

/// How often a stop of the process is looked for.
const TICK: Duration = Duration::from_millis(250);
/// How late a tick is after a stop, rather than under load.
const STOP: Duration = Duration::from_secs(1);
/// How many stops a delivery is given time for.
const MOST_STOPS: u32 = 3;

/// The time limit of a delivery, which begins anew when the process goes on after a stop: SIGSTOP, a frozen
/// container, a debugger. The clock of a suspended machine stands still on most systems.
struct TimeLimit {
    timeout: Duration,
    deadline: Instant,
    /// When the process was last seen running.
    seen: Instant,
    stops: u32,
}

/// The end of a [`TimeLimit`].
enum TimeLimitEnd {
    Over,
    /// The process was stopped, and the limit has begun anew.
    Stopped {
        /// How long an answer may still be awaited that was under way before.
        grace: Duration,
    },
}

impl TimeLimit {
    fn new(timeout: Duration) -> Self {
        let now = std::time::Instant::now();
        Self { timeout, deadline: clock::after(timeout).into(), seen: now.into(), stops: 0 }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether the process was stopped since this was last called, [`TICK`] ago at the most. The limit then
    /// begins anew.
    fn was_stopped(&mut self) -> bool {
        let now = Instant::now();
        let was_stopped = now - self.seen > TICK + STOP && self.stops < MOST_STOPS;
        self.seen = now;
        if was_stopped {
            self.stops += 1;
            self.deadline = clock::after(self.timeout).into();
        }
        was_stopped
    }

    /// Waits for the end of the limit.
    async fn end(&mut self) -> TimeLimitEnd {
        loop {
            if self.was_stopped() {
                return TimeLimitEnd::Stopped { grace: self.timeout / 4 };
            }
            match self.left() {
                Duration::ZERO => return TimeLimitEnd::Over,
                left => sleep(left.min(TICK)).await,
            }
        }
    }

    async fn pause(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            self.was_stopped();
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return,
                left => sleep(left.min(TICK)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_by_half() {
        let backoff = Backoff::default();
        let millis = |attempt, random| backoff.pause(attempt, None, random).as_millis();
        assert_eq!([millis(1, 1.0), millis(2, 1.0), millis(3, 1.0)], [100, 200, 400]);
        assert_eq!([millis(1, 0.0), millis(40, 0.0), millis(40, 1.0)], [50, 2500, 5000]);
    }

    #[test]
    fn a_stop_of_the_process_begins_the_limit_anew_but_not_for_ever() {
        let mut limit = TimeLimit::new(Duration::from_secs(10));
        let stop = TICK + STOP + Duration::from_millis(1);
        assert!(!limit.was_stopped());
        for _ in 0..MOST_STOPS {
            (limit.seen, limit.deadline) = (limit.seen - stop, limit.seen);
            assert!(limit.was_stopped());
            assert!(limit.left() > Duration::from_secs(9));
        }
        (limit.seen, limit.deadline) = (limit.seen - stop, limit.seen);
        assert!(!limit.was_stopped());
        assert_eq!(limit.left(), Duration::ZERO);
    }

    #[test]
    fn the_delay_that_a_collector_asks_for_is_kept() {
        let pause = Backoff::default().pause(1, Some(Duration::from_secs(30)), 0.5);
        assert_eq!(pause, Duration::from_millis(30_050));
    }
}
