//! What the types of the API promise: checked by the compiler, so a broken promise fails the build.

use tracing_feedback::{BuildError, Session};

/// Compiles only if the type doesn't implement the trait: if it does, two implementations of `Check` fit.
macro_rules! assert_not_impl {
    ($type:ty: $($absent:tt)+) => {{
        trait Check<Fits> {
            fn check() {}
        }
        impl<T: ?Sized> Check<()> for T {}
        struct Implemented;
        impl<T: ?Sized + $($absent)+> Check<Implemented> for T {}
        <$type as Check<_>>::check();
    }};
}

#[test]
fn errors_of_others_do_not_turn_into_ours_by_a_question_mark() {
    assert_not_impl!(BuildError: From<std::io::Error>);
}

#[test]
fn a_session_is_never_begun_by_default() {
    // `#[derive(Default)]` on a service's own type would begin one unasked.
    assert_not_impl!(Session: Default);
    assert_ne!(Session::new(), Session::new());
}
