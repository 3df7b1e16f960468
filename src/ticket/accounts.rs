//! The accounts of tickets and subjects: how much of their [budget](TicketBudget) is spent.
//!
//! # Invariants
//!
//! - There are at most [`MOST_ACCOUNTS`], and each has a bounded size.
//! - Where a new account needs room, one that has spent little is forgotten. To have its own account forgotten, a
//!   holder would need thousands of tickets that have spent more, and could as well use those.
//! - A submission that was refused, or that could not be stored, has cost nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Ticket;
use super::budget::TicketBudget;
use super::charge::{Charge, Cost, OverBudget};
use crate::random;

/// The most accounts, of tickets and subjects together.
const MOST_ACCOUNTS: usize = 4096;
/// From how many accounts the one is chosen that is forgotten.
const SAMPLE: usize = 16;
/// The most different keys of all tickets together, a day.
const MOST_KEYS: usize = 4096;
/// How many of the last submissions of a ticket are recognized by their ids.
const MOST_IDS: usize = 32;
/// How often a submission that comes again is sent on: the first copies may have been lost.
const MOST_COPIES: u8 = 3;

/// Which part of the share of late feedback a ticket may bring an hour; a subject twice as much.
const OF_SHARE: u64 = 16;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The accounts of one layer.
#[derive(Debug, Default)]
pub(crate) struct TicketAccounts {
    budget: TicketBudget,
    /// Hashes keys and ids with random keys, so that a sender can't choose some whose hashes collide.
    hasher: RandomState,
    table: Mutex<AccountTable>,
}

#[derive(Debug, Default)]
struct AccountTable {
    accounts: Vec<Account>,
    /// Where the account with an identity is.
    positions: HashMap<u128, usize>,
    /// The keys of all tickets.
    keys: Keys,
}

#[derive(Debug)]
struct Account {
    identity: u128,
    submissions: LeakyBucket,
    bytes: LeakyBucket,
    keys: Keys,
    /// The hashes of the ids of its last submissions, and how often each was sent on.
    ids: VecDeque<(u64, u8)>,
}

/// An amount that was spent, and flows off at the rate of the budget.
#[derive(Clone, Copy, Debug, Default)]
struct LeakyBucket {
    spent: f64,
    at: Option<Instant>,
}

/// The hashes of different keys, since the beginning of a day.
#[derive(Debug, Default)]
struct Keys {
    since: Option<Instant>,
    hashes: BTreeSet<u32>,
}

impl TicketAccounts {
    pub(crate) fn new(budget: TicketBudget) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Charges the accounts of a ticket, and of its subject, for a submission with these keys.
    ///
    /// # Errors
    ///
    /// One of them has spent its budget. Nothing is charged.
    pub(crate) fn charge<'k>(
        &self,
        ticket: &Ticket,
        cost: Cost<'_>,
        keys: impl Iterator<Item = &'k str>,
        now: Instant,
    ) -> Result<Charge, OverBudget> {
        let (of_ticket, of_subject) = ticket.accounts();
        let id = cost.id.map(|id| self.hasher.hash_one(id));
        let keys: BTreeSet<_> = keys.map(|key| self.hasher.hash_one(key) as u32).collect();
        let table = &mut *crate::sync::lock(&self.table);

        let own = table.position(of_ticket, None);
        let known = id.and_then(|id| table.accounts[own].ids.iter_mut().find(|it| it.0 == id));
        if let Some((_, copies)) = known {
            if *copies >= MOST_COPIES {
                return Ok(Charge::Known);
            }
            *copies += 1;
            return Ok(Charge::Copy);
        }
        let mut charged = vec![(own, AccountLimits::of(self.budget, 1, cost.share / OF_SHARE))];
        if let Some(subject) = of_subject {
            let limits =
                AccountLimits::of(self.budget, TicketBudget::OF_SUBJECT, cost.share / OF_SHARE * 2);
            charged.push((table.position(subject, Some(own)), limits));
        }
        for (at, limits) in &charged {
            table.accounts[*at].check(*limits, cost.bytes, &keys, now)?;
        }
        table.keys.check(MOST_KEYS, &keys, now)?;
        for (at, limits) in &charged {
            let account = &mut table.accounts[*at];
            account.submissions.spend(1.0, limits.submissions, now);
            account.bytes.spend(cost.bytes as f64, limits.bytes, now);
            account.keys.add(&keys, now);
        }
        table.keys.add(&keys, now);
        if let Some(id) = id {
            let ids = &mut table.accounts[own].ids;
            ids.truncate(MOST_IDS - 1);
            ids.push_front((id, 1));
        }
        Ok(Charge::Charged)
    }

    /// Takes back what a submission has cost, since it could not be stored.
    pub(crate) fn refund(&self, ticket: &Ticket, cost: Cost<'_>) {
        let id = cost.id.map(|id| self.hasher.hash_one(id));
        let table = &mut *crate::sync::lock(&self.table);
        let (of_ticket, of_subject) = ticket.accounts();
        for identity in std::iter::once(of_ticket).chain(of_subject) {
            let Some(at) = table.positions.get(&identity) else { continue };
            let account = &mut table.accounts[*at];
            account.submissions.spent -= 1.0;
            account.bytes.spent -= cost.bytes as f64;
            account.ids.retain(|(known, _)| Some(*known) != id);
        }
    }
}

