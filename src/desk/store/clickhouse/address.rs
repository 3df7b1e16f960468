//! Which ClickHouse, and which table of it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::str::FromStr;

use http::Uri;

use crate::desk::query::datum::ValueKind;

/// `http://[user[:password]@]host[:port][/database][?table=otel_traces&type.FIELD=number]`
///
/// The port is 8123 (8443 for https), the user `default`, the database `default`, the table `otel_traces`,
/// as the Collector's exporter has them. The password may be in `CLICKHOUSE_PASSWORD` instead, where
/// the list of processes does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    url: String,
    host: String,
    is_secure: bool,
    user: String,
    password: Option<String>,
    database: String,
    table: String,
    /// Types that are not to be guessed from values.
    types: BTreeMap<String, ValueKind>,
}

impl Address {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub(super) fn database(&self) -> &str {
        &self.database
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    pub(super) fn types(&self) -> &BTreeMap<String, ValueKind> {
        &self.types
    }

    /// With the settings of a query.
    pub(super) fn url_with(&self, settings: &[(&str, &str)]) -> String {
        let mut url = self.url.clone();
        for (at, (name, value)) in settings.iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            encode(value, &mut url);
        }
        url
    }

    /// With the password of the environment, where none was given.
    pub(crate) fn or_password(mut self, password: Option<String>) -> Self {
        self.password = self.password.or(password);
        self
    }
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clickhouse={}{}?table={}", self.url, self.database, self.table)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A ClickHouse on this machine with its defaults.
impl Default for Address {
    fn default() -> Self {
        Self {
            url: "http://localhost:8123/".to_owned(),
            host: "localhost".to_owned(),
            is_secure: false,
            user: "default".to_owned(),
            password: None,
            database: "default".to_owned(),
            table: "otel_traces".to_owned(),
            types: BTreeMap::new(),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("this is no address of a ClickHouse ({what}): write http://host:8123/database")
        };
        let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it begins with neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        let (login, host) = match authority.as_str().rsplit_once('@') {
            Some((login, _)) => (Some(login), authority.host()),
            None => (None, authority.host()),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            None => ("default".to_owned(), None),
            Some((user, password)) => {
                let password = decoded(password).ok_or_else(|| wrong("its password"))?;
                let user = decoded(user).ok_or_else(|| wrong("its user"))?;
                (user, Some(password).filter(|password| !password.is_empty()))
            }
        };
        let is_header = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !is_header(&user) || !password.as_deref().is_none_or(is_header) {
            return Err(wrong("its user or password has characters that a header can't carry"));
        }
        let port = authority.port_u16().unwrap_or(if is_secure { 8443 } else { 8123 });
        let scheme = if is_secure { "https" } else { "http" };
        let path = uri.path().trim_matches('/');
        let database = decoded(path).ok_or_else(|| wrong("its database"))?;
        let database = if database.is_empty() { "default".to_owned() } else { database };
        let (mut table, mut types) = ("otel_traces".to_owned(), BTreeMap::new());
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| wrong(key))?;
            match key.strip_prefix("type.") {
                Some(field) => {
                    let kind = [ValueKind::Bool, ValueKind::Number, ValueKind::Text]
                        .into_iter()
                        .find(|kind| kind.name() == value)
                        .ok_or_else(|| wrong(&format!("`{key}` is bool, number or string")))?;
                    let field = decoded(field).ok_or_else(|| wrong(key))?;
                    types.insert(field, kind);
                }
                None if key == "table" && !value.is_empty() => table = value,
                None => return Err(wrong(&format!("`{key}` is neither `table` nor `type.FIELD`"))),
            }
        }
        Ok(Self {
            url: format!("{scheme}://{host}:{port}/"),
            host: host.to_owned(),
            is_secure,
            user,
            password,
            database,
            table,
            types,
        })
    }
}

/// With percent signs.
fn encode(text: &str, url: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}"); // a String takes all
        }
    }
}

/// Without its percent signs.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_its_defaults_and_shown_without_its_password() {
        let plain: Address = "http://127.0.0.1".parse().unwrap();
        assert_eq!(plain.to_string(), "clickhouse=http://127.0.0.1:8123/default?table=otel_traces");
        assert_eq!((plain.user(), plain.password()), ("default", None));
        assert!(plain.is_loopback() && !plain.is_secure());
        let full = "https://me:s%40fe@ch.example/otel?table=spans&type.feedback.zip=string";
        let full: Address = full.parse().unwrap();
        assert_eq!(format!("{full:?}"), "clickhouse=https://ch.example:8443/otel?table=spans");
        assert_eq!((full.user(), full.password()), ("me", Some("s@fe")));
        assert_eq!(full.types()["feedback.zip"], ValueKind::Text);
        assert!(!full.is_loopback() && full.is_secure());
        let given = plain.or_password(Some("of the environment".to_owned()));
        assert_eq!(given.password(), Some("of the environment"));
    }

    #[test]
    fn what_is_no_address_is_refused_by_what_is_wrong() {
        for (text, what) in [
            ("127.0.0.1:8123", "neither http"),
            ("ftp://host", "neither http"),
            ("http://host?type.feedback.x=date", "bool, number or string"),
            ("http://host?tabel=x", "neither `table`"),
            ("http://me:%zz@host", "password"),
            ("http://me%0a@host", "header"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
