//! Forwarding: keeps the feedback model of other backends equal to the fold.
//!
//! State, not messages. For each backend and each leaf the desk stores what the backend was told; a worker
//! compares that with the fold, and makes the calls that make both equal. So a changed vote updates a record in
//! place, a retraction deletes it, and order, repetitions, a crash or an outage of any length change nothing.
//!
//! | file | idea |
//! | --- | --- |
//! | `destination`, `setup` | `KIND=URL` of the command line; the parameters and secrets of a backend |
//! | `wanted` | from the fold of a target to the records that a backend should have |
//! | `names` | how names and ids are made fit for each backend: one table |
//! | `backend` | the trait of a backend: changes to calls, answers to outcomes; nothing in it sends |
//! | `client` | HTTP, with limits of size and time, and without secrets in what it reports |
//! | `state` | what backends were told, in tables of the store |
//! | `worker` | one thread a backend: finds differences, sends, writes down the outcome |
//! | `check` | what a backend would be told, without telling it |
//! | `status` | what was told, what waits, what was refused; retry on demand |
//! | `phoenix`, `mlflow`, `langfuse`, `langsmith`, `datadog`, `opik`, `honeyhive` | one file a backend |
//! | `otlp` | spans, passed on as they came |
//! | `pause` | how long what failed is left alone |
//!
//! # A new backend
//!
//! A file with an `impl Backend` and a [`BackendKind`], an entry in [`KINDS`], a row in `names`. The rules of the
//! trait are in [`backend`].

mod backend;
mod check;
mod client;
mod datadog;
mod destination;
mod honeyhive;
mod langfuse;
mod langsmith;
mod mlflow;
mod names;
mod opik;
mod otlp;
mod pause;
mod phoenix;
mod setup;
mod state;
mod status;
mod wanted;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{Notify, watch};

use super::store::forwarding::ForwardStore;
use super::store::{Error, StoreVersion};
use crate::desk::first_of;
use crate::suppress;
use backend::BackendKind;
pub(super) use check::check;
pub(super) use destination::Destination;
use otlp::SpanWorker;
pub(super) use status::{ForwardingStatus, retry, status};
use worker::Worker;

/// The backends that the desk can forward to.
const KINDS: &[BackendKind] = &[
    phoenix::KIND,
    mlflow::KIND,
    langfuse::KIND,
    langsmith::KIND,
    datadog::KIND,
    opik::KIND,
    honeyhive::KIND,
    otlp::KIND,
];

/// What is forwarded, and where to.
#[derive(Clone, Debug, Default)]
pub(super) struct ForwardOptions {
    pub(super) destinations: Vec<Destination>,
    pub(super) selection: Selection,
    /// The file of the state, where the store is none.
    pub(super) state: Option<PathBuf>,
}

/// The file of the state of forwarding on ClickHouse.
pub(super) const STATE: &str = "feedback-desk-forward.sqlite";

impl ForwardOptions {
    pub(super) fn state(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| STATE.into())
    }
}

/// Which leaves are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// `metrics` besides `feedback`.
    pub(super) has_metrics: bool,
    /// Texts, which people wrote: comments, ground truths, other strings, and names of authors.
    pub(super) has_texts: bool,
}

impl Default for Selection {
    fn default() -> Self {
        Self { has_metrics: false, has_texts: true }
    }
}

/// The threads that forward. Dropping it ends them; calls that are under way are abandoned, and made again by the
/// next desk.
pub(super) struct Forwarding {
    access: ForwardAccess,
    /// Dropping it stops the threads.
    stop: Option<watch::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Forwarding {
    /// Starts a thread for each destination.
    ///
    /// # Errors
    ///
    /// A destination lacks a secret, or a thread can't be started; the text says what to do.
    pub(super) fn start(
        options: &ForwardOptions,
        store: Arc<dyn ForwardStore>,
        changes: &watch::Receiver<StoreVersion>,
    ) -> Result<Self, String> {
        let (stop, stopped) = watch::channel(());
        let active = options.destinations.iter().map(Destination::to_string).collect();
        let access = ForwardAccess { store: Arc::clone(&store), active, retry: Arc::default() };
        let mut forwarding = Self { access, stop: Some(stop), threads: Vec::new() };
        for destination in &options.destinations {
            let work = Work::new(destination, options.selection, &store)?;
            let (changes, stopped) = (changes.clone(), stopped.clone());
            let retry = Arc::clone(&forwarding.access.retry);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            let work = move || {
                suppress::mark_this_thread();
                runtime.block_on(work.run(changes, &retry, stopped));
            };
            let thread = thread::Builder::new().name("desk-forward".into()).spawn(work);
            forwarding.threads.push(thread.map_err(|error| error.to_string())?);
        }
        Ok(forwarding)
    }

    /// For the API.
    pub(super) fn access(&self) -> ForwardAccess {
        self.access.clone()
    }
}

/// The work of one thread.
enum Work {
    Feedback(Worker),
    Spans(SpanWorker),
}

impl Work {
    fn new(
        destination: &Destination,
        selection: Selection,
        store: &Arc<dyn ForwardStore>,
    ) -> Result<Self, String> {
        let store = Arc::clone(store);
        Ok(match destination.kind == &otlp::KIND {
            true => Self::Spans(SpanWorker::new(destination, store)?),
            false => Self::Feedback(Worker::new(destination, selection, store)?),
        })
    }

