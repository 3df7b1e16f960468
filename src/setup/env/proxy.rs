//! The variables for proxies, by the names that curl has given them.

use std::ffi::OsString;
use std::fmt;

use super::issue::redact_endpoint;
use super::reader::Reader;

/// The value of a variable, which may have credentials in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProxyVariable {
    pub(crate) variable: &'static str,
    pub(crate) value: String,
}

impl fmt::Debug for ProxyVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.variable, redact_endpoint(&self.value))
    }
}

#[derive(Debug, Default)]
pub(crate) struct ProxyVariables {
    /// For `https://` endpoints.
    pub(crate) https: Option<ProxyVariable>,
    /// For `http://` endpoints.
    pub(crate) http: Option<ProxyVariable>,
    /// For both, where the others are not set.
    pub(crate) all: Option<ProxyVariable>,
    /// The hosts that are reached without a proxy.
    pub(crate) none: Option<String>,
}

/// Reads them all. Of each the name in capitals wins.
pub(super) fn read<F: Fn(&str) -> Option<OsString>>(reader: &mut Reader<F>) -> ProxyVariables {
    // Under CGI the variable `HTTP_PROXY` is a header of the request, which anyone can send.
    let is_cgi = reader.text("REQUEST_METHOD").is_some();
    let mut proxy = |variables: [&'static str; 2]| {
        let mut variables = variables.into_iter();
        variables
            .find_map(|variable| Some(ProxyVariable { variable, value: reader.text(variable)? }))
    };
    ProxyVariables {
        https: proxy(["HTTPS_PROXY", "https_proxy"]),
        http: proxy(["HTTP_PROXY", "http_proxy"]).filter(|_| !is_cgi),
        all: proxy(["ALL_PROXY", "all_proxy"]),
        none: proxy(["NO_PROXY", "no_proxy"]).map(|proxy| proxy.value),
    }
}
