//! `feedback-desk forward`.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::json::printable_json;
use super::{CommandError, CommandResult};
use crate::desk::forward::{ForwardOptions, ForwardingStatus, check, retry, status};
use crate::desk::query::time::rfc3339;
use crate::desk::store::clickhouse::{ClickHouse, ClickHouseForwarding};
use crate::desk::store::forwarding::ForwardStore;
use crate::desk::store::location::Location;
use crate::desk::store::sqlite::{SqliteForwarding, SqliteWriter};
use crate::printable::printable;

/// The longest query.
const LONGEST: Duration = Duration::from_secs(60);

/// What the command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForwardCommand {
    Check,
    Status,
    Retry,
}

impl ForwardCommand {
    pub(super) fn run(
        self,
        place: &Location,
        options: &ForwardOptions,
        is_json: bool,
    ) -> CommandResult {
        let store = self.open(place, options)?;
        match self {
            Self::Check => check_all(&store, options, is_json),
            Self::Status => print_status(&*store, is_json),
            Self::Retry => {
                retry(&*store, None).map_err(CommandError::failed)?;
                print("Everything that waits or was refused is due again.\n")
            }
        }
    }

    fn open(
        self,
        place: &Location,
        options: &ForwardOptions,
    ) -> Result<Arc<dyn ForwardStore>, CommandError> {
        let missing = |what: String, flag: &str| {
            CommandError::Failed(format!("there is no {what}: say which file with {flag}"))
        };
        match place {
            Location::File(path) if !path.exists() => Err(missing(place.to_string(), "--store")),
            Location::File(path) if self == Self::Retry => {
                let writer = SqliteWriter::start_beside(path).map_err(CommandError::failed)?;
                Ok(Arc::new(SqliteForwarding::new(path, LONGEST, Arc::new(writer))))
            }
            Location::File(path) => {
                let store = SqliteForwarding::reading(path, LONGEST);
                Ok(Arc::new(store.map_err(CommandError::failed)?))
            }
            Location::ClickHouse(address) => {
                let state = options.state();
                if self != Self::Check && !state.exists() {
                    return Err(missing(state.display().to_string(), "--forward-state"));
                }
                let store = ClickHouse::open(address.clone(), LONGEST);
                let store = Arc::new(store.map_err(CommandError::failed)?);
                let store = ClickHouseForwarding::open(store, &state);
                Ok(Arc::new(store.map_err(CommandError::failed)?))
            }
        }
    }
}

fn check_all(
    store: &Arc<dyn ForwardStore>,
    options: &ForwardOptions,
    is_json: bool,
) -> CommandResult {
    if options.destinations.is_empty() {
        return Err(CommandError::Usage("--check needs --forward KIND=URL".to_owned()));
    }
    let mut has_problem = false;
    for destination in &options.destinations {
        let checked = check(destination, options.selection, store).map_err(CommandError::failed)?;
        has_problem |= checked.problem.is_some();
        if is_json {
            let line = serde_json::to_string(&checked).map_err(CommandError::failed)?;
            print(&format!("{}\n", printable_json(&line)))?;
            continue;
        }
        let reached = match &checked.problem {
            None => "can be reached".to_owned(),
            Some(problem) => printable(problem),
        };
        print(&format!(
            "{}\n  {reached}\n  would be told of {} of {} targets: {} records created, {} changed, {} deleted\n",
            printable(&checked.name),
            checked.targets,
            checked.all_targets,
            checked.creates,
            checked.changes,
            checked.deletes
        ))?;
    }
    match has_problem {
        true => Err(CommandError::Failed("not every backend can be reached".to_owned())),
        false => Ok(()),
    }
}

fn print_status(store: &dyn ForwardStore, is_json: bool) -> CommandResult {
    let found = status(store, &[]).map_err(CommandError::failed)?;
    if is_json {
        let line = serde_json::to_string(&found).map_err(CommandError::failed)?;
        return print(&format!("{}\n", printable_json(&line)));
    }
    print(&text(&found))
}

fn text(status: &ForwardingStatus) -> String {
    if status.backends.is_empty() {
        return "Nothing was ever forwarded.\n".to_owned();
    }
    let mut text = String::new();
    for it in &status.backends {
        text += &format!(
            "{}\n  {} records told, {} targets wait for their span, {} for the backend, {} records refused\n",
            printable(&it.name),
            it.told,
            it.waiting_for_target,
            it.waiting_for_backend,
            it.refused
        );
        if let (Some(failed), Some(reason)) = (it.failed, &it.reason) {
            text += &format!(
                "  takes nothing since {}: {}\n",
                rfc3339((failed * 1e6) as i64),
                printable(reason)
            );
        }
        for listed in &it.listed {
            let what = if listed.is_refused { "refused" } else { "waits" };
            let (target, reason) = (printable(&listed.target), printable(&listed.reason));
            text += &format!("  {what}: {target}: {reason}\n");
        }
    }
    text
}

fn print(text: &str) -> CommandResult {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::write)
}
