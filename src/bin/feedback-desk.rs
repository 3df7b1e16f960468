//! `feedback-desk`: see the feedback, beside what it is about, and chart any field of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracing_feedback::desk::run(std::env::args_os())
}
