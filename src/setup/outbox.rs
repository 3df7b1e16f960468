//! The outbox, as configured by code and environment.

use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::env::{Environment, EnvironmentIssue, OUTBOX_DIR};
use super::error::BuildError;
use crate::otlp::Signal;
use crate::otlp::request::{resource_fields, scope_fields};
use crate::outbox::{Outbox, OutboxOptions, OutboxPolicy};

/// The outbox configured in code.
pub(super) type OutboxSetting = Option<OutboxOptions>;

/// Whether an outbox is configured.
pub(super) fn is_configured(setting: &OutboxSetting, environment: &Environment) -> bool {
    setting.is_some() || environment.outbox_directory.is_some()
}

/// Opens the configured outbox, if any: that of spans, and that of log records if there are events.
/// `supports_outbox` is whether the sink of spans can send from an outbox.
///
/// # Errors
///
/// The outbox configured in code can't be used. For one configured by the environment that is an issue.
pub(super) fn open(
    setting: OutboxSetting,
    environment: &mut Environment,
    supports_outbox: bool,
    has_events: bool,
    resource: &Resource,
    scope: &InstrumentationScope,
) -> Result<[Option<Arc<Outbox>>; 2], BuildError> {
    let is_from_code = setting.is_some();
    let directory = environment.outbox_directory.take();
    let Some(mut options) = setting.or_else(|| directory.map(OutboxOptions::new)) else {
        return Ok([None, None]);
    };
    if !is_from_code && let Some(writes_ahead) = environment.outbox_writes_ahead {
        options.policy = if writes_ahead { OutboxPolicy::WriteAhead } else { OutboxPolicy::Spill };
    }
    let path = options.path.clone();
    let open = |signal, options| {
        Outbox::open(options, signal, resource_fields(resource), scope_fields(scope))
            .map_err(|source| BuildError::Outbox { path: path.clone(), source })
    };
    // Log records get a quarter of the space.
    let of_logs =
        has_events.then(|| OutboxOptions { max_bytes: options.max_bytes / 4, ..options.clone() });
    options.max_bytes -= of_logs.as_ref().map_or(0, |of_logs| of_logs.max_bytes);
    let opened = match supports_outbox {
        true => open(Signal::Traces, options).and_then(|of_spans| {
            let of_logs = of_logs.map(|of_logs| open(Signal::Logs, of_logs)).transpose();
            // Its thread ends with it.
            Ok([Some(of_spans.clone()), of_logs.inspect_err(|_| of_spans.close())?])
        }),
        false => Err(BuildError::OutboxWithoutOtlp),
    };
    match opened {
        Ok(outboxes) => Ok(outboxes),
        Err(error) if is_from_code => Err(error),
        Err(error) => {
            let path = path.to_string_lossy();
            let reason = format!("can't be used: {error}");
            environment.issues.push(EnvironmentIssue::new(OUTBOX_DIR, &path, reason));
            Ok([None, None])
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_of_the_environment_that_others_may_write_to_is_an_issue_and_no_outbox() {
        let name = format!("tracing-feedback-shared-{:016x}", crate::random::number());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut environment = Environment {
            outbox_directory: Some(path.to_string_lossy().into_owned()),
            ..Environment::default()
        };
        let resource = Resource::builder_empty().build();
        let scope = InstrumentationScope::builder("outbox").build();
        let opened = open(None, &mut environment, true, false, &resource, &scope).unwrap();
        assert!(opened.iter().all(Option::is_none));
        let issue = environment.issues[0].to_string();
        assert!(issue.contains(OUTBOX_DIR) && issue.contains("chmod go-w"), "{issue}");
        std::fs::remove_dir(path).unwrap();
    }
}