    /// Works until `stopped` is closed.
    async fn run(
        mut self,
        mut changes: watch::Receiver<StoreVersion>,
        retry: &Notify,
        mut stopped: watch::Receiver<()>,
    ) {
        let stop = async { drop(stopped.changed().await) }; // it is only ever closed
        let work = async {
            match &mut self {
                Self::Feedback(worker) => worker.work(&mut changes, retry).await,
                Self::Spans(worker) => worker.work(&mut changes, retry).await,
            }
        };
        first_of(stop, work).await;
    }
}

/// The state of forwarding, for the API. Cheap to clone.
#[derive(Clone)]
pub(super) struct ForwardAccess {
    store: Arc<dyn ForwardStore>,
    /// The backends of this desk.
    active: Vec<String>,
    retry: Arc<Notify>,
}

impl ForwardAccess {
    /// What was told, what waits, what was refused.
    pub(super) fn status(&self) -> Result<ForwardingStatus, Error> {
        status(&*self.store, &self.active)
    }

    /// Tries again at once what waits or was refused, at one backend or at all. Returns whether there is such a one.
    pub(super) fn retry(&self, backend: Option<String>) -> Result<bool, Error> {
        let found = retry(&*self.store, backend)?;
        self.retry.notify_waiters();
        Ok(found)
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic has been printed
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::backend::tests::reply;
    use super::backend::{Change, Known, Outcome, Planned};
    use super::setup::BackendSetup;
    use super::wanted::{items, tests::target};
    use super::*;
    use crate::desk::store::leaf::Leaf;

    /// Bodies made of what backends answer, cut and joined at random.
    fn body() -> impl Strategy<Value = String> {
        let parts = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"data\"",
            "\"id\"",
            "\"a\"",
            "{\"data\":[{\"id\":\"a\"}]}",
            "null",
            "7",
            "{\"detail\":\"Spans with IDs ",
            "000000000000000b",
            ", ",
            " do not exist.\"}",
            "{\"assessment\":{}}",
            "{\"error_code\":\"RESOURCE_DOES_NOT_EXIST\",\"message\":\"constraint violation\"}",
            "{\"accepted\":1,\"rejected\":1,\"errors\":[]}",
            "{\"message\":\"Score not found\"}",
            "{\"detail\":\"Run not found\"}",
            "{\"id\":\"00000000-0000-7000-8000-000000000000\"}",
            "{\"events\":[{\"event_id\":\"a\",\"session_id\":\"s\"}]}",
            "<html>",
            "\u{fffd}",
        ]);
        prop::collection::vec(parts, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

        /// No answer makes a backend panic, plan calls without end, count a failure as done, or give outcomes for
        /// more changes than the call has.
        #[test]
        fn any_answer_has_one_outcome(
            status in prop::sample::select(vec![200_u16, 201, 202, 204, 207, 301, 400, 401, 404, 409, 413, 422, 429, 500, 503]),
            body in body(),
            known in prop::sample::select(vec![Known::Absent, Known::Unknown, Known::Present]),
            is_deletion in any::<bool>(),
        ) {
            let about = target(&[("feedback.rating", Leaf::Bool(true))]);
            let items = items(&about, Selection::default());
            for kind in KINDS.iter().filter(|kind| **kind != otlp::KIND) {
                let secrets: Vec<_> = kind.variables.iter().map(|name| (*name, "secret")).collect();
                let backend = (kind.make)(&BackendSetup::of(&[], &secrets)).unwrap();
                let wanted = (!is_deletion).then_some(&items[0]);
                let changes = [Change { target: &about, field: "feedback.rating", wanted, known, memo: None }];
                let mut plan = backend.plan(&changes, &[0]);
                for _ in 0..6 {
                    let Some(Planned::Call(call)) = plan.pop() else { break };
                    match backend.outcome(&changes, &call, &reply(status, body.as_str())) {
                        Outcome::Done => {
                            let is_right = (200..300).contains(&status) || is_deletion && status == 404;
                            prop_assert!(is_right, "{}: {status} {body}", kind.name);
                        }
                        Outcome::Each(each) => prop_assert_eq!(each.len(), call.changes.len()),
                        Outcome::Next(next) => plan.extend(next.into_iter().map(Planned::Call)),
                        Outcome::Refused(_) | Outcome::Down { .. } => {}
                    }
                }
                prop_assert!(plan.is_empty(), "{}: {status} {body} asks for ever more calls", kind.name);
            }
        }
    }
}
