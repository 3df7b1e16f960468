//! Delivery with retries as the specification asks: exponential backoff with jitter, or the delay
//! that the collector asks for.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{ExportReply, RequestPieces, SendFailure, Transport};

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

/// Sends `request` until it is accepted, or fails for good, or `deadline` is near. A connection on
/// which there is no answer by then is given up: it may be dead without a sign, after a NAT or a load
/// balancer has forgotten it.
pub(crate) async fn deliver(
    transport: &mut impl Transport,
    request: RequestPieces,
    backoff: Backoff,
    deadline: Instant,
    attempts: &mut Attempts,
) -> Result<ExportReply, SendFailure> {
    let mut attempt = 0;
    loop {
        attempts.is_waiting = true;
        let sent = timeout_at(deadline, transport.send(request.clone())).await;
        attempts.is_waiting = false;
        let (message, wait) = match sent {
            Ok(Err(SendFailure::Retryable { message, wait })) => (message, wait),
            Ok(result) => return result,
            Err(_) => {
                attempts.reconnect(transport);
                let message = "the collector did not answer in time".to_owned();
                return Err(SendFailure::Retryable { message, wait: None });
            }
        };
        if transport.has_died() {
            attempts.reconnect(transport);
        }
        attempt += 1;
        let pause = backoff.pause(attempt, wait, crate::random::fraction());
        if pause >= deadline.saturating_duration_since(Instant::now()) {
            return Err(SendFailure::Retryable { message, wait });
        }
        sleep(pause).await;
        attempts.retried += 1;
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
    fn the_delay_that_a_collector_asks_for_is_kept() {
        let pause = Backoff::default().pause(1, Some(Duration::from_secs(30)), 0.5);
        assert_eq!(pause, Duration::from_millis(30_050));
    }
}
