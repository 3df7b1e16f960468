//! A service in a process of its own: its output, its commands, and its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Result;
use crate::ledger::Ledger;

/// The timeout of every wait: if one takes longer, something is wrong.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Service {
    process: Child,
    input: Option<ChildStdin>,
    events: Receiver<String>,
    output: [Option<JoinHandle<()>>; 2],
    warnings: Warnings,
}

/// The warnings of a service that have been read so far.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<String>>);

impl Warnings {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Service {
    /// Starts the program of `command`, which is to run as the service.
    pub(crate) fn start(mut command: Command, ledger: &Ledger) -> Result<Self> {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let warnings = Warnings::default();
        let errors = process.stderr.take().map(|errors| {
            let warnings = warnings.clone();
            thread::spawn(move || {
                for line in BufReader::new(errors).lines().map_while(|line| line.ok()) {
                    let mut text = warnings.0.lock().unwrap_or_else(PoisonError::into_inner);
                    text.push_str(&line);
                    text.push('\n');
                }
            })
        });
        let (tell, events) = channel();
        let input = process.stdin.take();
        let output = process.stdout.take().map(|output| {
            let ledger = ledger.clone();
            thread::spawn(move || listen(output, &ledger, &tell))
        });
        Ok(Self { process, input, events, output: [output, errors], warnings })
    }

    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Waits for a line that begins with `this`, and returns the rest.
    pub(crate) fn says(&mut self, this: &str) -> Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.events.recv_timeout(left) else {
                let warnings = self.warnings.text();
                return Err(
                    format!("the service didn't say {this:?}; it warned: {warnings}").into()
                );
            };
            if let Some(rest) = line.strip_prefix(this) {
                return Ok(rest.trim().to_owned());
            }
        }
    }

    fn tell(&mut self, what: &str) -> Result<()> {
        let input = self.input.as_mut().ok_or("the service listens no more")?;
        Ok(writeln!(input, "{what}")?)
    }

    /// Stops the making of spans.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.tell("stop")?;
        self.says("stopped").map(drop)
    }

    /// Waits until everything it has made was delivered, and what other processes left behind.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.tell("drain")?;
        match self.says("drained")?.as_str() {
            "yes" => Ok(()),
            no => Err(format!("not all has left it: {no}\n{}", self.warnings.text()).into()),
        }
    }

    /// Ends the service regularly.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.tell("end")?;
        self.says("ended")?;
        self.finish()
    }

    /// Waits until the service has ended by itself.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.input = None;
        let status = self.process.wait()?;
        self.hear_out();
        match status.success() {
            true => Ok(()),
            false => Err(format!("the service ended with {status}").into()),
        }
    }

    /// `kill -9`. Its output so far is still read.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.hear_out();
    }

    fn hear_out(&mut self) {
        for output in self.output.iter_mut().filter_map(Option::take) {
            let _ = output.join(); // it doesn't panic
        }
    }
}

impl Drop for Service {
    /// Kills the service also if something has failed.
    fn drop(&mut self) {
        self.kill();
    }
}

/// Enters the reports of a service into the ledger, and lets users redeem its tickets.
fn listen(output: ChildStdout, ledger: &Ledger, tell: &Sender<String>) {
    let mut output = BufReader::new(output);
    let (mut users, mut address) = (None, String::new());
    loop {
        let mut line = String::new();
        // A line without its end was cut off by a kill.
        if !output.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
            break;
        }
        let line = line.trim_end();
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            "said" => ledger.said(rest),
            "acked" => rest.split(' ').for_each(|tag| ledger.acked(tag)),
            "ticket" => {
                let (tell, _) = users.get_or_insert_with(|| use_tickets(&address, ledger));
                // The users wait for tickets as long as the sender exists.
                let _ = tell.send(rest.to_owned());
            }
            "ready" => address = rest.to_owned(),
            // Users who have a ticket finish first.
            "stopped" => finish(users.take()),
            "ended" => ledger.ended(rest),
            _ => {}
        }
        if !matches!(what, "said" | "acked" | "ticket") {
            let _ = tell.send(line.to_owned()); // the receiver may be dropped
        }
    }
    finish(users.take());
}

type Users = (Sender<String>, JoinHandle<()>);

fn finish(users: Option<Users>) {
    if let Some((tell, users)) = users {
        drop(tell);
        let _ = users.join();
    }
}

/// A user who sends feedback with the tickets, one after the other.
fn use_tickets(address: &str, ledger: &Ledger) -> Users {
    let (tell, tickets) = channel::<String>();
    let (address, ledger) = (address.to_owned(), ledger.clone());
    let users = thread::spawn(move || {
        for line in tickets {
            let Some((tag, ticket)) = line.split_once(' ') else { continue };
            ledger.said(tag);
            if submit(&address, tag, ticket).is_some_and(|status| status == "204") {
                ledger.acked(tag);
            }
        }
    });
    (tell, users)
}

/// Sends `POST /feedback`. Returns the status of the response, if there is one.
fn submit(address: &str, tag: &str, ticket: &str) -> Option<String> {
    let body =
        format!(r#"{{"ticket":"{ticket}","id":"{tag}","feedback":{{"said":"{tag}","rating":1}}}}"#);
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let length = body.len();
    write!(
        connection,
        "POST /feedback HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1).map(str::to_owned)
}
