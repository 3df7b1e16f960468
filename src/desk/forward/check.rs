//! What a backend would be told, and whether it can be reached, without telling it.

use std::sync::Arc;

use serde::Serialize;

use super::backend::Known;
use super::destination::Destination;
use super::worker::{compare, connect};
use super::{Selection, otlp, state};
use crate::desk::store::Error;
use crate::desk::store::forwarding::{ChangePosition, ForwardStore};
use crate::suppress;

/// Targets that are read at once.
const MOST_TARGETS: usize = 1_000;

/// The state of a backend before it is forwarded to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::desk) struct CheckedBackend {
    /// `KIND=URL`
    pub(in crate::desk) name: String,
    /// Why it can't be reached.
    pub(in crate::desk) problem: Option<String>,
    /// Records that would be created, changed and deleted. What is not known to be there counts as created.
    pub(in crate::desk) creates: u64,
    pub(in crate::desk) changes: u64,
    pub(in crate::desk) deletes: u64,
    /// Targets that these are about, of all with feedback.
    pub(in crate::desk) targets: u64,
    pub(in crate::desk) all_targets: u64,
}

/// Checks a backend. From a thread that may wait.
pub(in crate::desk) fn check(
    destination: &Destination,
    selection: Selection,
    store: &Arc<dyn ForwardStore>,
) -> Result<CheckedBackend, Error> {
    let name = destination.to_string();
    let mut checked = CheckedBackend {
        problem: match destination.kind == &otlp::KIND {
            true => otlp::probe(destination).err(),
            false => probe(destination).err(),
        },
        creates: 0,
        changes: 0,
        deletes: 0,
        targets: 0,
        all_targets: 0,
        name,
    };
    let mut id = None;
    store.read_state(&mut |connection| {
        id = state::find(connection, &checked.name)?;
        Ok(())
    })?;
    if destination.kind == &otlp::KIND {
        return check_spans(checked, id, &**store);
    }
    let mut position = ChangePosition { changed: 0, row: 0 };
    loop {
        let targets = store.changed_after(position, MOST_TARGETS)?;
        let Some(last) = targets.last() else { return Ok(checked) };
        position = last.position;
        checked.all_targets += targets.len() as u64;
        // A backend that was never forwarded to has no row, and was told nothing.
        let found = compare(&**store, id.unwrap_or(-1), &targets, selection)?.differences;
        let mut about: Vec<usize> = found.iter().map(|difference| difference.target).collect();
        about.sort_unstable();
        about.dedup();
        checked.targets += about.len() as u64;
        for difference in &found {
            *match difference.change(&targets).known {
                _ if difference.wanted.is_none() => &mut checked.deletes,
                Known::Present => &mut checked.changes,
                Known::Absent | Known::Unknown => &mut checked.creates,
            } += 1;
        }
    }
}

/// Of spans that are passed on, `creates` are those behind the position.
fn check_spans(
    mut checked: CheckedBackend,
    id: Option<i64>,
    store: &dyn ForwardStore,
) -> Result<CheckedBackend, Error> {
    let mut position = ChangePosition::default();
    if let Some(id) = id {
        store.read_state(&mut |connection| {
            (position, _) = state::position(connection, id)?;
            Ok(())
        })?;
    }
    [checked.creates, _] = store.count_spans(position.row)?;
    Ok(checked)
}

/// Makes a call that changes nothing.
fn probe(destination: &Destination) -> Result<(), String> {
    let (backend, client) = connect(destination)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    suppress::mark_this_thread();
    let reply = runtime.block_on(client.send(&backend.probe()));
    let reply = reply.map_err(|reason| client.without_secrets(&reason))?;
    match backend.probed(&reply) {
        Ok(()) => Ok(()),
        Err(reason) => Err(client.without_secrets(&reason)),
    }
}
