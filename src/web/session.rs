//! Which session a request belongs to.

use http::HeaderMap;
use http::header::COOKIE;

use super::HttpLayerSettings;
use crate::session::Session;
use crate::ticket::Ticket;

/// The session that a request joins: that of its verified ticket, or else that of the trusted
/// header or cookie.
pub(super) fn joined(
    settings: &HttpLayerSettings,
    headers: &HeaderMap,
    ticket: Option<&Ticket>,
) -> Option<Session> {
    let from_ticket = ticket.and_then(|ticket| ticket.session().cloned());
    from_ticket.or_else(|| trusted(settings, headers))
}

fn trusted(settings: &HttpLayerSettings, headers: &HeaderMap) -> Option<Session> {
    let header = settings.session_header.as_ref().and_then(|name| headers.get(name));
    let header = header.and_then(|value| value.to_str().ok());
    let cookie = settings.session_cookie.as_deref().and_then(|name| cookie(headers, name));
    header.into_iter().chain(cookie).find_map(|id| Session::with_id(id).ok())
}

/// The value of the cookie `name`, in the syntax of
/// [RFC 6265](https://www.rfc-editor.org/rfc/rfc6265#section-4.2).
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"'))
    })
}
