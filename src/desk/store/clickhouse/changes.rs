//! Changes of the data, for open pages. ClickHouse does not report changes, so it is polled.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

use super::sql::list;
use super::{ClickHouse, Result, tables};
use crate::desk::store::StoreVersion;
use crate::suppress;

/// The interval of the poll, which reads a system table.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread that polls. Dropping the handle stops the thread.
#[derive(Debug)]
pub(crate) struct Changes {
    changes: watch::Receiver<StoreVersion>,
    /// Dropping it stops the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The state of the tables: rows, bytes, and the time of the last refresh of the leaves.
pub(super) type Seen = (u64, u64, i64);

impl Changes {
    pub(crate) fn watch(store: Arc<ClickHouse>) -> std::io::Result<Self> {
        let (change, changes) = watch::channel(StoreVersion::default());
        let (stop, stopped) = channel::<()>();
        let work = move || {
            suppress::mark_this_thread();
            let mut last: Option<Seen> = None;
            // Whether rows have arrived that are not folded yet.
            let mut is_behind = false;
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let Ok(seen) = store.seen() else { continue }; // queries of the page report the error
                let has_come = last.is_some_and(|last| last.0 != seen.0);
                let is_folded = is_behind && last.is_some_and(|last| last.2 != seen.2);
                is_behind = has_come || is_behind && !is_folded;
                if has_come || is_folded || last.is_none() {
                    store.forget();
                    change.send_modify(|notice| {
                        notice.version += 1;
                        notice.used = seen.1;
                    });
                }
                last = Some(seen);
            }
        };
        let thread = thread::Builder::new().name("desk-changes".into()).spawn(work)?;
        Ok(Self { changes, stop: Some(stop), thread: Some(thread) })
    }

    /// The version of the stored data, and its size.
    pub(crate) fn changes(&self) -> watch::Receiver<StoreVersion> {
        self.changes.clone()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has been printed
        }
    }
}

impl ClickHouse {
    pub(super) fn seen(&self) -> Result<Seen> {
        let names = [self.client().address().table()].into_iter().chain(tables::NAMES);
        let (rows, bytes): (u64, u64) = self.client().row(&format!(
            "SELECT toUInt64(sumIf(ifNull(total_rows, 0), name = {})), toUInt64(sum(ifNull(total_bytes, 0)))
             FROM system.tables WHERE database = currentDatabase() AND name IN ({})",
            super::sql::text(self.client().address().table()),
            list(names)
        ))?;
        let folded = if self.relations()?.has_tables {
            let sql = format!(
                "SELECT ifNull(toInt64(max(last_success_time)), 0) FROM system.view_refreshes
                 WHERE database = currentDatabase() AND view = '{}'",
                tables::LEAVES
            );
            // The user may lack the right to read this table; then pages see folded data at their next query.
            self.client().row::<(i64,)>(&sql).map_or(0, |(time,)| time)
        } else {
            0
        };
        Ok((rows, bytes, folded))
    }
}
