//! Issues with variables of the environment, shown without secrets.

pub(crate) use crate::settings::EnvironmentIssue;

/// The variable for ticket keys, which are secrets.
pub(super) const TICKET_KEYS: &str = "FEEDBACK_TICKET_KEYS";

/// Shown instead of a secret.
pub(super) const HIDDEN: &str = "[hidden]";

impl EnvironmentIssue {
    /// The only way to make an issue: it hides secrets.
    pub(crate) fn new(variable: &'static str, value: &str, reason: impl Into<String>) -> Self {
        let value = if variable.ends_with("_HEADERS") || variable == TICKET_KEYS {
            HIDDEN.to_owned()
        } else if ["_ENDPOINT", "_PROXY", "_proxy"].iter().any(|end| variable.ends_with(end)) {
            shorten(&redact_endpoint(value))
        } else {
            shorten(value)
        };
        Self { variable, value, reason: reason.into() }
    }
}

pub(super) fn shorten(value: &str) -> String {
    const LONGEST: usize = 200;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// An endpoint without what may be a secret: credentials before the host, and the query.
pub(crate) fn redact_endpoint(endpoint: &str) -> String {
    let (endpoint, query) = match endpoint.split_once('?') {
        // An `@` further on means that the `?` was part of malformed credentials.
        Some((before, after)) if !after.contains('@') => (before, Some(HIDDEN)),
        _ => (endpoint, None),
    };
    let mut shown = match endpoint.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            let separator = if scheme.is_empty() { "" } else { "://" };
            format!("{scheme}{separator}{HIDDEN}@{host}")
        }
        None => endpoint.to_owned(),
    };
    if let Some(query) = query {
        shown.push('?');
        shown.push_str(query);
    }
    shown
}
