//! Setup of a new service: configured by the environment, and global.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

use super::builder::builder;
use super::env::{Environment, EnvironmentIssue};
use super::error::BuildError;
use super::telemetry::Telemetry;
use crate::propagation::FeedbackPropagator;

/// Sets up a service that has no subscriber yet, from the environment alone.
///
/// - The layer, filtered by `FEEDBACK_TRACE_FILTER` (default `info`).
/// - A `fmt` layer, filtered by `RUST_LOG` (default `info`): turning logs down never turns feedback
///   off.
/// - Both in the global subscriber, and the formats of `OTEL_PROPAGATORS` as the global propagator
///   of the OpenTelemetry API.
///
/// The filters take `target=level` lists, for example `info,hyper=warn`, and with the feature
/// `env-filter` all that `EnvFilter` understands.
///
/// # Errors
///
/// The settings of the environment can't be applied, or a global subscriber is set already: see
/// [`BuildError`].
///
/// ```no_run
/// let telemetry = tracing_feedback::init()?;
/// // … serve …
/// telemetry.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn init() -> Result<Telemetry, BuildError> {
    let mut environment = Environment::read();
    let mut filter_issues = Vec::new();
    let captured =
        filter("FEEDBACK_TRACE_FILTER", environment.trace_filter.as_deref(), &mut filter_issues);
    let logged = filter("RUST_LOG", environment.rust_log.as_deref(), &mut filter_issues);
    environment.issues.extend(filter_issues);
    let (layer, telemetry) = builder().assemble(environment)?;
    let settings = &telemetry.core().settings;
    let propagator =
        FeedbackPropagator { formats: settings.formats, sessions: settings.session_propagation };
    let subscriber = tracing_subscriber::registry()
        .with(layer.with_filter(captured))
        .with(tracing_subscriber::fmt::layer().with_filter(logged));
    subscriber.try_init().map_err(|_| BuildError::SubscriberSet)?;
    opentelemetry::global::set_text_map_propagator(propagator);
    telemetry.core().report_issues();
    Ok(telemetry)
}

#[cfg(not(feature = "env-filter"))]
type DirectiveFilter = tracing_subscriber::filter::Targets;
#[cfg(feature = "env-filter")]
type DirectiveFilter = tracing_subscriber::EnvFilter;

fn filter(
    variable: &'static str,
    directives: Option<&str>,
    issues: &mut Vec<EnvironmentIssue>,
) -> DirectiveFilter {
    let parsed = directives.map(|directives| (directives, parse(directives)));
    match parsed {
        Some((_, Ok(filter))) => filter,
        Some((directives, Err(reason))) => {
            let reason = format!("isn't a filter ({reason}): write for example `info,hyper=warn`");
            issues.push(EnvironmentIssue::new(variable, directives, reason));
            default_filter()
        }
        None => default_filter(),
    }
}

#[cfg(not(feature = "env-filter"))]
fn parse(directives: &str) -> Result<DirectiveFilter, String> {
    directives.parse().map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

#[cfg(feature = "env-filter")]
fn parse(directives: &str) -> Result<DirectiveFilter, String> {
    tracing_subscriber::EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
}

#[cfg(not(feature = "env-filter"))]
fn default_filter() -> DirectiveFilter {
    DirectiveFilter::new().with_default(LevelFilter::INFO)
}

#[cfg(feature = "env-filter")]
fn default_filter() -> DirectiveFilter {
    DirectiveFilter::default().add_directive(LevelFilter::INFO.into())
}