/// The budget of one account.
#[derive(Clone, Copy)]
struct AccountLimits {
    submissions: f64,
    bytes: f64,
    keys: usize,
}

impl AccountLimits {
    /// `times` the budget of a ticket, with at most so many bytes.
    fn of(budget: TicketBudget, times: u32, most_bytes: u64) -> Self {
        let bytes = budget.bytes.saturating_mul(times.into()).min(most_bytes.max(1));
        Self {
            submissions: f64::from(budget.submissions) * f64::from(times),
            bytes: bytes as f64,
            keys: (budget.keys as usize).saturating_mul(times as usize).min(MOST_KEYS),
        }
    }
}

impl AccountTable {
    /// Where the account with this identity is. It is created if there is none; the one at `kept` is not
    /// forgotten for it.
    fn position(&mut self, identity: u128, kept: Option<usize>) -> usize {
        if let Some(at) = self.positions.get(&identity) {
            return *at;
        }
        let account = Account::new(identity);
        let at = if self.accounts.len() < MOST_ACCOUNTS {
            self.accounts.push(account);
            self.accounts.len() - 1
        } else {
            let at = self.least_spent(kept);
            let forgotten = std::mem::replace(&mut self.accounts[at], account);
            self.positions.remove(&forgotten.identity);
            at
        };
        self.positions.insert(identity, at);
        at
    }

    /// The account that has spent least, among some that are chosen at random.
    fn least_spent(&self, kept: Option<usize>) -> usize {
        let now = Instant::now();
        let length = self.accounts.len().max(1) as u64;
        let sample = (0..SAMPLE).map(|_| (random::number() % length) as usize);
        let sample = sample.filter(|at| Some(*at) != kept);
        let spent = |at: &usize| self.accounts.get(*at).map_or(0.0, |account| account.spent(now));
        let least = sample.min_by(|one, other| spent(one).total_cmp(&spent(other)));
        least.unwrap_or(usize::from(kept == Some(0)))
    }
}

impl Account {
    fn new(identity: u128) -> Self {
        Self {
            identity,
            submissions: LeakyBucket::default(),
            bytes: LeakyBucket::default(),
            keys: Keys::default(),
            ids: VecDeque::new(),
        }
    }

    fn check(
        &self,
        limits: AccountLimits,
        bytes: u64,
        keys: &BTreeSet<u32>,
        now: Instant,
    ) -> Result<(), OverBudget> {
        self.submissions.check(1.0, limits.submissions, "submissions an hour", now)?;
        self.bytes.check(bytes as f64, limits.bytes, "bytes an hour", now)?;
        self.keys.check(limits.keys, keys, now)
    }

