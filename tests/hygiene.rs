//! The macros lean on nothing of the caller's: a crate of its own, because it has no prelude, and
//! shadows the names that the expansion uses.
#![no_implicit_prelude]
#![allow(dead_code, non_snake_case, unused_macros)]

use ::tracing_feedback::{enrich_session, enrich_span};

/// Names of the prelude and of the standard library.
mod core {}
mod std {}
mod alloc {}
mod tracing_feedback {}
mod serde {}
struct Result;
struct Option;
struct String;
struct Vec;
struct Position;
struct Begin;
fn Ok() {}
fn Err() {}
fn Some() {}
trait Into {}

/// Names of the expansion.
fn begun() {}
fn writer() {}
fn refused() {}
fn open() {}
fn entered() {}
fn index() {}
macro_rules! concat {
    ($($tokens:tt)*) => {
        ::core::compile_error!("not this one")
    };
}
macro_rules! stringify {
    ($($tokens:tt)*) => {
        ::core::compile_error!("nor this one")
    };
}
macro_rules! __enrich {
    ($($tokens:tt)*) => {
        ::core::compile_error!("nor this one")
    };
}

/// Methods that would be found first.
trait Shadow {
    fn begin(&self) {}
    fn finish(&self) {}
    fn value(&self) {}
    fn null(&self) {}
    fn here(&self) {}
    fn leave(&self) {}
    fn end(&self) {}
    fn enter_key(&self) {}
    fn enter_index(&self) {}
    fn open_object(&self) {}
    fn resume_array(&self) {}
    fn begin_object(&self) {}
    fn begin_array(&self) {}
    fn id(&self) {}
    fn session_id(&self) {}
    fn outcome(&self) {}
}
impl<T> Shadow for T {}

#[::core::prelude::v1::test]
fn the_macros_need_nothing_in_scope() {
    let index = 1_u8;
    let writer = "writer";
    let open = [1_u8, 2];
    let begun = "key";
    let outcome = enrich_span!(
        feedback = {
            "a": index,
            "b": [writer, { "c": open }, null, [1, 2]],
            "d": null,
            begun: { (writer): [open, null] },
        },
        metrics = null,
        metadata = open,
    );
    ::core::assert!(!outcome.is_ok());
    let outcome = enrich_session!(session_id = "s", id = "x", feedback = { "a": index });
    ::core::assert!(!outcome.is_ok());
}
