//! `feedback-desk forward`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::json::printable_json;
use super::{CommandError, CommandResult};
use crate::desk::forward::{ForwardOptions, ForwardingStatus, check, retry, status};
use crate::desk::query::time::rfc3339;
use crate::desk::store::forwarding::ForwardStore;
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
    pub(super) fn run(self, file: &Path, options: &ForwardOptions, is_json: bool) -> CommandResult {
        if !file.exists() {
            let error = format!("there is no {}: say which file with --store", file.display());
            return Err(CommandError::Failed(error));
        }
        match self {
            Self::Check => check_all(file, options, is_json),
            Self::Status => print_status(file, is_json),
            Self::Retry => {
                let writer = SqliteWriter::start_beside(file).map_err(CommandError::failed)?;
                let store = SqliteForwarding::new(file, LONGEST, Arc::new(writer));
                retry(&store, None).map_err(CommandError::failed)?;
                print("Everything that waits or was refused is due again.\n")
            }
        }
    }
}

fn check_all(file: &Path, options: &ForwardOptions, is_json: bool) -> CommandResult {
    if options.destinations.is_empty() {
        return Err(CommandError::Usage("--check needs --forward KIND=URL".to_owned()));
    }
    let store = SqliteForwarding::reading(file, LONGEST).map_err(CommandError::failed)?;
    let store: Arc<dyn ForwardStore> = Arc::new(store);
    let mut has_problem = false;
    for destination in &options.destinations {
        let checked =
            check(destination, options.selection, &store).map_err(CommandError::failed)?;
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

fn print_status(file: &Path, is_json: bool) -> CommandResult {
    let store = SqliteForwarding::reading(file, LONGEST).map_err(CommandError::failed)?;
    let found = status(&store, &[]).map_err(CommandError::failed)?;
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
