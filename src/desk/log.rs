//! What the desk says while it runs: lines on stderr.

use std::io::{self, Write};

/// Writes a line to stderr. An error of that write is ignored, since stderr is the only log: it may be redirected to
/// a disk that is full, or to a pipe that was closed. (`eprintln!` would panic.)
pub(super) fn log_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
