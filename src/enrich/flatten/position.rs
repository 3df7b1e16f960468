//! Positions: where a value stands, and how deep attributes are kept apart.

/// Nested objects along a path, the top one not counted.
pub(super) const MOST_OBJECTS: u32 = 5;
/// Arrays along a path.
pub(super) const MOST_ARRAYS: u32 = 2;
/// Containers along a path that are read at all. `serde_json` reads as deep.
pub(super) const MOST_LEVELS: u32 = 128;
/// Options and newtypes along a path. They are no containers, but recursion all the same.
pub(super) const MOST_WRAPPERS: u32 = 512;

/// Where a literal's value stands: a static full key, and the containers around it.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub(super) key: &'static str,
    pub(super) depth: Depth,
}

impl Position {
    /// A position inside a literal. Evaluated at compile time, so that a literal which is nested too
    /// deeply, or has an empty key, doesn't compile.
    pub const fn new(key: &'static str, arrays: u32) -> Self {
        let Some(dots) = dots(key) else {
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
    /// Inside something that was refused: nothing is written.
    pub(super) muted: bool,
}

/// How many dots a key has, every one of which is an object of its own. `None` if nothing is between
/// two of them, or before the first or after the last.
pub(super) const fn dots(key: &str) -> Option<u32> {
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
