//! The world of a scenario: a collector, its ports, a directory for outboxes, and the ledger.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tracing_feedback::collector::Collector;

use crate::Result;
use crate::gate::Gate;
use crate::ledger::{Excused, Ledger};
use crate::process::Service;
use crate::random::Random;
use crate::table::Row;

/// A scenario: something that happens to services and collectors.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) mode: Mode,
    pub(crate) play: fn(&mut World) -> Result<()>,
}

/// The protocol of a service, and the policy of its outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) protocol: &'static str,
    pub(crate) policy: &'static str,
}

pub(crate) const GRPC_SPILL: Mode = Mode { protocol: "grpc", policy: "spill" };
pub(crate) const GRPC_AHEAD: Mode = Mode { protocol: "grpc", policy: "write_ahead" };
pub(crate) const HTTP_SPILL: Mode = Mode { protocol: "http", policy: "spill" };
pub(crate) const HTTP_AHEAD: Mode = Mode { protocol: "http", policy: "write_ahead" };

impl Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.protocol, self.policy)
    }
}

pub(crate) struct World {
    pub(crate) collector: Collector,
    pub(crate) gate: Gate,
    pub(crate) mode: Mode,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    /// How often processes are to be killed.
    pub(crate) requested_rounds: usize,
    /// How often something has happened.
    pub(crate) rounds: usize,
    pub(crate) excused: Excused,
    /// What the table shows beside the mode.
    pub(crate) how: Option<String>,
    pub(crate) is_skipped: bool,
    /// Segments that are meant to stay.
    pub(crate) may_stay: usize,
    root: Directory,
    services: usize,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64, requested_rounds: usize) -> Result<Self> {
        let collector = Collector::start()?;
        let gate = Gate::open(match scenario.mode.protocol {
            "grpc" => collector.endpoint(),
            _ => collector.http_endpoint(),
        })?;
        Ok(Self {
            collector,
            gate,
            mode: scenario.mode,
            ledger: Ledger::default(),
            random: Random::new(seed),
            requested_rounds,
            rounds: 0,
            excused: Excused::default(),
            how: None,
            is_skipped: false,
            may_stay: 0,
            root: Directory::create(scenario.name)?,
            services: 0,
        })
    }

    /// The directory of the outbox.
    pub(crate) fn outbox(&self) -> PathBuf {
        self.root.0.join("outbox")
    }

    /// Starts a service, and waits until it runs.
    pub(crate) fn service(&mut self) -> Result<Service> {
        let mut service = self.service_by(|it| it)?;
        service.wait_for_line("ready")?;
        Ok(service)
    }

    /// Starts a service with another command around its own.
    pub(crate) fn service_by(&mut self, wrap: impl FnOnce(Command) -> Command) -> Result<Service> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.service_arguments()).arg(self.outbox());
        Service::start(wrap(command), &self.ledger)
    }

    /// The arguments of a service, without its outbox.
    pub(crate) fn service_arguments(&mut self) -> [String; 5] {
        self.services += 1;
        let name = format!("s{}", self.services);
        let Mode { protocol, policy } = self.mode;
        ["service", &name, protocol, &self.gate.endpoint(), policy].map(str::to_owned)
    }

    /// Lets time pass, in which the others do something.
    pub(crate) fn sleep_between(&mut self, from: usize, to: usize) {
        thread::sleep(self.random.millis(from, to));
    }

    /// Lets a service deliver what there is, and ends it.
    pub(crate) fn drain_and_end(&mut self, mut service: Service) -> Result<()> {
        service.stop()?;
        service.drain()?;
        service.end()
    }

    /// Starts a service that delivers what others left behind, and ends it.
    pub(crate) fn deliver_the_rest(&mut self) -> Result<()> {
        let service = self.service()?;
        self.drain_and_end(service)
    }

    /// Waits until a condition holds.
    pub(crate) fn wait(&self, what: &str, mut is_met: impl FnMut(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while !is_met(self) {
            if Instant::now() > until {
                return Err(format!("waited in vain until {what}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until `more` further feedback is acknowledged.
    pub(crate) fn wait_for_acked(&self, more: usize) -> Result<()> {
        let expected = self.ledger.count_acked() + more;
        self.wait("feedback is acknowledged", |world| world.ledger.count_acked() >= expected)
    }

    pub(crate) fn check(&self, scenario: &Scenario) -> Row {
        let mut outcome = self.ledger.check(&self.collector.spans(), &self.excused);
        let left = files(&self.outbox(), "segment");
        let left = left.iter().filter(|path| !is_rejected(path)).count();
        if left > self.may_stay {
            outcome.problems.push(format!("{left} segments are left"));
        }
        if outcome.acked == 0 && !self.is_skipped {
            outcome.problems.push("nothing was acknowledged".to_owned());
        }
        let how = match &self.how {
            Some(how) => format!("{}, {how}", self.mode),
            None => self.mode.to_string(),
        };
        Row {
            scenario: scenario.name,
            how: if self.is_skipped { self.how.clone().unwrap_or_default() } else { how },
            rounds: self.rounds,
            is_skipped: self.is_skipped,
            outcome,
        }
    }
}

pub(crate) fn is_rejected(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("rejected"))
}

/// All files under a directory with this extension.
pub(crate) fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A directory that is removed after the scenario.
struct Directory(PathBuf);

impl Directory {
    fn create(name: &str) -> Result<Self> {
        let name = format!("tracing-feedback-chaos-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