    /// How much was spent, to compare accounts: a submission counts as one, a key and 1 KiB as well.
    fn spent(&self, now: Instant) -> f64 {
        let keys = if self.keys.is_over(now) { 0 } else { self.keys.hashes.len() };
        let left = |bucket: &LeakyBucket| {
            // At which rate it flows off depends on limits that aren't known here: an hour is its end.
            let since = bucket.at.map_or(HOUR, |at| now.saturating_duration_since(at));
            bucket.spent * (1.0 - since.as_secs_f64() / HOUR.as_secs_f64()).max(0.0)
        };
        left(&self.submissions) + left(&self.bytes) / 1024.0 + keys as f64
    }
}

impl LeakyBucket {
    /// What is spent now, of a budget of `most` an hour.
    fn now(&self, most: f64, now: Instant) -> f64 {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.spent - most * since.as_secs_f64() / HOUR.as_secs_f64()).max(0.0)
    }

    /// An `amount` larger than the whole budget needs the whole budget.
    fn check(
        &self,
        amount: f64,
        most: f64,
        what: &'static str,
        now: Instant,
    ) -> Result<(), OverBudget> {
        let excess = self.now(most, now) - (most - amount.min(most));
        if excess <= 1e-6 {
            return Ok(());
        }
        let seconds = excess / most * HOUR.as_secs_f64();
        let retry_after = Duration::try_from_secs_f64(seconds).unwrap_or(DAY).min(DAY);
        Err(OverBudget { what, retry_after })
    }

    fn spend(&mut self, amount: f64, most: f64, now: Instant) {
        self.spent = self.now(most, now) + amount;
        self.at = Some(now);
    }
}

