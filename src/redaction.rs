//! Redaction: the one place where a service's own function sees every key and value before it is
//! stored, queued or written anywhere.

use std::fmt;
use std::sync::Arc;

use opentelemetry::Value;

use crate::user_code::{self, Panicked};

type Function = dyn Fn(&str, Value) -> Option<Value> + Send + Sync;

/// The function given to `with_redaction`.
#[derive(Clone)]
pub(crate) struct Redaction(Arc<Function>);

impl Redaction {
    pub(crate) fn new(
        function: impl Fn(&str, Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(function))
    }

    /// The redacted `value`: unchanged, replaced, or `None` if it is removed.
    ///
    /// # Errors
    ///
    /// The function panicked, and the value is lost.
    pub(crate) fn apply(&self, key: &str, value: Value) -> Result<Option<Value>, Panicked> {
        user_code::call(|| (self.0)(key, value))
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redaction(..)")
    }
}
