//! The command line: commands and flags.

mod chart;
mod forward;
mod help;
mod import;
mod json;
mod tail;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use lexopt::{Arg, Parser, ValueExt};

use super::demo;
use super::forward::{Destination, ForwardOptions};
use super::log::log_line;
use super::options::{DEMO_STORE, GRPC_PORT, HTTP_PORT, PAGE_PORT, STORE};
use super::query::time::{self, Bucket, Zone};
use super::store::Store;
use super::store::clickhouse::{self, ClickHouse};
use super::store::location::Location;
use super::store::sqlite::Sqlite;
use super::store::view::Status;
use super::{Desk, Options, first_of};
use crate::printable::printable;
use chart::ChartCommand;
use forward::ForwardCommand;

/// Why a command did not succeed; decides the message and the exit code.
#[derive(Debug)]
enum CommandError {
    /// The command line is wrong.
    Usage(String),
    /// The command failed.
    Failed(String),
    /// The reader of the output has closed it, as `head` does.
    Closed,
}

impl CommandError {
    fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    fn write(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<lexopt::Error> for CommandError {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// The default seed of the demo.
const DEMO_SEED: u64 = 1;

type CommandResult = Result<(), CommandError>;

/// Runs a command line, whose first word is the name of the program. The desk itself runs until Ctrl-C
/// or SIGTERM.
///
/// # Panics
///
/// In the asynchronous code of a Tokio runtime: it blocks the thread, so call it in `main`.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match command(Parser::from_iter(arguments)) {
        Ok(()) | Err(CommandError::Closed) => ExitCode::SUCCESS,
        Err(CommandError::Failed(error)) => {
            log_line(&format!("feedback-desk: {}", printable(&error)));
            ExitCode::FAILURE
        }
        Err(CommandError::Usage(error)) => {
            log_line(&format!("feedback-desk: {}\nSee feedback-desk --help.", printable(&error)));
            ExitCode::from(2)
        }
    }
}

fn command(mut parser: Parser) -> CommandResult {
    let mut desk = Flags::default();
    loop {
        match parser.next()? {
            None => {
                let demo = desk.demo()?;
                return serve(desk.options()?, demo);
            }
            Some(Arg::Value(command)) => {
                if desk.is_touched {
                    return Err(CommandError::Usage("put the flags after the command".to_owned()));
                }
                return match command.to_str() {
                    Some("chart") => chart(parser),
                    Some("tail") => tail(parser),
                    Some("import") => import(parser),
                    Some("clickhouse") => clickhouse(parser),
                    Some("forward") => forward(parser),
                    Some("help") => print(help::HELP),
                    _ => Err(CommandError::Usage(format!(
                        "unknown command `{}`: use chart, tail, import, forward or clickhouse",
                        command.to_string_lossy()
                    ))),
                };
            }
            Some(Arg::Short('h') | Arg::Long("help")) => return print(help::HELP),
            Some(Arg::Short('V') | Arg::Long("version")) => {
                return print(concat!("feedback-desk ", env!("CARGO_PKG_VERSION"), "\n"));
            }
            Some(Arg::Long(name)) => {
                let name = name.to_owned();
                if !desk.flag(&name, &mut parser)? {
                    return Err(Arg::Long(&name).unexpected().into());
                }
            }
            Some(other) => return Err(other.unexpected().into()),
        }
    }
}

/// The flags of the desk itself.
#[derive(Debug, Default)]
struct Flags {
    store: Option<OsString>,
    listen: Option<IpAddr>,
    grpc_port: Option<u16>,
    http_port: Option<u16>,
    port: Option<u16>,
    token: Option<String>,
    hosts: Vec<String>,
    base_path: Option<String>,
    keep_days: Option<u64>,
    keep_bytes: Option<u64>,
    is_demo: bool,
    demo_seed: Option<u64>,
    forward: ForwardFlags,
    is_touched: bool,
}

impl Flags {
    /// Reads one flag, if it is known.
    fn flag(&mut self, name: &str, parser: &mut Parser) -> Result<bool, CommandError> {
        self.is_touched = true;
        match name {
            "store" => self.store = Some(parser.value()?),
            "listen" => self.listen = Some(parser.value()?.parse()?),
            "grpc-port" => self.grpc_port = Some(parser.value()?.parse()?),
            "http-port" => self.http_port = Some(parser.value()?.parse()?),
            "port" => self.port = Some(parser.value()?.parse()?),
            "allow-host" => self.hosts.push(parser.value()?.string()?),
            "base-path" => self.base_path = Some(parser.value()?.string()?),
            "token" => self.token = Some(parser.value()?.string()?),
            "keep-days" => self.keep_days = Some(parser.value()?.parse()?),
            "demo" => self.is_demo = true,
            "demo-seed" => self.demo_seed = Some(parser.value()?.parse()?),
            "keep-bytes" => self.keep_bytes = Some(parser.value()?.parse_with(bytes)?),
            _ => return self.forward.flag(name, parser),
        }
        Ok(true)
    }

