//! The compiler's message for each mistake a user can make.

#[test]
fn mistakes_are_named_by_the_compiler() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
