//! One backend: finds what differs, makes the calls, writes down what has become of them.
//!
//! A turn takes some targets: those that are due again, or the next ones in the order in which they were changed.
//! It compares their fold, as it is then, with what the backend was told, writes down which records are about to
//! change, makes the calls one after another, and writes down their outcome and the new position in one
//! transaction. So there is one call in flight, and what a crash interrupts is found and made again.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::backend::{Backend, Change, ChangeOutcome, Known, Outcome, Planned};
use super::client::BackendClient;
use super::destination::Destination;
use super::pause::{LOOK, growing_pause, now, pause_of_target, until_then};
use super::state::{self, ABSENT, Told, Waiting};
use super::wanted::{Item, items};
use super::{Selection, names};
use crate::desk::first_of;
use crate::desk::log::log_line;
use crate::desk::store::forwarding::{ChangePosition, ForwardStore, ForwardTarget};
use crate::desk::store::{Error, StoreVersion};

/// Targets of one turn.
const MOST_TARGETS: usize = 1_000;
/// While a backend that failed is tried again, turns grow by this factor from a single target on.
const GROWTH: usize = 8;
/// How often a backend may fail on a single target before others go first.
const MOST_FAILURES: u32 = 3;
/// The least time between two turns that follow changes, so that changes gather.
const GATHER: Duration = Duration::from_millis(100);
/// While spans arrive, the worker rests after a turn this many times as long as it took without its calls: it takes
/// a twentieth of a processor from what receives them.
const REST: u32 = 19;
const LONGEST_REST: Duration = Duration::from_secs(10);
/// The longest pause without an occasion.
const IDLE: Duration = Duration::from_secs(60);
/// The pause after an error of the store.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// The thread of one backend.
pub(super) struct Worker {
    backend: Box<dyn Backend>,
    client: BackendClient,
    store: Arc<dyn ForwardStore>,
    selection: Selection,
    /// As it was given on the command line.
    name: String,
    kind: &'static str,
    settings: i64,
    /// Its row in the state.
    id: i64,
    /// Targets of the next turn.
    most: usize,
    /// Failures of the backend in a row.
    failures: u32,
    /// How long the calls of this turn have taken.
    sending: Cell<Duration>,
    /// The last turn took targets that were due again: the next one takes others.
    was_due: bool,
}

/// What is left to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    More,
    /// Nothing until something changes, or until this time.
    Idle(Option<i64>),
    /// The backend is not tried before this time.
    Paused(i64),
}

/// Something that a backend should be told.
pub(super) struct Difference {
    /// The position of the target in the list.
    pub(super) target: usize,
    pub(super) field: String,
    pub(super) wanted: Option<Item>,
    pub(super) told: Option<Told>,
}

/// Why a backend takes nothing.
struct Failure {
    reason: String,
    wait: Option<Duration>,
}

impl Worker {
    pub(super) fn new(
        destination: &Destination,
        selection: Selection,
        store: Arc<dyn ForwardStore>,
    ) -> Result<Self, String> {
        let (backend, client) = connect(destination)?;
        Ok(Self {
            backend,
            client,
            store,
            selection,
            name: destination.to_string(),
            kind: destination.kind.name,
            settings: settings(destination, selection),
            id: 0,
            most: MOST_TARGETS,
            failures: 0,
            sending: Cell::default(),
            was_due: false,
        })
    }

