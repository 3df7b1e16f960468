//! The stand-in for tickets when the feature `tickets` is off: no ticket exists, and there are no
//! keys.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Instant;

#[path = "charge.rs"]
mod charge;

pub(crate) use charge::{Charge, Cost, OverBudget};

#[derive(Clone, Debug)]
pub(crate) enum Ticket {}

impl Ticket {
    pub(crate) fn permits(&self, _: &str) -> bool {
        match *self {}
    }

    pub(crate) fn holder(&self) -> Vec<u8> {
        match *self {}
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TicketKeys;

impl FromStr for TicketKeys {
    type Err = Infallible;

    fn from_str(_: &str) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

#[derive(Debug, Default)]
pub(crate) struct TicketAccounts(());

impl TicketAccounts {
    pub(crate) fn charge<'k>(
        &self,
        ticket: &Ticket,
        _: Cost<'_>,
        _: impl Iterator<Item = &'k str>,
        _: Instant,
    ) -> Result<Charge, OverBudget> {
        match *ticket {}
    }

    pub(crate) fn refund(&self, ticket: &Ticket, _: Cost<'_>) {
        match *ticket {}
    }
}
