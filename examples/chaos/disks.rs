//! Disks that are full or read-only, or return other bytes than were written.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::segments::{self, Damage};
use crate::world::{
    GRPC_AHEAD, GRPC_SPILL, HTTP_AHEAD, HTTP_SPILL, Scenario, World, files, is_rejected,
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "disk-full",
        about: "the disk is full while the collector is away",
        mode: GRPC_AHEAD,
        play: disk_full,
    },
    Scenario { name: "disk-full-spill", about: "the same", mode: HTTP_SPILL, play: disk_full },
    Scenario {
        name: "disk-full-kill",
        about: "the same, and the service is killed meanwhile",
        mode: HTTP_AHEAD,
        play: disk_full_and_kill,
    },
    Scenario {
        name: "read-only",
        about: "the directory can't be written to",
        mode: GRPC_AHEAD,
        play: read_only,
    },
    Scenario {
        name: "damage",
        about: "bits of segments flip, and their ends are lost",
        mode: GRPC_SPILL,
        play: damage,
    },
    Scenario {
        name: "damage-after-kill",
        about: "the same, of a service that was killed",
        mode: HTTP_AHEAD,
        play: damage_after_kill,
    },
    Scenario {
        name: "clock-backwards",
        about: "the clock goes back by two days between two services",
        mode: GRPC_AHEAD,
        play: clock_backwards,
    },
];

