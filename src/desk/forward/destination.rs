//! A backend on the command line: `KIND=URL`, with its parameters in the query and its secrets in the environment.

use std::collections::BTreeMap;
use std::fmt;

use http::Uri;

use super::KINDS;
use super::backend::BackendKind;
use super::setup::{BackendSetup, decoded, encoded};
use crate::printable::printable;

/// A backend to forward to. It holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::desk) struct Destination {
    pub(super) kind: &'static BackendKind,
    /// Without the query, and without a slash at its end.
    pub(super) url: String,
    pub(super) is_loopback: bool,
    pub(super) parameters: BTreeMap<String, String>,
}

impl Destination {
    /// As it stands on a command line.
    ///
    /// # Errors
    ///
    /// The kind is unknown, or the URL or a parameter of it is not fit; the text says what to do. It never
    /// repeats a password.
    pub(in crate::desk) fn read(text: &str) -> Result<Self, String> {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        let names = names.join(", ");
        let Some((name, url)) = text.split_once('=').filter(|(name, _)| !name.contains(['/', '@']))
        else {
            return Err(format!("--forward takes KIND=URL, where KIND is one of {names}"));
        };
        let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
            return Err(format!("--forward {}: no such kind; there are {names}", printable(name)));
        };
        let wrong = |what: &str| format!("--forward {name}: {what}");
        let uri: Uri = url.parse().map_err(|_| wrong("this is no URL: write http://HOST:PORT"))?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else {
            return Err(wrong("the URL has to begin with http:// or https:// and a host"));
        };
        if authority.as_str().contains('@') {
            return Err(wrong(&format!(
                "a URL with a user or password would be seen in the list of processes: leave it out, and \
                 set {}",
                kind.variables.join(" and ")
            )));
        }
        let mut parameters = BTreeMap::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !kind.parameters.contains(&key) {
                return Err(wrong(&format!(
                    "the URL takes {}, not `{}`; secrets are read from {}",
                    match kind.parameters {
                        [] => "no parameters".to_owned(),
                        known => format!("the parameters {}", known.join(", ")),
                    },
                    printable(key),
                    kind.variables.join(" and ")
                )));
            }
            let value = decoded(value)
                .filter(|value| !value.is_empty() && !value.contains(char::is_control))
                .ok_or_else(|| {
                    wrong(&format!("the parameter `{key}` has no value that can be read"))
                })?;
            parameters.insert(key.to_owned(), value);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            kind,
            url: format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')),
            is_loopback: host == "localhost"
                || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
            parameters,
        })
    }

    /// With the secrets that the environment has for it.
    pub(super) fn setup(&self) -> BackendSetup {
        let value = |name: &&'static str| {
            let value = std::env::var(name).ok().map(|value| value.trim().to_owned());
            value.filter(|value| !value.is_empty()).map(|value| (*name, value))
        };
        let secrets = self.kind.variables.iter().filter_map(value).collect();
        BackendSetup::new(self.parameters.clone(), secrets)
    }
}

/// As it was given: there is no secret in it.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind.name, self.url)?;
        for (at, (key, value)) in self.parameters.iter().enumerate() {
            write!(f, "{}{key}={}", if at == 0 { '?' } else { '&' }, encoded(value))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_reads_as_it_is_written() {
        for (text, shown) in [
            ("phoenix=http://localhost:6006", "phoenix=http://localhost:6006"),
            ("phoenix=http://localhost:6006/", "phoenix=http://localhost:6006"),
            ("phoenix=https://h/px/?project=my%20chat", "phoenix=https://h/px?project=my%20chat"),
        ] {
            assert_eq!(Destination::read(text).unwrap().to_string(), shown);
        }
        assert!(Destination::read("phoenix=http://[::1]:1").unwrap().is_loopback);
        assert!(!Destination::read("phoenix=http://10.0.0.1:1").unwrap().is_loopback);
    }

    #[test]
    fn what_is_no_destination_is_refused_with_the_remedy_and_without_the_secret() {
        for (text, remedy) in [
            ("http://localhost:6006", "KIND=URL"),
            ("nothing=http://localhost:6006", "there are phoenix"),
            ("phoenix=localhost:6006", "http://"),
            ("phoenix=ftp://localhost", "http://"),
            ("phoenix=http://user:secret@localhost:6006", "set PHOENIX_API_KEY"),
            ("http://user:secret@localhost:6006/?a=b", "KIND=URL"),
            ("phoenix=http://localhost?api_key=secret", "secrets are read from PHOENIX_API_KEY"),
            ("phoenix=http://localhost?project=", "project"),
            ("phoenix=http://localhost?project=%zz", "project"),
            ("phoenix=http://localhost?project=%0d", "project"),
        ] {
            let error = Destination::read(text).unwrap_err();
            assert!(error.contains(remedy), "{text}: {error}");
            assert!(!error.contains("secret@") && !error.contains("=secret"), "{error}");
        }
    }
}
