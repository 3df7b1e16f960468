//! Rust literals as values in an object literal of the macros.

use std::ffi::CStr;

use serde::Serialize;

use super::flatten::{Position, Scalar};
use super::writer::Writer;

/// A Rust literal. A string literal is static, so it is not copied.
pub trait Literal {
    /// Flattens the value at `position`.
    fn write(self, position: &Position, writer: &mut Writer);
}

impl Writer {
    /// Flattens a Rust literal in an object literal.
    pub fn literal(&mut self, position: &Position, value: impl Literal) {
        value.write(position, self);
    }
}

impl Literal for &'static str {
    fn write(self, position: &Position, writer: &mut Writer) {
        writer.scalar(position, Scalar::Static(self));
    }
}

/// The types of most literals, which are scalars as they are.
macro_rules! scalars {
    ($($variant:ident: $($literal:ty)|+,)*) => {$($(
        impl Literal for $literal {
            fn write(self, position: &Position, writer: &mut Writer) {
                writer.scalar(position, Scalar::$variant(self.into()));
            }
        }
    )+)*};
}

scalars! {
    Bool: bool,
    Int: i8 | i16 | i32 | i64 | u8 | u16 | u32,
    Float: f32 | f64,
}

macro_rules! serialized {
    ($($literal:ty),*) => {$(
        impl Literal for $literal {
            fn write(self, position: &Position, writer: &mut Writer) {
                writer.value(position, &self);
            }
        }
    )*};
}

serialized!(char, &'static CStr, i128, isize, u64, u128, usize);

impl<const N: usize> Literal for &'static [u8; N]
where
    [u8; N]: Serialize,
{
    fn write(self, position: &Position, writer: &mut Writer) {
        writer.value(position, self);
    }
}
