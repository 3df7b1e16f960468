//! The protocols of OTLP and the compression of requests.
//!
//! A value of either type exists only with its cargo feature, so that code can't name a protocol or
//! compression that this build doesn't support. Text, as in the environment, can: the error then names the
//! feature.

use std::fmt;
use std::str::FromStr;

use crate::setup::error::ConfigError;

/// The protocol that spans are sent by: the transport of OTLP, and its encoding.
///
/// The default is gRPC, whatever cargo features are on: another crate of the build that enables one
/// must not change where spans are sent. Without the feature `grpc` there is no default, and the protocol
/// has to be set by [`Builder::with_protocol`](crate::Builder::with_protocol) or
/// `OTEL_EXPORTER_OTLP_PROTOCOL`.
///
/// ```
/// # #[cfg(feature = "http-proto")] {
/// use tracing_feedback::Protocol;
///
/// let protocol: Protocol = "http/protobuf".parse()?;
/// assert_eq!(protocol, Protocol::HttpProtobuf);
/// assert_eq!(protocol.to_string(), "http/protobuf");
/// # }
/// # Ok::<(), tracing_feedback::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "grpc", derive(Default))]
#[non_exhaustive]
pub enum Protocol {
    /// `grpc`, by default to `http://localhost:4317`.
    #[cfg(feature = "grpc")]
    #[default]
    Grpc,
    /// `http/protobuf`, by default to `http://localhost:4318/v1/traces`.
    #[cfg(feature = "http-proto")]
    HttpProtobuf,
    /// `http/json`, by default to `http://localhost:4318/v1/traces`.
    #[cfg(feature = "http-json")]
    HttpJson,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "grpc")]
            Self::Grpc => "grpc",
            #[cfg(feature = "http-proto")]
            Self::HttpProtobuf => "http/protobuf",
            #[cfg(feature = "http-json")]
            Self::HttpJson => "http/json",
        })
    }
}

impl FromStr for Protocol {
    type Err = ConfigError;

    /// Reads the specification's names, in any case and with blanks around them.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value.trim().to_ascii_lowercase().as_str() {
            #[cfg(feature = "grpc")]
            "grpc" => Ok(Self::Grpc),
            #[cfg(not(feature = "grpc"))]
            "grpc" => Err(ConfigError::feature_off("the protocol", value, "grpc")),
            #[cfg(feature = "http-proto")]
            "http/protobuf" => Ok(Self::HttpProtobuf),
            #[cfg(not(feature = "http-proto"))]
            "http/protobuf" => Err(ConfigError::feature_off("the protocol", value, "http-proto")),
            #[cfg(feature = "http-json")]
            "http/json" => Ok(Self::HttpJson),
            #[cfg(not(feature = "http-json"))]
            "http/json" => Err(ConfigError::feature_off("the protocol", value, "http-json")),
            _ => Err(ConfigError::UnknownProtocol { value: value.to_owned() }),
        }
    }
}

/// The compression of requests. By default they are not compressed.
///
/// ```
/// use tracing_feedback::Compression;
///
/// assert_eq!("none".parse::<Compression>()?, Compression::None);
/// assert_eq!(Compression::default(), Compression::None);
/// # #[cfg(feature = "gzip")]
/// assert_eq!("gzip".parse::<Compression>()?, Compression::Gzip);
/// # Ok::<(), tracing_feedback::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// `none`. In code it overrides a compression set by the environment.
    #[default]
    None,
    /// `gzip`, which every collector accepts.
    #[cfg(feature = "gzip")]
    Gzip,
    /// `zstd`, smaller and faster.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            #[cfg(feature = "gzip")]
            Self::Gzip => "gzip",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
        })
    }
}

impl FromStr for Compression {
    type Err = ConfigError;

    /// Reads the specification's names, in any case and with blanks around them.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value.trim().to_ascii_lowercase().as_str() {
            "none" => Ok(Self::None),
            #[cfg(feature = "gzip")]
            "gzip" => Ok(Self::Gzip),
            #[cfg(not(feature = "gzip"))]
            "gzip" => Err(ConfigError::feature_off("the compression", value, "gzip")),
            #[cfg(feature = "zstd")]
            "zstd" => Ok(Self::Zstd),
            #[cfg(not(feature = "zstd"))]
            "zstd" => Err(ConfigError::feature_off("the compression", value, "zstd")),
            _ => Err(ConfigError::UnknownCompression { value: value.to_owned() }),
        }
    }
}
