//! Redaction: the one place where a service's own function sees every key and value before it is
//! stored, queued or written anywhere.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use opentelemetry::Value;

type Function = dyn Fn(&str, Value) -> Option<Value> + Send + Sync;

/// The function given to `with_redaction`.
#[derive(Clone)]
pub(crate) struct Redaction(Arc<Function>);

/// The function panicked, and the value passed to it is lost.
#[derive(Debug)]
pub(crate) struct Panicked;

impl Redaction {
    pub(crate) fn new(
        function: impl Fn(&str, Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(function))
    }

    /// The redacted `value`: unchanged, replaced, or `None` if it is removed.
    pub(crate) fn apply(&self, key: &str, value: Value) -> Result<Option<Value>, Panicked> {
        catch_unwind(AssertUnwindSafe(|| (self.0)(key, value))).map_err(|_| Panicked)
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redaction(..)")
    }
}
