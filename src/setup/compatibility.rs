//! Which version of OpenTelemetry this crate works with, and what it accepts of that version.
//!
//! | this crate | `opentelemetry`, `opentelemetry_sdk`, `opentelemetry-otlp` | `tracing-opentelemetry` |
//! | --- | --- | --- |
//! | 0.1 | 0.33 | 0.34 |
//!
//! To cargo, each 0.x version of `opentelemetry` is a crate of its own: its types, its active `Context` and
//! its global providers have nothing to do with those of another version, even if both are in one program.
//! No release of this crate works with 0.32 or earlier, so a service that has those upgrades OpenTelemetry
//! first. `cargo tree -d` lists crates that are there in two versions, and `cargo tree -i
//! opentelemetry@0.32` shows where the older one comes from.
//!
//! # What the compiler says
//!
//! An exporter, sampler, id generator or span processor of another version is refused with a message that
//! names the versions, and so is a target of late feedback: the traits of this module are there for that.
//! Types that are named in a signature (`Resource`, `SpanLimits`, `Context`, `SpanContext`, `Status`) are
//! "mismatched types" to the compiler, which adds that there are multiple different versions of the crate and
//! names the files of both.
//!
//! # What only shows at run time
//!
//! Code that passes no types between the two compiles. A span of another version's provider or of a
//! `tracing-opentelemetry` that isn't 0.34 is not seen by this crate: enrichment of it is refused as
//! [`NotInstalled`](crate::EnrichError::NotInstalled) or [`NoActiveSpan`](crate::EnrichError::NoActiveSpan), and a
//! propagator of that version writes no headers for spans of this crate's layer.

use opentelemetry_sdk::trace::{IdGenerator, ShouldSample, SpanExporter, SpanProcessor};

/// Declares a trait that all types with the bounds have, and whose error names the versions. Each trait is
/// a bound of its own since the compiler says the message of that bound, not of what it follows from.
macro_rules! accepted {
    ($(#[$docs:meta])* $name:ident: $what:literal, $($bounds:tt)+) => {
        $(#[$docs])*
        #[diagnostic::on_unimplemented(
            message = $what,
            label = "not of `opentelemetry_sdk` 0.33",
            note = "tracing-feedback 0.1 works with `opentelemetry`, `opentelemetry_sdk` and `opentelemetry-otlp` \
                    0.33, and with `tracing-opentelemetry` 0.34",
            note = "a type with that trait in another version of `opentelemetry_sdk` doesn't have it in this \
                    one: `cargo tree -d` lists crates that are there twice",
            note = "no release of tracing-feedback works with OpenTelemetry 0.32 or earlier: upgrade \
                    `opentelemetry`, `opentelemetry_sdk` and the exporter to 0.33"
        )]
        pub trait $name: $($bounds)+ {}

        impl<T: $($bounds)+> $name for T {}
    };
}

accepted! {
    /// Any [`SpanExporter`] of `opentelemetry_sdk` 0.33. Nothing else has to be implemented.
    AnySpanExporter: "`{Self}` is no `SpanExporter` of `opentelemetry_sdk` 0.33", SpanExporter + 'static
}

accepted! {
    /// Any sampler of `opentelemetry_sdk` 0.33: what implements [`ShouldSample`], or is such a trait object
    /// in a box. Nothing else has to be implemented.
    AnySampler: "`{Self}` is no sampler of `opentelemetry_sdk` 0.33", Into<Box<dyn ShouldSample>> + 'static
}

accepted! {
    /// Any [`IdGenerator`] of `opentelemetry_sdk` 0.33. Nothing else has to be implemented.
    AnyIdGenerator: "`{Self}` is no `IdGenerator` of `opentelemetry_sdk` 0.33", IdGenerator + 'static
}

accepted! {
    /// Any [`SpanProcessor`] of `opentelemetry_sdk` 0.33. Nothing else has to be implemented.
    AnySpanProcessor: "`{Self}` is no `SpanProcessor` of `opentelemetry_sdk` 0.33", SpanProcessor + 'static
}
