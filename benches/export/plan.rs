//! What is measured, by the arguments.

use crate::contestant::Contestant;
use crate::job::Load;

/// Requests a millisecond: 100,000 spans a second.
const PACE: u64 = 10;

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) loads: Vec<(&'static str, Load)>,
    /// The registry first.
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) warm_up: Load,
    /// Rounds that don't count, before those that do.
    pub(crate) cold_rounds: u64,
    pub(crate) rounds: u64,
}

impl Plan {
    pub(crate) fn from_arguments(arguments: Vec<String>) -> Result<Self, String> {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let mut plan = if has("--bench") && !has("--test") {
            Self::new(5000, 20_000, 1000, (1, 3))
        } else {
            Self::new(50, 200, 10, (0, 1))
        };
        let mut names = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" | "--test" => {}
                "--rounds" => plan.rounds = number(arguments.next())?,
                "--seconds" => plan.loads[0].1 = paced(1000 * number(arguments.next())?),
                _ => names.push(argument),
            }
        }
        plan.choose(&names)?;
        Ok(plan)
    }

    fn new(
        paced_millis: u64,
        burst_requests: u64,
        warm_up_millis: u64,
        (cold_rounds, rounds): (u64, u64),
    ) -> Self {
        let burst = Load { requests: burst_requests, pace: None };
        Self {
            loads: vec![("paced", paced(paced_millis)), ("burst", burst)],
            contestants: Contestant::ALL.to_vec(),
            warm_up: paced(warm_up_millis),
            cold_rounds,
            rounds,
        }
    }

    /// Keeps the loads that are named, or all of them if none is. The same for contestants.
    fn choose(&mut self, names: &[String]) -> Result<(), String> {
        let is_named = |wanted: &str| names.iter().any(|name| name == wanted);
        let loads = self.loads.iter().map(|(load, _)| *load);
        let available: Vec<_> = loads.chain(Contestant::ALL.map(Contestant::name)).collect();
        if let Some(name) = names.iter().find(|name| !available.contains(&name.as_str())) {
            return Err(format!("there is no {name}, but {}", available.join(", ")));
        }
        if self.loads.iter().any(|(load, _)| is_named(load)) {
            self.loads.retain(|(load, _)| is_named(load));
        }
        if self.contestants.iter().any(|contestant| is_named(contestant.name())) {
            self.contestants.retain(|contestant| {
                *contestant == Contestant::Registry || is_named(contestant.name())
            });
        }
        Ok(())
    }
}

fn paced(millis: u64) -> Load {
    Load { requests: PACE * millis, pace: Some(PACE) }
}

fn number(argument: Option<String>) -> Result<u64, String> {
    let number = argument.and_then(|argument| argument.parse().ok()).filter(|number| *number > 0);
    number.ok_or_else(|| "--rounds and --seconds each need a number".to_owned())
}
