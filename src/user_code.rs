//! Calls of a service's own functions: the redaction, the sampler, the id generator, span processors.
//!
//! A panic ends there, also where the thread unwinds already: it would abort the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The function panicked.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Calls `function`, and catches its panic.
pub(crate) fn call<T>(function: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(function)).map_err(|payload| {
        // What was given to the panic may panic when it is dropped.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Panicked
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsAgain;

    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn a_panic_ends_here_whatever_it_was_given() {
        assert!(matches!(call(|| 1), Ok(1)));
        assert!(call(|| std::panic::panic_any("on purpose")).is_err());
        assert!(call(|| std::panic::panic_any(PanicsAgain)).is_err());
    }
}
