//! Lazily boxed fields that most values never set.

use std::ops::{Deref, DerefMut};

/// A boxed value that is allocated when it is first changed. Until then it reads as the static
/// [default](ColdDefault::blank).
#[derive(Debug)]
pub(crate) struct ColdBox<T>(Option<Box<T>>);

/// A type whose default value can be a static.
pub(crate) trait ColdDefault: Default + 'static {
    fn blank() -> &'static Self;
}

impl<T: ColdDefault> ColdBox<T> {
    /// Whether it was never changed.
    #[inline]
    pub(crate) fn is_blank(&self) -> bool {
        self.0.is_none()
    }

    /// Takes the value out of the box.
    pub(crate) fn into_inner(self) -> T {
        self.0.map_or_else(T::default, |value| *value)
    }

    /// Resets the value to the default. Most values were never changed.
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

impl<T> Default for ColdBox<T> {
    #[inline]
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<T> for ColdBox<T> {
    fn from(value: T) -> Self {
        Self(Some(Box::new(value)))
    }
}

impl<T: ColdDefault> Deref for ColdBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::blank(),
        }
    }
}

impl<T: ColdDefault> DerefMut for ColdBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
