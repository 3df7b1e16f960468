//! The signed-in user of a request, as the service identifies users.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap};

/// The parts of a request from which a service finds the signed-in user.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SubjectOf<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's extensions, where middleware stores its results.
    pub extensions: &'a Extensions,
}

type SubjectFn = dyn Fn(SubjectOf<'_>) -> Option<String> + Send + Sync;

/// The service's function that returns the signed-in user of a request; none by default.
#[derive(Clone, Default)]
pub(super) struct SubjectExtractor(Option<Arc<SubjectFn>>);

impl SubjectExtractor {
    pub(super) fn new(
        function: impl Fn(SubjectOf<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(function)))
    }

    pub(super) fn of(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
        self.0.as_ref()?(SubjectOf { headers, extensions })
    }
}

impl fmt::Debug for SubjectExtractor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.0.is_some()).finish()
    }
}
