//! What OTLP is carried by, and how it is compressed.

use std::fmt;
use std::str::FromStr;

use crate::setup::error::ConfigError;

/// How spans are sent: what OTLP is carried by and how it is encoded.
///
/// The default is gRPC, whatever cargo features are on: another crate of the build that enables one
/// must not change where spans go. Without the feature `grpc` the protocol has to be given, by
/// [`Builder::with_protocol`](crate::Builder::with_protocol) or `OTEL_EXPORTER_OTLP_PROTOCOL`.
///
/// ```
/// use tracing_feedback::Protocol;
///
/// let protocol: Protocol = "http/protobuf".parse()?;
/// assert_eq!(protocol, Protocol::HttpProtobuf);
/// assert_eq!(protocol.to_string(), "http/protobuf");
/// # Ok::<(), tracing_feedback::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `grpc`, by default to `http://localhost:4317`.
    #[default]
    Grpc,
    /// `http/protobuf`, by default to `http://localhost:4318/v1/traces`.
    HttpProtobuf,
    /// `http/json`, by default to `http://localhost:4318/v1/traces`.
    HttpJson,
}

impl Protocol {
    /// The cargo feature that brings it.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http-proto",
            Self::HttpJson => "http-json",
        }
    }

    pub(crate) fn is_enabled(self) -> bool {
        match self {
            Self::Grpc => cfg!(feature = "grpc"),
            Self::HttpProtobuf => cfg!(feature = "http-proto"),
            Self::HttpJson => cfg!(feature = "http-json"),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        })
    }
}

impl FromStr for Protocol {
    type Err = ConfigError;

    /// Reads the specification's names, in any case and with blanks around them.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value.trim().to_ascii_lowercase().as_str() {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            "http/json" => Ok(Self::HttpJson),
            _ => Err(ConfigError::UnknownProtocol { value: value.to_owned() }),
        }
    }
}

/// How requests are compressed.
///
/// There is no `None`: the exporter has no word for it, and where it is told nothing it asks the
/// environment itself, so that code could never win over `OTEL_EXPORTER_OTLP_COMPRESSION=gzip`.
/// Nothing is compressed unless the code or the environment says so.
///
/// ```
/// use tracing_feedback::Compression;
///
/// assert_eq!("gzip".parse::<Compression>()?, Compression::Gzip);
/// assert_eq!(Compression::Zstd.to_string(), "zstd");
/// # Ok::<(), tracing_feedback::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// `gzip`, which every collector takes. Needs the cargo feature `gzip`.
    Gzip,
    /// `zstd`, smaller and faster. Needs the cargo feature `zstd`.
    Zstd,
}

impl Compression {
    /// The cargo feature that brings it.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn is_enabled(self) -> bool {
        match self {
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }

    #[cfg(feature = "_otlp-path")]
    #[allow(dead_code, reason = "not needed where both are on")]
    pub(super) fn feature_off(self) -> ConfigError {
        ConfigError::FeatureOff {
            setting: format!("the compression `{self}`"),
            feature: self.feature(),
        }
    }

    #[cfg(feature = "http-json")]
    pub(super) fn of_exporter(self) -> opentelemetry_otlp::Compression {
        match self {
            Self::Gzip => opentelemetry_otlp::Compression::Gzip,
            Self::Zstd => opentelemetry_otlp::Compression::Zstd,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl FromStr for Compression {
    type Err = ConfigError;

    /// Reads the specification's names, in any case and with blanks around them.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value.trim().to_ascii_lowercase().as_str() {
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(ConfigError::UnknownCompression { value: value.to_owned() }),
        }
    }
}
