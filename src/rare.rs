//! What few of many have.

use std::ops::{Deref, DerefMut};

/// A value that takes no memory of its own before it is changed, and until then is
/// [blank](Blank::blank).
#[derive(Debug)]
pub(crate) struct Rare<T>(Option<Box<T>>);

/// What has a value that says nothing.
pub(crate) trait Blank: Default + 'static {
    fn blank() -> &'static Self;
}

impl<T: Blank> Rare<T> {
    /// Whether it was never changed.
    #[inline]
    pub(crate) fn is_blank(&self) -> bool {
        self.0.is_none()
    }

    /// The value, out of the box.
    pub(crate) fn into_inner(self) -> T {
        self.0.map_or_else(T::default, |value| *value)
    }

    /// Makes it blank. Most are.
    #[inline(always)] // twice a span
    pub(crate) fn clear(&mut self) {
        if self.0.is_some() {
            self.reset();
        }
    }

    #[cold]
    fn reset(&mut self) {
        self.0 = None;
    }
}

impl<T> Default for Rare<T> {
    #[inline]
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self(Some(Box::new(value)))
    }
}

impl<T: Blank> Deref for Rare<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::blank(),
        }
    }
}

impl<T: Blank> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