    /// The seed of the demo, if `--demo` is set.
    fn demo(&self) -> Result<Option<u64>, CommandError> {
        match (self.is_demo, self.demo_seed) {
            (false, Some(_)) => Err(CommandError::Usage("--demo-seed requires --demo".to_owned())),
            (false, None) => Ok(None),
            (true, seed) => Ok(Some(seed.unwrap_or(DEMO_SEED))),
        }
    }

    fn options(self) -> Result<Options, CommandError> {
        let or = |flag: Option<u16>, name: &str, default: u16| -> Result<u16, CommandError> {
            Ok(match flag {
                Some(port) => port,
                None => environment(name, |text| text.parse().ok())?.unwrap_or(default),
            })
        };
        let grpc = or(self.grpc_port, "FEEDBACK_DESK_GRPC_PORT", GRPC_PORT)?;
        let http = or(self.http_port, "FEEDBACK_DESK_HTTP_PORT", HTTP_PORT)?;
        let page = or(self.port, "FEEDBACK_DESK_PORT", PAGE_PORT)?;
        // FEEDBACK_DESK_STORE names the file of real data, so a demo ignores it.
        let file = match (self.is_demo, self.store) {
            (true, None) => Location::File(DEMO_STORE.into()),
            (_, flag) => store(flag)?,
        };
        let mut options = Options::of(file).with_ports(grpc, http, page);
        options.forward = self.forward.options()?;
        let listen = match self.listen {
            Some(listen) => Some(listen),
            None => environment("FEEDBACK_DESK_LISTEN", |text| text.parse().ok())?,
        };
        if let Some(listen) = listen {
            options = options.with_listen(listen);
        }
        let token = match self.token {
            Some(token) => Some(token),
            None => environment("FEEDBACK_DESK_TOKEN", |text| Some(text.to_owned()))?,
        };
        if let Some(token) = token {
            options = options.with_token(token);
        }
        let hosts = match self.hosts {
            hosts if hosts.is_empty() => {
                let split = |text: &str| {
                    Some(text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>())
                };
                environment("FEEDBACK_DESK_ALLOW_HOST", split)?.unwrap_or_default()
            }
            hosts => hosts,
        };
        for host in hosts {
            options = options.with_allowed_host(host);
        }
        let base = match self.base_path {
            Some(base) => Some(base),
            None => environment("FEEDBACK_DESK_BASE_PATH", |text| Some(text.to_owned()))?,
        };
        if let Some(base) = base {
            options = options.with_base_path(base);
        }
        let days = match self.keep_days {
            Some(days) => Some(days),
            None => environment("FEEDBACK_DESK_KEEP_DAYS", |text| text.parse().ok())?,
        };
        if let Some(days) = days {
            options = options.with_max_age(Duration::from_secs(days.saturating_mul(86_400)));
        }
        let most = match self.keep_bytes {
            Some(most) => Some(most),
            None => environment("FEEDBACK_DESK_KEEP_BYTES", |text| bytes(text).ok())?,
        };
        if let Some(most) = most {
            options = options.with_max_bytes(most);
        }
        options.retention.check().map_err(|reason| {
            CommandError::Usage(format!("--keep-days and --keep-bytes: {reason}"))
        })?;
        Ok(options)
    }
}

/// The flags of forwarding.
#[derive(Debug, Default)]
struct ForwardFlags {
    destinations: Vec<Destination>,
    has_metrics: bool,
    has_texts: Option<bool>,
    state: Option<PathBuf>,
}

impl ForwardFlags {
    /// Reads one flag, if it is known.
    fn flag(&mut self, name: &str, parser: &mut Parser) -> Result<bool, CommandError> {
        match name {
            "forward" => {
                let text = parser.value()?.string()?;
                self.destinations.push(Destination::read(&text).map_err(CommandError::Usage)?);
            }
            "forward-state" => self.state = Some(parser.value()?.into()),
            "forward-metrics" => self.has_metrics = true,
            "forward-texts" => self.has_texts = Some(parser.value()?.parse_with(yes_or_no)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn options(self) -> Result<ForwardOptions, CommandError> {
        let mut options = ForwardOptions { destinations: self.destinations, ..Default::default() };
        if options.destinations.is_empty() {
            let texts = environment("FEEDBACK_DESK_FORWARD", |text| Some(text.to_owned()))?;
            let texts = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
            let read = |text| Destination::read(text).map_err(CommandError::Usage);
            options.destinations =
                texts.filter(|text| !text.is_empty()).map(read).collect::<Result<_, _>>()?;
        }
        options.state = match self.state {
            Some(state) => Some(state),
            None => environment("FEEDBACK_DESK_FORWARD_STATE", |text| Some(text.into()))?,
        };
        let switch = |name| environment(name, |text| yes_or_no(text).ok());
        options.selection.has_metrics =
            self.has_metrics || switch("FEEDBACK_DESK_FORWARD_METRICS")?.unwrap_or(false);
        options.selection.has_texts = match self.has_texts {
            Some(texts) => texts,
            None => switch("FEEDBACK_DESK_FORWARD_TEXTS")?.unwrap_or(true),
        };
        let names: BTreeSet<String> =
            options.destinations.iter().map(Destination::to_string).collect();
        if names.len() < options.destinations.len() {
            return Err(CommandError::Usage("--forward names a backend twice".to_owned()));
        }
        Ok(options)
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" | "1" => Ok(true),
        "no" | "false" | "0" => Ok(false),
        _ => Err("use yes or no".to_owned()),
    }
}

/// The store: from the flag, else from the environment, else the file in this directory.
fn store(flag: Option<OsString>) -> Result<Location, CommandError> {
    let of_environment = || std::env::var_os("FEEDBACK_DESK_STORE").filter(|text| !text.is_empty());
    let text = flag.or_else(of_environment).unwrap_or_else(|| STORE.into());
    Location::read(text).map_err(CommandError::Usage)
}

/// The same where it has to be a file.
fn file(flag: Option<OsString>, what: &str) -> Result<PathBuf, CommandError> {
    match store(flag)? {
        Location::File(path) => Ok(path),
        Location::ClickHouse(_) => Err(CommandError::Usage(format!(
            "{what} needs a file: on ClickHouse the Collector writes, and the desk only reads"
        ))),
    }
}

/// A variable, if it is set to anything.
fn environment<T>(
    name: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, CommandError> {
    let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = text.to_str().and_then(parse);
    parsed.map(Some).ok_or_else(|| {
        CommandError::Usage(format!("{name}: `{}` is not a valid value", text.to_string_lossy()))
    })
}

/// `500MB`, `10GiB`, or a plain number.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000_u64),
    ];
    let found =
        units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = found.unwrap_or((text, 1));
    let number: u64 = number
        .trim()
        .parse()
        .map_err(|_| "use for example 500MB, 10GiB, or a number of bytes".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

fn serve(options: Options, demo: Option<u64>) -> CommandResult {
    let store = options.store.clone();
    let token = options.token.clone();
    let file = store.file().map(Path::to_owned);
    if demo.is_some() {
        let Some(file) = &file else {
            return Err(CommandError::Usage(
                "--demo needs a file: on ClickHouse the desk only reads".to_owned(),
            ));
        };
        check_for_demo(file)?;
    }
    let desk = Desk::start(options).map_err(CommandError::failed)?;
    let mut text = format!(
        "feedback-desk {}\n  page and API    {}\n",
        env!("CARGO_PKG_VERSION"),
        desk.address()
    );
    if let (Some(grpc), Some(http)) = (desk.endpoint(), desk.http_endpoint()) {
        text += &format!("  OTLP over gRPC  {grpc}\n  OTLP over HTTP  {http}\n");
    }
    // A desk whose output can't be written, on a disk that is full, serves all the same.
    let _ = print(&format!("{text}  store           {}\n", printable(&store.to_string())));
    match (demo, &file) {
        (Some(seed), Some(file)) => fill(&desk, file, token.as_deref(), seed)?,
        (None, Some(file)) if status(file)?.demo => {
            let _ = print("This store contains demo data.\n");
        }
        _ => {}
    }
    let _ = print("Press Ctrl-C to stop.\n");
    let is_asked = wait_for_shutdown(&desk).map_err(CommandError::failed)?;
    drop(desk);
    if is_asked { Ok(()) } else { Err(CommandError::Failed("stopped by a fault".to_owned())) }
}

fn status(file: &Path) -> Result<Status, CommandError> {
    Sqlite::new(file, Duration::from_secs(60)).status().map_err(CommandError::failed)
}

/// A demo among real data would falsify every figure.
fn check_for_demo(file: &Path) -> CommandResult {
    if !file.exists() {
        return Ok(());
    }
    let found = Sqlite::existing(file, Duration::from_secs(60))
        .map_err(|error| CommandError::Failed(format!("{}: {error}", file.display())))?
        .status()
        .map_err(CommandError::failed)?;
    if found.spans > 0 && !found.demo {
        return Err(CommandError::Failed(format!(
            "{} contains spans of real services, which a demo would mix with generated ones: choose \
             another file with --store, or omit --store",
            file.display()
        )));
    }
    Ok(())
}

/// Sends the demo to a running desk, and prints what was sent.
fn fill(desk: &Desk, file: &Path, token: Option<&str>, seed: u64) -> CommandResult {
    let begin = Instant::now();
    let before = status(file)?.spans;
    let Some(endpoint) = desk.local_endpoint() else { return Ok(()) };
    let sent =
        demo::send(&endpoint, token, seed, SystemTime::now()).map_err(CommandError::failed)?;
    let new = status(file)?.spans - before;
    let date = |day: u64| {
        let begin = i64::try_from(day * demo::DAY).unwrap_or(i64::MAX);
        time::label(begin, Bucket::Day, &Zone::default())
    };
    let _ = print(&format!(
        "Demo, seed {seed}: {} generated requests, from {} to {}, and of today.\n\
         {} spans sent by OTLP in {:.1} s, {new} of them new, all with demo = true.\n\
         Spans that your services send now go into the same store.\n\
         Open {}\n",
        sent.requests,
        date(sent.days.0),
        date(sent.days.1.saturating_sub(1)),
        sent.spans,
        begin.elapsed().as_secs_f64(),
        desk.address(),
    ));
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM, or until the desk stops by itself. Returns whether it was asked to stop.
fn wait_for_shutdown(desk: &Desk) -> std::io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked = async { asked_to_stop().await.map(|()| true) };
        let ended = async {
            desk.ended().await;
            Ok(false)
        };
        first_of(asked, ended).await
    })
}

#[cfg(unix)]
async fn asked_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    first_of(terminate.recv(), interrupt.recv()).await;
    Ok(())
}

#[cfg(not(unix))]
async fn asked_to_stop() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

fn chart(mut parser: Parser) -> CommandResult {
    let mut chart = ChartCommand::default();
    let mut place = None;
    loop {
        match parser.next()? {
            None => return chart.run(&store(place)?),
            Some(Arg::Short('h') | Arg::Long("help")) => return print(help::CHART),
            Some(Arg::Long("store")) => place = Some(parser.value()?),
            Some(Arg::Long(name)) => {
                let name = name.to_owned();
                if !chart.flag(&name, &mut parser)? {
                    return Err(Arg::Long(&name).unexpected().into());
                }
            }
            Some(Arg::Value(field)) if chart.field.is_none() => {
                chart.field = Some(field.string()?);
            }
            Some(other) => return Err(other.unexpected().into()),
        }
    }
}

fn tail(mut parser: Parser) -> CommandResult {
    let (mut place, mut is_json, mut is_all) = (None, false, false);
    loop {
        match parser.next()? {
            None => return tail::tail(&store(place)?, is_json, is_all),
            Some(Arg::Short('h') | Arg::Long("help")) => return print(help::TAIL),
            Some(Arg::Long("store")) => place = Some(parser.value()?),
            Some(Arg::Long("json")) => is_json = true,
            Some(Arg::Long("all")) => is_all = true,
            Some(other) => return Err(other.unexpected().into()),
        }
    }
}

fn import(mut parser: Parser) -> CommandResult {
    let (mut place, mut inputs) = (None, Vec::new());
    loop {
        match parser.next()? {
            None if inputs.is_empty() => {
                return Err(CommandError::Usage(
                    "import needs a file, or - for standard input".to_owned(),
                ));
            }
            None => return import::import(&file(place, "import")?, &inputs),
            Some(Arg::Short('h') | Arg::Long("help")) => return print(help::IMPORT),
            Some(Arg::Long("store")) => place = Some(parser.value()?),
            Some(Arg::Value(input)) => inputs.push(PathBuf::from(input)),
            Some(other) => return Err(other.unexpected().into()),
        }
    }
}

fn forward(mut parser: Parser) -> CommandResult {
    let (mut place, mut is_json, mut command) = (None, false, None);
    let mut flags = ForwardFlags::default();
    loop {
        match parser.next()? {
            None => break,
            Some(Arg::Short('h') | Arg::Long("help")) => return print(help::FORWARD),
            Some(Arg::Long("store")) => place = Some(parser.value()?),
            Some(Arg::Long("json")) => is_json = true,
            Some(Arg::Long("check")) => command = Some(ForwardCommand::Check),
            Some(Arg::Long("status")) => command = Some(ForwardCommand::Status),
            Some(Arg::Long("retry")) => command = Some(ForwardCommand::Retry),
            Some(Arg::Long(name)) => {
                let name = name.to_owned();
                if !flags.flag(&name, &mut parser)? {
                    return Err(Arg::Long(&name).unexpected().into());
                }
            }
            Some(other) => return Err(other.unexpected().into()),
        }
    }
    let Some(command) = command else {
        let reason =
            "forward needs --check, --status or --retry; the desk itself forwards with --forward";
        return Err(CommandError::Usage(reason.to_owned()));
    };
    command.run(&store(place)?, &flags.options()?, is_json)
}

/// Prints the statements that make the desk fast on ClickHouse.
fn clickhouse(mut parser: Parser) -> CommandResult {
    let (mut place, mut is_ddl, mut is_json) = (None, false, false);
    loop {
        match parser.next()? {
            None if !is_ddl => {
                return Err(CommandError::Usage(
                    "clickhouse needs --ddl: it prints the statements and runs none".to_owned(),
                ));
            }
            None => break,
            Some(Arg::Short('h') | Arg::Long("help")) => return print(help::CLICKHOUSE),
            Some(Arg::Long("store")) => place = Some(parser.value()?),
            Some(Arg::Long("ddl")) => is_ddl = true,
            Some(Arg::Long("json")) => is_json = true,
            Some(other) => return Err(other.unexpected().into()),
        }
    }
    let address = match place.map(Location::read).transpose().map_err(CommandError::Usage)? {
        None => clickhouse::Address::default(),
        Some(Location::ClickHouse(address)) => {
            // The type of the attribute columns is read from the table.
            let store = ClickHouse::open(address.clone(), Duration::from_secs(20));
            is_json = store.and_then(|store| store.is_json()).map_err(CommandError::failed)?;
            address
        }
        Some(Location::File(_)) => {
            return Err(CommandError::Usage(
                "this command needs --store clickhouse=http://…".to_owned(),
            ));
        }
    };
    print(&clickhouse::ddl(&address, is_json))
}

fn print(text: &str) -> CommandResult {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(bytes("500MB"), Ok(500_000_000));
        assert_eq!(bytes("10 GiB"), Ok(10 << 30));
        assert_eq!(bytes("4096"), Ok(4096));
        assert!(bytes("much").is_err());
        assert!(bytes("99999999TiB").is_err());
    }
}
