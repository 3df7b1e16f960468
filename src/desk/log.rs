//! What the desk says while it runs: lines on stderr.

use std::io::{self, Write};

/// Writes a line to stderr. That it can't be written is ignored, since there is nobody left to tell: the
/// log may lie on a disk that is full, or its reader may be gone. (`eprintln!` would panic.)
pub(super) fn log_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
