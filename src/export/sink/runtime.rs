//! The runtime of a sink: it drives connections and timers, and ends within a limit.

use std::time::Duration;

use tokio::runtime::{Handle, Runtime};

/// How long the end of the runtime waits for its threads.
const LIMIT: Duration = Duration::from_millis(100);

/// A runtime whose drop waits for at most [`LIMIT`].
///
/// The drop of tokio's [`Runtime`] waits for every blocking task that has begun, without a limit. A
/// connector of an exporter resolves names in such a task, and the resolver of the system may take a
/// minute.
pub(super) struct SinkRuntime {
    handle: Handle,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl SinkRuntime {
    pub(super) fn new(runtime: Runtime) -> Self {
        Self { handle: runtime.handle().clone(), runtime: Some(runtime) }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for SinkRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(LIMIT);
        }
    }
}
