//! Outages: ways in which a collector fails.

use std::time::Duration;

use tracing_feedback::collector::{Answer, Outcome, ReceivedRequest};

use crate::Result;
use crate::segments;
use crate::world::{
    GRPC_AHEAD, GRPC_SPILL, HTTP_AHEAD, HTTP_SPILL, Mode, Scenario, World, files, is_rejected,
};

const fn scenario(
    name: &'static str,
    about: &'static str,
    mode: Mode,
    play: fn(&mut World) -> Result<()>,
) -> Scenario {
    Scenario { name, about, mode, play }
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    scenario("down-grpc", "the collector is gone for a while", GRPC_SPILL, down),
    scenario("down-http", "the same", HTTP_AHEAD, down),
    scenario("flapping-grpc", "it comes and goes", GRPC_AHEAD, flapping),
    scenario("flapping-http", "the same", HTTP_SPILL, flapping),
    scenario("busy-grpc", "UNAVAILABLE, RESOURCE_EXHAUSTED, with delays", GRPC_SPILL, busy),
    scenario("busy-http", "503 and 429, with delays", HTTP_AHEAD, busy),
    scenario("hanging-grpc", "it takes requests and never answers", GRPC_AHEAD, hanging),
    scenario("hanging-http", "the same", HTTP_SPILL, hanging),
    scenario("cutting-grpc", "it closes connections", GRPC_SPILL, cutting),
    scenario("cutting-http", "the same", HTTP_AHEAD, cutting),
    scenario("partial-grpc", "it takes parts of requests", GRPC_SPILL, partial),
    scenario("partial-http", "the same", HTTP_AHEAD, partial),
    scenario("rejecting-grpc", "INVALID_ARGUMENT", GRPC_AHEAD, rejecting),
    scenario("rejecting-http", "400", HTTP_SPILL, rejecting),
    scenario(
        "unwelcome-grpc",
        "UNIMPLEMENTED, until someone puts that right",
        GRPC_AHEAD,
        unwelcome,
    ),
    scenario("unwelcome-http", "401, until someone puts that right", HTTP_SPILL, unwelcome),
];

fn down(world: &mut World) -> Result<()> {
    let service = world.service()?;
    world.wait_for_acked(20)?;
    world.gate.down();
    world.wait_for_acked(100)?; // on disk
    world.sleep_between(1500, 2500);
    world.gate.up()?;
    world.rounds = 1;
    world.sleep_between(200, 400);
    world.drain_and_end(service)
}

fn flapping(world: &mut World) -> Result<()> {
    let service = world.service()?;
    for _ in 0..8 {
        world.sleep_between(50, 500);
        world.gate.down();
        world.sleep_between(50, 500);
        world.gate.up()?;
        world.rounds += 1;
    }
    world.drain_and_end(service)
}

/// Lets a collector answer some consecutive requests with this fault, while a service works.
fn answer(world: &mut World, answers: &[Answer]) -> Result<()> {
    let service = world.service()?;
    let mut scripted = 0;
    for _ in 0..world.requested_rounds.clamp(5, 20) {
        let some = world.random.between(1, 4);
        scripted += some;
        for _ in 0..some {
            let at = world.random.between(0, answers.len());
            world.collector.answer_next(answers[at].clone());
        }
        world.wait("it takes spans again", |world| {
            let requests = world.collector.requests();
            let is_scripted =
                |request: &&ReceivedRequest| matches!(request.outcome, Outcome::Scripted(_));
            requests.iter().filter(is_scripted).count() == scripted
                && requests.last().is_some_and(|last| last.outcome == Outcome::Accepted)
        })?;
        world.sleep_between(50, 200);
        world.rounds += 1;
    }
    world.drain_and_end(service)
}

fn busy(world: &mut World) -> Result<()> {
    let retry_after = Some(Duration::from_millis(100));
    let mut answers = vec![
        Answer::Unavailable { retry_after: None },
        Answer::Unavailable { retry_after },
        Answer::ResourceExhausted { retry_after },
    ];
    if world.mode.protocol == "http" {
        // Over gRPC it would mean that the request is too large.
        answers.push(Answer::ResourceExhausted { retry_after: None });
    }
    answer(world, &answers)
}

fn hanging(world: &mut World) -> Result<()> {
    answer(world, &[Answer::Silence])
}

fn cutting(world: &mut World) -> Result<()> {
    answer(world, &[Answer::Cut])
}

fn partial(world: &mut World) -> Result<()> {
    world.excused.is_counted_roughly = true;
    let partial = |rejected| Answer::PartialSuccess { rejected, message: REASON.to_owned() };
    let played = answer(world, &[partial(1), partial(3)]);
    excuse_rejected(world);
    played
}

const REASON: &str = "chaos refuses this";

fn rejecting(world: &mut World) -> Result<()> {
    // Feedback that was acknowledged once on disk may be rejected, too. Spans that the collector
    // accepted, but didn't acknowledge in time, may count as lost.
    world.excused.is_counted_roughly = true;
    let mut service = world.service()?;
    world.wait_for_acked(20)?;
    world.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
    world.wait_for_acked(100)?;
    world.collector.answer_all(Some(Answer::BadRequest { message: REASON.to_owned() }));
    let rejected = world.outbox().join("rejected");
    world.wait("something was rejected", |_| !files(&rejected, "segment").is_empty())?;
    world.sleep_between(200, 600);
    world.collector.answer_all(None);
    world.rounds = 1;
    world.sleep_between(200, 400);
    service.stop()?;
    service.drain()?;
    service.end()?;
    excuse_rejected(world);
    match world.excused.rejected.is_empty() {
        true => Err("nothing lies in the rejected files".into()),
        false => Ok(()),
    }
}

/// Excuses what is in the `rejected` files with its reason.
fn excuse_rejected(world: &mut World) {
    for path in files(&world.outbox(), "segment").iter().filter(|path| is_rejected(path)) {
        let bytes = std::fs::read(path).unwrap_or_default();
        if segments::contains(&bytes, REASON) {
            world.excused.rejected.extend(segments::tags(&bytes));
        }
    }
    world.how = Some(format!("{} in rejected", world.excused.rejected.len()));
}

fn unwelcome(world: &mut World) -> Result<()> {
    let status = if world.mode.protocol == "grpc" { 404 } else { 401 };
    let service = world.service()?;
    world.wait_for_acked(20)?;
    world.gate.refuse_all(status)?;
    world.sleep_between(1500, 2000);
    world.gate.up()?;
    world.rounds = 1;
    world.sleep_between(200, 400);
    world.drain_and_end(service)
}
