//! Any attributes and events of a span, read as what a model was asked and answered: within the limits, and the same
//! as the answer of its trace.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| tracing_feedback::desk::__read_answer(lines));
