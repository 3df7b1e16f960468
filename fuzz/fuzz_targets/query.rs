//! Any query string of the desk's API, read in every way it can be read. What is a filter reads itself
//! again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| tracing_feedback::desk::__read_query(query));
