//! Crashes: processes that are killed at random moments.

use std::path::Path;

use crate::Result;
use crate::process::Service;
use crate::world::{GRPC_AHEAD, HTTP_AHEAD, HTTP_SPILL, Scenario, World};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill-service-grpc",
        about: "kill -9 of the service, at random moments under load",
        mode: GRPC_AHEAD,
        play: kill_service,
    },
    Scenario { name: "kill-service-http", about: "the same", mode: HTTP_AHEAD, play: kill_service },
    Scenario {
        name: "kill-collector",
        about: "kill -9 of the collector, at random moments under load",
        mode: HTTP_SPILL,
        play: kill_collector,
    },
    Scenario {
        name: "kill-both",
        about: "kill -9 of both, one after the other",
        mode: GRPC_AHEAD,
        play: kill_both,
    },
    Scenario {
        name: "two-processes",
        about: "two services on one directory, one is killed, the other adopts",
        mode: GRPC_AHEAD,
        play: |world| share(world, 2),
    },
    Scenario {
        name: "three-processes",
        about: "three, while the collector is away",
        mode: HTTP_AHEAD,
        play: |world| share(world, 3),
    },
];

fn kill_service(world: &mut World) -> Result<()> {
    for _ in 0..world.requested_rounds {
        let mut service = world.service()?;
        world.sleep_between(0, 400);
        service.kill();
        world.rounds += 1;
    }
    world.deliver_the_rest()
}

fn kill_collector(world: &mut World) -> Result<()> {
    let service = world.service()?;
    for _ in 0..world.requested_rounds {
        world.sleep_between(0, 400);
        world.gate.down();
        world.sleep_between(0, 50);
        world.gate.up()?;
        world.rounds += 1;
    }
    world.drain_and_end(service)
}

fn kill_both(world: &mut World) -> Result<()> {
    for round in 0..world.requested_rounds {
        if round % 3 == 2 {
            world.gate.down(); // all of this round stays on disk
        } else {
            world.gate.up()?;
        }
        let mut service = world.service()?;
        world.sleep_between(0, 300);
        world.gate.down();
        world.sleep_between(0, 100);
        service.kill();
        world.rounds += 1;
    }
    world.gate.up()?;
    world.deliver_the_rest()
}

fn share(world: &mut World, services: usize) -> Result<()> {
    let started: Result<Vec<Service>> = (0..services).map(|_| world.service()).collect();
    let mut running = started?;
    world.wait_for_acked(100)?;
    let is_away = services > 2;
    if is_away {
        world.gate.down();
        world.wait_for_acked(100)?;
    }
    world.sleep_between(0, 300);
    let victim = world.random.between(0, services);
    running.swap_remove(victim).kill();
    world.rounds = 1;
    // The other services work on, and adopt outboxes of ended processes now and then.
    let outbox = world.outbox();
    world.wait("the directory is adopted", |_| directories(&outbox) < services)?;
    if is_away {
        world.gate.up()?;
    }
    running.into_iter().try_for_each(|service| world.drain_and_end(service))
}

/// How many processes have a directory there.
fn directories(outbox: &Path) -> usize {
    let entries = std::fs::read_dir(outbox).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().join("lock").exists()).count()
}