/// A file system of its own, unmounted when it is dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` if this process may not mount.
    fn tmpfs(path: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(path).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "chaos"]).arg(path);
        let done = mount.stderr(std::process::Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then(|| Self(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A service with little room on disk. Without the right to mount it gets a quota: files of at most
/// 64 KiB, and then an error.
fn with_small_disk(world: &mut World) -> Result<(Option<Mount>, crate::process::Service)> {
    let mount = Mount::tmpfs(&world.outbox(), "size=256k,mode=700");
    let is_mounted = mount.is_some();
    world.how = Some(if is_mounted { "tmpfs of 256 KiB" } else { "ulimit -f" }.to_owned());
    let mut service = world.service_by(|command| match is_mounted {
        true => command,
        false => limited(&command),
    })?;
    service.wait_for_line("ready")?;
    Ok((mount, service))
}

/// The same command under `ulimit -f`, as errors and not as a signal.
fn limited(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

fn disk_full(world: &mut World) -> Result<()> {
    let (_mount, mut service) = with_small_disk(world)?;
    // Spans that the collector accepted before it died, but didn't acknowledge, may count as lost.
    world.excused.is_counted_roughly = true;
    world.wait_for_acked(20)?;
    world.gate.down();
    service.wait_for_line("unsure")?; // there is no room
    world.sleep_between(300, 600);
    world.gate.up()?;
    world.rounds = 1;
    world.drain_and_end(service)
}

fn disk_full_and_kill(world: &mut World) -> Result<()> {
    let (_mount, mut service) = with_small_disk(world)?;
    world.wait_for_acked(20)?;
    world.gate.down();
    service.wait_for_line("unsure")?;
    world.sleep_between(300, 600);
    service.kill();
    world.gate.up()?;
    world.rounds = 1;
    world.deliver_the_rest()
}

fn read_only(world: &mut World) -> Result<()> {
    // Below a regular file not even root can make a directory.
    let file = world.outbox();
    std::fs::write(&file, "a file")?;
    let refused = |world: &mut World, directory: &Path| -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(world.service_arguments()).arg(directory);
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        world.rounds += 1;
        match !output.status.success() && text.contains(&*directory.to_string_lossy()) {
            true => Ok(()),
            false => {
                Err(format!("a service with an outbox that can't be used printed: {text}").into())
            }
        }
    };
    refused(world, &file.join("outbox"))?;
    let below = file.with_extension("mount");
    let mount = Mount::tmpfs(&below, "ro");
    match mount.is_some() {
        true => refused(world, &below.join("outbox"))?,
        false => world.how = Some("no mount".to_owned()),
    }
    // Without an outbox, spans that are not acknowledged in time count as lost.
    world.excused.is_counted_roughly = true;
    // An outbox that the environment asks for can't keep a service from working.
    for directory in [Some(file.join("outbox")), mount.as_ref().map(|_| below.join("outbox"))] {
        let Some(directory) = directory else { continue };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(world.service_arguments()).arg("-");
        command.env("FEEDBACK_OUTBOX_DIR", &directory);
        let mut service = crate::process::Service::start(command, &world.ledger)?;
        service.wait_for_line("ready")?;
        world.wait_for_acked(20)?;
        if !service.warnings().text().contains("FEEDBACK_OUTBOX_DIR") {
            return Err("the service did not warn that it has no outbox".into());
        }
        world.drain_and_end(service)?;
        world.rounds += 1;
    }
    drop(mount);
    Ok(())
}

fn damage(world: &mut World) -> Result<()> {
    damaged(world, |service| {
        service.stop()?;
        service.end()
    })
}

fn damage_after_kill(world: &mut World) -> Result<()> {
    let done = damaged(world, |service| {
        service.kill();
        Ok(())
    });
    // Killed services have not reported how many spans they made.
    world.excused.damaged_spans = 0;
    done
}

/// Services whose segments are damaged after their `end`.
fn damaged(
    world: &mut World,
    end: impl Fn(&mut crate::process::Service) -> Result<()>,
) -> Result<()> {
    let kinds = [Damage::Bit, Damage::End, Damage::Header];
    for round in 0..world.requested_rounds.clamp(3, 30) {
        world.gate.down();
        let mut service = world.service()?;
        world.wait_for_acked(100)?;
        end(&mut service)?;
        let mut expected = Vec::new();
        for path in files(&world.outbox(), "segment").iter().filter(|path| !is_rejected(path)) {
            let cost = segments::damage(path, kinds[round % 3], &mut world.random)?;
            world.excused.damaged.extend(cost.tags);
            world.excused.damaged_spans += cost.spans;
            expected.extend(cost.offset.map(|offset| (path.display().to_string(), offset)));
        }
        world.gate.up()?;
        let service = world.service()?;
        let warnings = service.warnings().clone();
        world.drain_and_end(service)?;
        for (file, offset) in expected {
            let is_warning =
                |line: &str| line.contains(&file) && line.contains(&format!("offset={offset} "));
            if !warnings.text().lines().any(is_warning) {
                return Err(format!("no warning of {file} at {offset}").into());
            }
        }
        world.rounds += 1;
    }
    world.how = Some(format!("{} in damaged bytes", world.excused.damaged.len()));
    Ok(())
}

fn clock_backwards(world: &mut World) -> Result<()> {
    let places = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];
    let library = places.iter().find_map(|place| faketime(Path::new(place)));
    let Some(library) = library else {
        world.how =
            Some("no libfaketime: `a_clock_that_goes_backwards_…` in src/outbox".to_owned());
        world.is_skipped = true;
        return Ok(());
    };
    world.gate.down();
    let mut service = world.service()?;
    world.wait_for_acked(100)?;
    service.kill();
    let mut service = world.service_by(|mut command| {
        command.env("LD_PRELOAD", library);
        command.env("FAKETIME", "-2d").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    })?;
    service.wait_for_line("ready")?;
    world.wait_for_acked(100)?;
    world.gate.up()?;
    world.rounds = 1;
    world.drain_and_end(service)
}

fn faketime(under: &Path) -> Option<PathBuf> {
    let is_it = |path: &PathBuf| path.file_name().is_some_and(|it| it == "libfaketime.so.1");
    let mut entries = std::fs::read_dir(under).ok()?.flatten().map(|entry| entry.path());
    entries.find_map(|path| match path.is_dir() {
        // `…/x86_64-linux-gnu/faketime`
        true if under.components().count() < 5 => faketime(&path),
        _ => Some(path).filter(is_it),
    })
}
