//! Any body of an OTLP request, of spans or of log records: the feedback in it, in whichever form, is read without a
//! panic, is valid, and takes no more room than the request.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| tracing_feedback::collector::__read_feedback(body));
