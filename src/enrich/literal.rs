//! Literals among the values of a literal.

use std::ffi::CStr;

use serde::Serialize;

use super::flatten::Position;
use super::writer::Writer;

/// A value that the program's text spells out. A string among them needs no copy.
pub trait Literal {
    /// Flattens the value at `position`.
    fn write(self, position: &Position, writer: &mut Writer);
}

impl Writer {
    /// A value of a literal that is a literal itself.
    pub fn literal(&mut self, position: &Position, value: impl Literal) {
        value.write(position, self);
    }
}

impl Literal for &'static str {
    fn write(self, position: &Position, writer: &mut Writer) {
        writer.text(position, self);
    }
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

serialized!(bool, char, f32, f64, &'static CStr);
serialized!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

impl<const N: usize> Literal for &'static [u8; N]
where
    [u8; N]: Serialize,
{
    fn write(self, position: &Position, writer: &mut Writer) {
        writer.value(position, self);
    }
}
