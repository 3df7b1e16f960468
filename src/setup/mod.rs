//! Setup: builds a layer and the handle of its telemetry, from the settings of code and environment.
//!
//! [`builder`] touches nothing global; [`init`] is for a service that has no subscriber yet. Both read the
//! environment ([`env`](self::env)), and settings in code win over it.

mod builder;
pub mod compatibility;
mod env;
mod error;
mod global;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "_otlp")]
mod otlp;
#[cfg(feature = "outbox")]
mod outbox;
#[cfg(not(feature = "outbox"))]
#[path = "outbox_absent.rs"]
mod outbox;
#[cfg(feature = "_otlp")]
mod protocol;
#[cfg(feature = "signal")]
mod signal;
mod telemetry;

pub use builder::{Builder, builder};
pub use error::{BuildError, ConfigError};
pub use global::init;
#[cfg(feature = "_otlp")]
pub use protocol::{Compression, Protocol};
#[cfg(feature = "signal")]
pub use signal::shutdown_signal;
pub use telemetry::Telemetry;
