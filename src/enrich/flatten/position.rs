//! Positions: the key of a value, and how deep its attributes may nest.

/// Nested objects along a path, the top one not counted.
pub(super) const MOST_OBJECTS: u32 = 5;
/// Arrays along a path.
pub(super) const MOST_ARRAYS: u32 = 2;
/// Containers along a path, beyond which a value is not read. `serde_json` has the same limit.
pub(super) const MOST_LEVELS: u32 = 128;
/// Options and newtypes along a path. They are not containers, but each is a level of recursion.
pub(super) const MOST_WRAPPERS: u32 = 512;

/// The position of a value in a literal: its static full key, and the containers around it.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub(super) key: &'static str,
    pub(super) depth: Depth,
}

impl Position {
    /// A position inside a literal. Evaluated at compile time, so that a literal which is nested too
    /// deeply, or has an empty key, doesn't compile.
    pub const fn new(key: &'static str, arrays: u32) -> Self {
        let Some(dots) = count_dots(key) else {
            panic!("a key is a path: no part between its dots may be empty")
        };
        let objects = dots.saturating_sub(1 + arrays);
        assert!(objects <= MOST_OBJECTS, "at most 5 nested objects: flatten the literal");
        assert!(arrays <= MOST_ARRAYS, "at most 2 arrays along a path: flatten the literal");
        let level = if dots == 0 { 0 } else { 1 + objects + arrays };
        Self { key, depth: Depth { level, objects, arrays, wrappers: 0, muted: false } }
    }

    /// The position of a nested object of a literal.
    pub const fn object(key: &'static str, arrays: u32) -> Self {
        let at = Self::new(key, arrays);
        let is_nested = at.depth.level > 0;
        assert!(
            !is_nested || at.depth.objects < MOST_OBJECTS,
            "at most 5 nested objects: flatten the literal"
        );
        at
    }

    /// The position of an array of a literal.
    pub const fn array(key: &'static str, arrays: u32) -> Self {
        assert!(arrays < MOST_ARRAYS, "at most 2 arrays along a path: flatten the literal");
        Self::new(key, arrays)
    }
}

/// The containers around the current value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Depth {
    /// Containers of every kind.
    pub(super) level: u32,
    /// Nested objects, the top one not counted.
    pub(super) objects: u32,
    pub(super) arrays: u32,
    /// Options and newtypes.
    pub(super) wrappers: u32,
    /// Whether the value is part of a refused one, of which nothing is written.
    pub(super) muted: bool,
}

/// The number of dots in a key, each of which separates an object from its entry. `None` if a part before,
/// between or after them is empty.
pub(super) const fn count_dots(key: &str) -> Option<u32> {
    let bytes = key.as_bytes();
    let mut dots = 0;
    let mut is_empty = true;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'.' {
            is_empty = false;
        } else if is_empty {
            return None;
        } else {
            dots += 1;
            is_empty = true;
        }
        at += 1;
    }
    if is_empty { None } else { Some(dots) }
}
