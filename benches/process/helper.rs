//! This program as a child process that answers lines with lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(crate) struct Helper {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs once more");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, input, output }
    }

    /// The next line of its output.
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line of text");
        line.trim_end().to_owned()
    }

    /// Its answer to an empty line.
    #[allow(dead_code)] // not every benchmark asks
    pub(crate) fn request_line(&mut self) -> String {
        self.request("")
    }

    /// Its answer to a line.
    #[allow(dead_code)] // not every benchmark asks
    pub(crate) fn request(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").expect("it listens");
        self.read_line()
    }

    /// Closes its input, upon which it ends.
    pub(crate) fn end(self) {
        let Self { mut process, input, output } = self;
        drop((input, output));
        let status = process.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}
