//! Flushing and stopping the service's span processors, within a time limit.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanProcessor;

use crate::suppress;
use crate::user_code;

/// Calls `call` with every processor, on a thread of its own, and waits for at most `limit`.
/// Returns why processors have failed.
pub(super) fn on_each(
    processors: &Arc<[Box<dyn SpanProcessor>]>,
    limit: Duration,
    call: impl Fn(&dyn SpanProcessor) -> OTelSdkResult + Send + 'static,
) -> PendingCalls {
    let count = processors.len();
    let processors = processors.clone();
    let (done, results) = mpsc::channel();
    let until = Instant::now().checked_add(limit);
    let work = move || {
        suppress::mark_this_thread();
        for processor in &*processors {
            let result = user_code::call(|| call(processor.as_ref()));
            let result = match result {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("it panicked".to_owned()),
            };
            // The other side may have stopped waiting.
            let _ = done.send(result);
        }
    };
    // If the thread can't be started, the channel is closed, and the calls count as not done.
    let _ = thread::Builder::new().name("tracing-feedback-processors".to_owned()).spawn(work);
    PendingCalls { results, until, count }
}

/// Calls of processors that are under way.
pub(super) struct PendingCalls {
    results: mpsc::Receiver<Result<(), String>>,
    until: Option<Instant>,
    count: usize,
}

impl PendingCalls {
    /// Waits, and returns why processors have failed.
    pub(super) fn failures(self) -> Vec<String> {
        let mut failures = Vec::new();
        for _ in 0..self.count {
            let result = match self.until {
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    self.results.recv_timeout(left).map_err(|_| ())
                }
                None => self.results.recv().map_err(|_| ()),
            };
            match result {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => failures.push(failure),
                Err(()) => {
                    failures.push("it had not finished within the time limit".to_owned());
                    break;
                }
            }
        }
        failures
    }
}
