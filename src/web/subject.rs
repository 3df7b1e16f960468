//! Who is signed in, as the service knows it.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap};

/// What is known of a request before its body.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SubjectOf<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// What middleware has left in it.
    pub extensions: &'a Extensions,
}

type Say = dyn Fn(SubjectOf<'_>) -> Option<String> + Send + Sync;

/// Says who is signed in; by default no one.
#[derive(Clone, Default)]
pub(super) struct Subject(Option<Arc<Say>>);

impl Subject {
    pub(super) fn new(
        say: impl Fn(SubjectOf<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(say)))
    }

    pub(super) fn of(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
        self.0.as_ref()?(SubjectOf { headers, extensions })
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.0.is_some()).finish()
    }
}
