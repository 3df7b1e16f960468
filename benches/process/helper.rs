//! This program as a child process that answers lines with lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(crate) struct Helper {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
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
        let to = process.stdin.take().expect("a pipe");
        let from = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, to, from }
    }

    /// The next line of its output.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("a line of text");
        line.trim_end().to_owned()
    }

    /// Its answer to an empty line.
    #[allow(dead_code)] // not every benchmark asks
    pub(crate) fn ask(&mut self) -> String {
        self.to.write_all(b"\n").expect("it listens");
        self.hear()
    }

    /// Closes its input, upon which it ends.
    pub(crate) fn end(self) {
        let Self { mut process, to, from } = self;
        drop((to, from));
        let status = process.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}
