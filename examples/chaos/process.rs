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
const TIMEOUT: Duration = Duration::from_secs(90);

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
        let (sender, events) = channel();
        let input = process.stdin.take();
        let output = process.stdout.take().map(|output| {
            let ledger = ledger.clone();
            thread::spawn(move || read_output(output, &ledger, &sender))
        });
        Ok(Self { process, input, events, output: [output, errors], warnings })
    }

    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Waits for a line that begins with `prefix`, and returns the rest.
    pub(crate) fn wait_for_line(&mut self, prefix: &str) -> Result<String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.events.recv_timeout(left) else {
                let warnings = self.warnings.text();
                return Err(
                    format!("the service didn't print {prefix:?}; it warned: {warnings}").into()
                );
            };
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok(rest.trim().to_owned());
            }
        }
    }

    fn send_command(&mut self, command: &str) -> Result<()> {
        let input = self.input.as_mut().ok_or("the service has no input any more")?;
        Ok(writeln!(input, "{command}")?)
    }

    /// Stops the making of spans.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.send_command("stop")?;
        self.wait_for_line("stopped").map(drop)
    }

    /// Waits until everything it has made was delivered, and what other processes left behind.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.send_command("drain")?;
        match self.wait_for_line("drained")?.as_str() {
            "yes" => Ok(()),
            no => {
                Err(format!("not everything was delivered: {no}\n{}", self.warnings.text()).into())
            }
        }
    }

    /// Ends the service regularly.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.send_command("end")?;
        self.wait_for_line("ended")?;
        self.finish()
    }

    /// Waits until the service has ended by itself.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.input = None;
        let status = self.process.wait()?;
        self.join_readers();
        match status.success() {
            true => Ok(()),
            false => Err(format!("the service ended with {status}").into()),
        }
    }

    /// `kill -9`. Its output so far is still read.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.join_readers();
    }

    fn join_readers(&mut self) {
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
fn read_output(output: ChildStdout, ledger: &Ledger, events: &Sender<String>) {
    let mut output = BufReader::new(output);
    let (mut users, mut address) = (None, String::new());
    loop {
        let mut line = String::new();
        // A line without its end was cut off by a kill.
        if !output.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
            break;
        }
        let line = line.trim_end();
        let (event, rest) = line.split_once(' ').unwrap_or((line, ""));
        match event {
            "said" => ledger.record_submitted(rest),
            "acked" => rest.split(' ').for_each(|tag| ledger.record_acked(tag)),
            "ticket" => {
                let (tickets, _) = users.get_or_insert_with(|| use_tickets(&address, ledger));
                // The users wait for tickets as long as the sender exists.
                let _ = tickets.send(rest.to_owned());
            }
            "ready" => address = rest.to_owned(),
            // Users who have a ticket finish first.
            "stopped" => finish(users.take()),
            "ended" => ledger.record_ended(rest),
            _ => {}
        }
        if !matches!(event, "said" | "acked" | "ticket") {
            let _ = events.send(line.to_owned()); // the receiver may be dropped
        }
    }
    finish(users.take());
}

type Users = (Sender<String>, JoinHandle<()>);

fn finish(users: Option<Users>) {
    if let Some((tickets, users)) = users {
        drop(tickets);
        let _ = users.join();
    }
}

/// A user who sends feedback with the tickets, one after the other.
fn use_tickets(address: &str, ledger: &Ledger) -> Users {
    let (sender, tickets) = channel::<String>();
    let (address, ledger) = (address.to_owned(), ledger.clone());
    let users = thread::spawn(move || {
        for line in tickets {
            let Some((tag, ticket)) = line.split_once(' ') else { continue };
            ledger.record_submitted(tag);
            if submit(&address, tag, ticket).is_some_and(|status| status == "204") {
                ledger.record_acked(tag);
            }
        }
    });
    (sender, users)
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
