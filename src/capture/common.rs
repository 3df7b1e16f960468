//! What spans have in common: where their call site is, and the thread that made them. Put together
//! once for each call site and thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex};

use tracing::Metadata;

use crate::record::{Attributes, Common, ValueRef};
use crate::settings::Switches;

/// A call site and the switches that say what of it is told.
type Key = (usize, u8);

/// Every call site met so far. What is leaked is bounded: a call site is a static of the program.
static KNOWN: Mutex<Option<HashMap<Key, &'static Common>>> = Mutex::new(None);

thread_local! {
    /// What this thread knows of it.
    static MINE: RefCell<HashMap<Key, &'static Common, BuildHasherDefault<Mixed>>> =
        RefCell::default();
    static THREAD: Arc<Common> = Arc::new(Common::new(this_thread()));
}

/// The attributes of every span of a call site.
pub(super) fn of_callsite(
    metadata: &'static Metadata<'static>,
    switches: &Switches,
) -> Option<&'static Common> {
    let told = u8::from(switches.location)
        | u8::from(switches.level) << 1
        | u8::from(switches.target) << 2;
    if told == 0 {
        return None;
    }
    let key = (std::ptr::from_ref(metadata).addr(), told);
    let mine = MINE.try_with(|mine| {
        *mine.borrow_mut().entry(key).or_insert_with(|| known(key, metadata, switches))
    });
    Some(mine.unwrap_or_else(|_| known(key, metadata, switches)))
}

fn known(key: Key, metadata: &'static Metadata<'static>, switches: &Switches) -> &'static Common {
    let mut known = crate::sync::lock(&KNOWN);
    known
        .get_or_insert_default()
        .entry(key)
        .or_insert_with(|| Box::leak(Box::new(Common::new(callsite(metadata, switches)))))
}

/// The attributes of every span that this thread makes.
pub(super) fn of_thread() -> Option<Arc<Common>> {
    THREAD.try_with(Arc::clone).ok()
}

fn callsite(metadata: &'static Metadata<'static>, switches: &Switches) -> Attributes {
    let mut attributes = Attributes::default();
    if switches.location {
        if let Some(file) = metadata.file() {
            attributes.push("code.file.path".into(), ValueRef::Static(file));
        }
        if let Some(module) = metadata.module_path() {
            attributes.push("code.module.name".into(), ValueRef::Static(module));
        }
        if let Some(line) = metadata.line() {
            attributes.push("code.line.number".into(), ValueRef::I64(line.into()));
        }
    }
    if switches.level {
        attributes.push("level".into(), ValueRef::Static(metadata.level().as_str()));
    }
    if switches.target {
        attributes.push("target".into(), ValueRef::Static(metadata.target()));
    }
    attributes
}

fn this_thread() -> Attributes {
    let thread = std::thread::current();
    // The number is only to be had from the `Debug` form, `ThreadId(7)`.
    let id = format!("{:?}", thread.id());
    let digits = id.trim_matches(|c: char| !c.is_ascii_digit());
    let mut attributes = Attributes::default();
    attributes.push("thread.id".into(), ValueRef::I64(digits.parse().unwrap_or(0)));
    if let Some(name) = thread.name() {
        attributes.push("thread.name".into(), ValueRef::Str(name));
    }
    attributes
}

/// Hashes addresses, which no stranger chooses, by a multiplication.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        // Both ends of the product are used: the table takes its buckets from one, its tags from
        // the other.
        let product = u128::from(self.0.rotate_left(5) ^ value) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}
