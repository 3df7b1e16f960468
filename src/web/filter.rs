//! The requests that the layer handles.

use std::fmt;
use std::sync::Arc;

type FilterFn = dyn Fn(&str) -> bool + Send + Sync;

/// The service's function that says whether a path is handled; every path by default.
#[derive(Clone, Default)]
pub(super) struct PathFilter(Option<Arc<FilterFn>>);

impl PathFilter {
    pub(super) fn new(function: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(function)))
    }

    pub(super) fn takes(&self, path: &str) -> bool {
        self.0.as_ref().is_none_or(|function| function(path))
    }
}

impl fmt::Debug for PathFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PathFilter").field(&self.0.is_some()).finish()
    }
}