impl Keys {
    fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= DAY)
    }

    fn check(&self, most: usize, keys: &BTreeSet<u32>, now: Instant) -> Result<(), OverBudget> {
        let is_over = self.is_over(now);
        let new = keys.iter().filter(|key| is_over || !self.hashes.contains(key)).count();
        let old = if is_over { 0 } else { self.hashes.len() };
        if new == 0 || old + new <= most {
            return Ok(());
        }
        let since = self.since.filter(|_| !is_over).unwrap_or(now);
        let retry_after = DAY.saturating_sub(now.saturating_duration_since(since));
        Err(OverBudget { what: "different keys a day", retry_after })
    }

    fn add(&mut self, keys: &BTreeSet<u32>, now: Instant) {
        if self.is_over(now) {
            self.hashes.clear();
            self.since = Some(now);
        }
        self.hashes.extend(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;
    use crate::ticket::{TicketKeys, TicketOptions, issue};

    fn ticket(subject: Option<&str>) -> Ticket {
        let options = TicketOptions::new();
        let options = match subject {
            Some(subject) => options.with_subject(subject),
            None => options,
        };
        let keys = TicketKeys::new([[7; 32]]).unwrap();
        issue(&keys, None, Some(Session::with_id("s").unwrap()), &options).unwrap()
    }

    fn cost(id: Option<&str>, bytes: u64) -> Cost<'_> {
        Cost { id, bytes, share: u64::MAX }
    }

    const KEYS: [&str; 1] = ["feedback.rating"];

    fn accepted(accounts: &TicketAccounts, ticket: &Ticket, bytes: u64, now: Instant) -> usize {
        let charge = || accounts.charge(ticket, cost(None, bytes), KEYS.into_iter(), now);
        (0..10_000).take_while(|_| charge().is_ok()).count()
    }

    #[test]
    fn a_budget_is_spent_and_fills_up_steadily() {
        let (accounts, ticket, now) = (TicketAccounts::default(), ticket(None), Instant::now());
        assert_eq!(accepted(&accounts, &ticket, 500, now), 120);
        let refused = accounts.charge(&ticket, cost(None, 500), KEYS.into_iter(), now).unwrap_err();
        assert_eq!(refused.what, "submissions an hour");
        assert_eq!(refused.retry_after.as_secs(), 30);
        let later = now + refused.retry_after + Duration::from_millis(1);
        assert_eq!(accepted(&accounts, &ticket, 500, later), 1);
        assert_eq!(accepted(&accounts, &ticket, 500, later + HOUR), 120);
    }

    #[test]
    fn bytes_count_and_one_submission_always_fits_in_a_full_budget() {
        let (accounts, now) = (TicketAccounts::default(), Instant::now());
        assert_eq!(accepted(&accounts, &ticket(None), 16 * 1024, now), 16);
        assert_eq!(accepted(&accounts, &ticket(None), 10 << 20, now), 1);
        let small = Cost { id: None, bytes: 500, share: 16 * 1024 };
        let ticket = ticket(None);
        let charge = || accounts.charge(&ticket, small, KEYS.into_iter(), now);
        assert_eq!((0..100).take_while(|_| charge().is_ok()).count(), 2, "a part of the share");
    }

    #[test]
    fn a_subject_pays_for_all_of_its_tickets_and_for_no_one_else() {
        let (accounts, now) = (TicketAccounts::default(), Instant::now());
        let total: usize =
            (0..20).map(|_| accepted(&accounts, &ticket(Some("u-1")), 500, now)).sum();
        assert_eq!(total, 480);
        assert_eq!(accepted(&accounts, &ticket(Some("u-2")), 500, now), 120);
        assert_eq!(accepted(&accounts, &ticket(None), 500, now), 120);
    }

    #[test]
    fn different_keys_are_limited_for_a_ticket_and_for_all_together() {
        let (accounts, now) = (TicketAccounts::default(), Instant::now());
        let ticket_of_many = ticket(None);
        let charge = |ticket: &Ticket, key: String, now| {
            accounts.charge(ticket, cost(None, 1), [key.as_str()].into_iter(), now)
        };
        let taken = (0..100).filter(|at| charge(&ticket_of_many, format!("k{at}"), now).is_ok());
        assert_eq!(taken.count(), 64);
        assert_eq!(charge(&ticket_of_many, "k1".to_owned(), now), Ok(Charge::Charged));
        let refused = charge(&ticket_of_many, "new".to_owned(), now).unwrap_err();
        assert_eq!((refused.what, refused.retry_after), ("different keys a day", DAY));
        let taken = (64..10_000).filter(|at| charge(&ticket(None), format!("k{at}"), now).is_ok());
        assert_eq!(taken.count(), MOST_KEYS - 64);
        assert!(charge(&ticket(None), "k1".to_owned(), now).is_ok(), "known keys go on");
        assert!(charge(&ticket(None), "other".to_owned(), now + DAY).is_ok());
    }

    #[test]
    fn a_submission_that_comes_again_is_charged_once() {
        let (accounts, ticket, now) = (TicketAccounts::default(), ticket(None), Instant::now());
        let charge = |id| accounts.charge(&ticket, cost(Some(id), 500), KEYS.into_iter(), now);
        let charges: Vec<_> = (0..1000).map(|_| charge("vote").unwrap()).collect();
        assert_eq!(charges[0], Charge::Charged);
        assert_eq!(charges[1..3], [Charge::Copy; 2]);
        assert!(charges[3..].iter().all(|charge| *charge == Charge::Known));
        assert_eq!(accepted(&accounts, &ticket, 500, now), 119);
        // What could not be stored is sent again, and has cost nothing.
        accounts.refund(&ticket, cost(Some("vote"), 500));
        assert_eq!(charge("vote"), Ok(Charge::Charged));
    }

    #[test]
    fn a_full_table_forgets_an_account_that_has_spent_little() {
        let (accounts, now) = (TicketAccounts::default(), Instant::now());
        let greedy = ticket(None);
        assert_eq!(accepted(&accounts, &greedy, 500, now), 120);
        for _ in 0..2 * MOST_ACCOUNTS {
            let charge = accounts.charge(&ticket(None), cost(None, 500), KEYS.into_iter(), now);
            assert_eq!(charge, Ok(Charge::Charged));
        }
        let table = accounts.table.lock().unwrap();
        assert_eq!((table.accounts.len(), table.positions.len()), (MOST_ACCOUNTS, MOST_ACCOUNTS));
        drop(table);
        assert_eq!(accepted(&accounts, &greedy, 500, now), 0, "its account is still there");
    }
}