    /// Works until the store's writer has ended.
    pub(super) async fn work(
        &mut self,
        changes: &mut watch::Receiver<StoreVersion>,
        retry: &Notify,
    ) {
        loop {
            changes.borrow_and_update();
            let begin = Instant::now();
            self.sending.set(Duration::ZERO);
            let turn = self.turn().await;
            let rest = rest_after(begin.elapsed().saturating_sub(self.sending.get()));
            let pause = match turn {
                Ok(Turn::More) => {
                    // While spans arrive they go first.
                    if changes.has_changed().unwrap_or(false) {
                        sleep(rest).await;
                    }
                    continue;
                }
                Ok(Turn::Paused(until)) => {
                    // A command may have asked for an attempt.
                    let _ = timeout(until_then(until).min(LOOK), retry.notified()).await;
                    continue;
                }
                Ok(Turn::Idle(next)) => {
                    let settled = self.store.settles_after().unwrap_or(IDLE);
                    next.map_or(IDLE, until_then).min(settled)
                }
                Err(error) => {
                    log_line(&format!("feedback-desk: forwarding to {}: {error}", self.name));
                    sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            let asked = async {
                let _ = timeout(pause, retry.notified()).await;
                false
            };
            let is_over = first_of(async { changes.changed().await.is_err() }, asked).await;
            if is_over {
                return; // the writer has ended: so will the desk
            }
            sleep(rest).await;
        }
    }

    async fn turn(&mut self) -> Result<Turn, Error> {
        if self.id == 0 {
            self.id = open(&*self.store, &self.name, self.settings)?;
        }
        let (id, most, now) = (self.id, self.most, now());
        let (mut position, mut paused) = Default::default();
        let (mut due, mut next) = (Vec::new(), None);
        self.store.read_state(&mut |connection| {
            (position, paused) = state::position(connection, id)?;
            (due, next) = state::due(connection, id, now, most)?;
            Ok(())
        })?;
        if paused > now {
            return Ok(Turn::Paused(paused));
        }
        let mut targets = Vec::new();
        if due.is_empty() || self.was_due {
            targets = self.store.changed_after(position, most)?;
        }
        let is_due = targets.is_empty() && !due.is_empty();
        self.was_due = is_due;
        let end = match targets.last() {
            Some(last) => Some(last.position),
            None if due.is_empty() => return Ok(Turn::Idle(next)),
            None => None,
        };
        if is_due {
            targets = self.store.targets(&due)?;
        }
        let gone = due.iter().filter(|row| is_due && targets.iter().all(|it| it.row != **row));
        let gone: Vec<i64> = gone.copied().collect();
        self.make_equal(targets, end, gone).await
    }

    /// Tells the backend what it lacks of some targets, and writes down what has become of it.
    async fn make_equal(
        &mut self,
        targets: Vec<ForwardTarget>,
        end: Option<ChangePosition>,
        gone: Vec<i64>,
    ) -> Result<Turn, Error> {
        let Compared { differences, settled } =
            compare(&*self.store, self.id, &targets, self.selection)?;
        let mut made = vec![None; differences.len()];
        let mut failure = None;
        if !differences.is_empty() {
            let changes: Vec<_> =
                differences.iter().map(|difference| difference.change(&targets)).collect();
            let all: Vec<usize> = (0..changes.len()).collect();
            let plan = self.backend.plan(&changes, &all);
            self.begin(&changes, &plan)?;
            failure = self.call(&changes, plan, &mut made).await;
        }
        let is_failed = failure.is_some();
        self.settle(settled)?;
        self.end(targets, differences, made, end, gone, failure)?;
        Ok(if is_failed { Turn::Paused(0) } else { Turn::More })
    }

    /// Writes down that what was refused is wanted no longer.
    fn settle(&self, settled: Vec<(i64, String, Option<Told>)>) -> Result<(), Error> {
        if settled.is_empty() {
            return Ok(());
        }
        let id = self.id;
        self.store.write_state(Box::new(move |connection| {
            settled.iter().try_for_each(|(target, field, told)| {
                state::end(connection, id, (*target, field), told.as_ref(), None)
            })
        }))
    }

    /// Writes down which records are about to change.
    fn begin(&self, changes: &[Change<'_>], plan: &[Planned]) -> Result<(), Error> {
        let id = self.id;
        let mut rows = Vec::new();
        for planned in plan {
            let Planned::Call(call) = planned else { continue };
            let of = |(at, memo): (&usize, Option<&String>)| {
                (changes[*at].target.row, changes[*at].field.to_owned(), memo.cloned())
            };
            rows.extend(call.changes.iter().zip(call.memos()).map(of));
        }
        self.store.write_state(Box::new(move |connection| {
            rows.iter().try_for_each(|(target, field, memo)| {
                state::begin(connection, id, (*target, field), memo.as_deref())
            })
        }))
    }

    /// Makes the calls for some changes. Returns why it stopped before their end.
    async fn call(
        &self,
        changes: &[Change<'_>],
        plan: Vec<Planned>,
        made: &mut [Option<Made>],
    ) -> Option<Failure> {
        let mut plan: VecDeque<Planned> = plan.into();
        // A backend that always asks for another call is down.
        let mut left = 40 + 20 * changes.len();
        while let Some(planned) = plan.pop_front() {
            left -= 1;
            let call = match planned {
                Planned::Call(call) => call,
                Planned::Outcome(at, outcome) => {
                    made[at] = self.made(outcome, None);
                    continue;
                }
            };
            let begin = Instant::now();
            let sent = self.client.send(&call.request).await;
            self.sending.set(self.sending.get() + begin.elapsed());
            let outcome = match sent {
                _ if left == 0 => Outcome::down("it never comes to an end"),
                Ok(reply) => self.backend.outcome(changes, &call, &reply),
                Err(reason) => Outcome::down(reason),
            };
            let safe = |reason: &str| self.client.without_secrets(reason);
            match outcome {
                Outcome::Done => {
                    for (at, memo) in call.changes.iter().zip(call.memos()) {
                        made[*at] = Some(Made::Done(memo.cloned()));
                    }
                }
                Outcome::Each(each) => {
                    let mut unsent = Vec::new();
                    for ((at, outcome), memo) in call.changes.iter().zip(each).zip(call.memos()) {
                        made[*at] = self.made(outcome, memo);
                        if made[*at].is_none() {
                            unsent.push(*at);
                        }
                    }
                    if !unsent.is_empty() {
                        prepend(&mut plan, self.backend.plan(changes, &unsent));
                    }
                }
                Outcome::Next(next) => {
                    prepend(&mut plan, next.into_iter().map(Planned::Call).collect());
                }
                Outcome::Refused(reason) => match call.changes.as_slice() {
                    [at] => made[*at] = Some(Made::Refused(safe(&reason))),
                    several => {
                        let (one, other) = several.split_at(several.len() / 2);
                        prepend(&mut plan, self.backend.plan(changes, other));
                        prepend(&mut plan, self.backend.plan(changes, one));
                    }
                },
                Outcome::Down { reason, wait } => {
                    return Some(Failure { reason: safe(&reason), wait });
                }
            }
        }
        None
    }

    /// What has become of a change; `None` if it was not sent.
    fn made(&self, outcome: ChangeOutcome, memo: Option<&String>) -> Option<Made> {
        let safe = |reason: &str| self.client.without_secrets(reason);
        match outcome {
            ChangeOutcome::Done => Some(Made::Done(memo.cloned())),
            ChangeOutcome::Missing(reason) => Some(Made::Missing(safe(&reason))),
            ChangeOutcome::Refused(reason) => Some(Made::Refused(safe(&reason))),
            ChangeOutcome::Unsent => None,
        }
    }

    /// Writes down what has become of some differences, and the new position.
    fn end(
        &mut self,
        targets: Vec<ForwardTarget>,
        differences: Vec<Difference>,
        made: Vec<Option<Made>>,
        end: Option<ChangePosition>,
        gone: Vec<i64>,
        failure: Option<Failure>,
    ) -> Result<(), Error> {
        let (id, kind, now) = (self.id, self.kind, now());
        let was_called = !differences.is_empty();
        // Why each target is to be tried again.
        let mut again: HashMap<i64, (bool, String)> = HashMap::new();
        let mut changes = Vec::new();
        for (difference, made) in differences.into_iter().zip(made) {
            let target = targets[difference.target].row;
            let made = match made {
                Some(made) => made,
                // Not sent: the next turn finds it again.
                None if failure.is_some() => continue,
                None => Made::Missing("no answer was about it".to_owned()),
            };
            let (told, reason) = made.told(&difference);
            if let Made::Missing(reason) = &made {
                again.entry(target).or_insert((true, reason.clone()));
            }
            changes.push((target, difference.field, told, reason));
        }
        let rows: Vec<i64> = targets.iter().map(|target| target.row).collect();
        let (mut is_whole, mut pause) = (true, None);
        if let Some(failure) = &failure {
            self.failures += 1;
            // One target must not keep all others from a backend that fails on it.
            let is_stuck = rows.len() == 1 && self.failures.is_multiple_of(MOST_FAILURES);
            if is_stuck {
                again.entry(rows[0]).or_insert((false, failure.reason.clone()));
            }
            is_whole = is_stuck;
            pause =
                Some((failure.reason.clone(), now + growing_pause(self.failures, failure.wait)));
            self.most = 1;
            if self.failures == 1 {
                let names = format!("feedback-desk: forwarding to {}", self.name);
                log_line(&format!("{names} pauses: {}", failure.reason));
            }
        } else if was_called {
            if self.failures > 0 {
                log_line(&format!("feedback-desk: forwarding to {} goes on", self.name));
            }
            self.failures = 0;
            self.most = (self.most * GROWTH).min(MOST_TARGETS);
        }
        self.store.write_state(Box::new(move |connection| {
            for (target, field, told, reason) in &changes {
                let reason =
                    reason.as_ref().map(|reason| format!("{}: {reason}", names::name(kind, field)));
                state::end(connection, id, (*target, field), told.as_ref(), reason.as_deref())?;
            }
            for target in &rows {
                let waiting = match again.get(target) {
                    Some((is_missing, reason)) => {
                        let attempts = state::attempts(connection, id, *target)?;
                        let next = now + pause_of_target(attempts);
                        let (is_missing, reason) = (*is_missing, reason.clone());
                        Some(Waiting { is_missing, reason, attempts: attempts + 1, next })
                    }
                    None if !is_whole => continue,
                    None => None,
                };
                state::set_waiting(connection, id, *target, waiting.as_ref())?;
            }
            for target in &gone {
                state::set_waiting(connection, id, *target, None)?;
            }
            if let (true, Some(end)) = (is_whole, end) {
                state::set_position(connection, id, end)?;
            }
            match &pause {
                Some((reason, next)) => state::set_failed(connection, id, reason, (now, *next)),
                None if was_called => state::set_reached(connection, id, now),
                None => Ok(()),
            }
        }))
    }
}

/// What has become of a difference.
#[derive(Clone, Debug)]
enum Made {
    Done(Option<String>),
    Missing(String),
    Refused(String),
}

impl Made {
    /// What the backend was told then; `None` if it has nothing of it.
    fn told(&self, difference: &Difference) -> (Option<Told>, Option<String>) {
        let before = difference.told.clone();
        let hash = difference.wanted.as_ref().map_or(ABSENT, Item::hash);
        match self {
            Self::Done(_) if hash == ABSENT => (None, None),
            Self::Done(memo) => {
                let memo = memo.clone().or_else(|| before.and_then(|told| told.memo));
                (Some(Told { hash: Some(hash), memo, refused: None }), None)
            }
            // A record of a target that is not there is not there either.
            Self::Missing(_) => match before {
                Some(told) if told.hash != Some(ABSENT) => {
                    (Some(Told { hash: None, refused: None, ..told }), None)
                }
                _ => (None, None),
            },
            Self::Refused(reason) => {
                let hash_before = before.as_ref().map_or(Some(ABSENT), |told| told.hash);
                let memo = before.and_then(|told| told.memo);
                let told = Told { hash: hash_before, memo, refused: Some(hash) };
                (Some(told), Some(reason.clone()))
            }
        }
    }
}

impl Difference {
    pub(super) fn change<'a>(&'a self, targets: &'a [ForwardTarget]) -> Change<'a> {
        let told = self.told.as_ref();
        Change {
            target: &targets[self.target],
            field: &self.field,
            wanted: self.wanted.as_ref(),
            known: told.map_or(Known::Absent, Told::known),
            memo: told.and_then(|told| told.memo.as_deref()),
        }
    }
}

/// A backend and the client that reaches it.
///
/// # Errors
///
/// A secret is missing or not fit; the text says which.
pub(super) fn connect(
    destination: &Destination,
) -> Result<(Box<dyn Backend>, BackendClient), String> {
    let setup = destination.setup();
    let named = |error: String| format!("--forward {destination}: {error}");
    let backend = (destination.kind.make)(&setup).map_err(named)?;
    let client =
        BackendClient::new(destination, backend.headers(), setup.secrets()).map_err(named)?;
    Ok((backend, client))
}

/// A number that differs where the same fold makes other records.
pub(super) fn settings(destination: &Destination, selection: Selection) -> i64 {
    i64::from(destination.kind.version) << 2
        | i64::from(selection.has_metrics) << 1
        | i64::from(selection.has_texts)
}

pub(super) fn open(store: &dyn ForwardStore, name: &str, settings: i64) -> Result<i64, Error> {
    let owned = name.to_owned();
    store.write_state(Box::new(move |connection| {
        state::open(connection, &owned, settings).map(drop)
    }))?;
    let mut found = None;
    store.read_state(&mut |connection| {
        found = state::find(connection, name)?;
        Ok(())
    })?;
    found.ok_or_else(|| Error::Damaged("a backend of forwarding has no row".to_owned()))
}

/// What a backend was told of some targets, compared with what it should have.
pub(super) struct Compared {
    pub(super) differences: Vec<Difference>,
    /// The leaves of which it has what it should have, after it had refused another value; each with its target and
    /// what it has.
    settled: Vec<(i64, String, Option<Told>)>,
}

pub(super) fn compare(
    store: &dyn ForwardStore,
    backend: i64,
    targets: &[ForwardTarget],
    selection: Selection,
) -> Result<Compared, Error> {
    let mut told = HashMap::new();
    store.read_state(&mut |connection| {
        told = state::told(connection, backend, targets.iter().map(|target| target.row))?;
        Ok(())
    })?;
    let (mut differences, mut settled) = (Vec::new(), Vec::new());
    for (at, target) in targets.iter().enumerate() {
        for item in items(target, selection) {
            let told = told.remove(&(target.row, item.field.clone()));
            let hash = Some(item.hash());
            match told {
                Some(told) if told.hash == hash => {
                    if told.refused.is_some() {
                        settled.push((
                            target.row,
                            item.field,
                            Some(Told { refused: None, ..told }),
                        ));
                    }
                }
                Some(told) if told.refused == hash => {}
                told => {
                    let field = item.field.clone();
                    differences.push(Difference { target: at, field, wanted: Some(item), told });
                }
            }
        }
    }
    let by_row: HashMap<i64, usize> =
        targets.iter().enumerate().map(|(at, target)| (target.row, at)).collect();
    let mut surplus: Vec<_> =
        told.into_iter().filter(|(_, told)| told.refused != Some(ABSENT)).collect();
    surplus.sort_by(|(one, _), (other, _)| one.cmp(other));
    for ((row, field), told) in surplus {
        if told.hash == Some(ABSENT) {
            settled.push((row, field, None));
        } else if let Some(at) = by_row.get(&row) {
            differences.push(Difference { target: *at, field, wanted: None, told: Some(told) });
        }
    }
    Ok(Compared { differences, settled })
}

/// The pause after a turn that has kept the desk's processors busy for `busy`, while spans arrive.
fn rest_after(busy: Duration) -> Duration {
    (busy * REST).clamp(GATHER, LONGEST_REST)
}

fn prepend(plan: &mut VecDeque<Planned>, next: Vec<Planned>) {
    for planned in next.into_iter().rev() {
        plan.push_front(planned);
    }
}
