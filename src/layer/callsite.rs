//! Attributes that spans share: those of their call site, with its prepared field keys, and those
//! of the thread that created them. They are built once for each call site and thread.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex};

use tracing::Metadata;

use super::field;
use crate::otlp::attributes::{self, Attributes, PreparedKey, ValueRef};
use crate::record::{Common, SharedAttributes};
use crate::settings::{Convention, Settings};
use crate::sync::lock_unless_orphaned;

/// The data that all spans of a call site share.
#[derive(Debug)]
pub(super) struct Callsite {
    key: CallsiteKey,
    pub(super) common: Common,
    /// Indexed by the field's position in the call site's field set; `None` unless the field is
    /// [plain](Self::plain).
    fields: Box<[Option<PreparedKey>]>,
}

impl Callsite {
    fn new(metadata: &'static Metadata<'static>, options: CallsiteOptions) -> Self {
        let names = || metadata.fields().iter().map(|field| field.name());
        let fields = names().enumerate().map(|(at, name)| {
            let is_first = names().take(at).all(|other| other != name);
            let is_plain =
                is_first && !Common::may_have(name) && field::is_plain(name, options.convention);
            is_plain.then(|| attributes::prepare(name))
        });
        let fields = fields.collect();
        let common = Common::new(metadata.name(), options.attributes(metadata));
        Self { key: options.key(metadata), common, fields }
    }

    /// The prepared key of a plain field: one that becomes an attribute unchanged. Its name is
    /// unique among the attributes of its call site and thread, and has no special meaning
    /// ([`field::is_plain`]).
    #[inline]
    pub(super) fn plain(&self, field: usize) -> Option<&PreparedKey> {
        self.fields.get(field)?.as_ref()
    }
}

/// The settings that decide what is recorded of a call site.
#[derive(Clone, Copy, Debug)]
struct CallsiteOptions {
    location: bool,
    level: bool,
    target: bool,
    convention: Convention,
}

impl CallsiteOptions {
    fn new(settings: &Settings) -> Self {
        let switches = &settings.switches;
        Self {
            location: switches.location,
            level: switches.level,
            target: switches.target,
            convention: settings.convention,
        }
    }

    /// The call site's address plus these options, as one number. It is unique, since `Metadata`
    /// values lie at least 64 bytes apart.
    #[inline]
    fn key(self, metadata: &'static Metadata<'static>) -> CallsiteKey {
        // Three switches, and up to eight conventions.
        const { assert!(size_of::<Metadata<'static>>() >= 64) }
        let bits = usize::from(self.location)
            | usize::from(self.level) << 1
            | usize::from(self.target) << 2
            | (self.convention as usize) << 3;
        std::ptr::from_ref(metadata).addr().wrapping_add(bits)
    }

    #[inline]
    fn attributes(self, metadata: &'static Metadata<'static>) -> Attributes {
        let mut attributes = Attributes::default();
        if self.location {
            if let Some(file) = metadata.file() {
                attributes.push("code.file.path", ValueRef::Str(file));
            }
            if let Some(module) = metadata.module_path() {
                attributes.push("code.module.name", ValueRef::Str(module));
            }
            if let Some(line) = metadata.line() {
                attributes.push("code.line.number", ValueRef::I64(line.into()));
            }
        }
        if self.level {
            attributes.push("level", ValueRef::Str(metadata.level().as_str()));
        }
        if self.target {
            attributes.push("target", ValueRef::Str(metadata.target()));
        }
        attributes
    }
}

type CallsiteKey = usize;

type CallsiteMap = HashMap<CallsiteKey, &'static Callsite, BuildHasherDefault<AddressHasher>>;

/// Every call site seen so far, with its options. The leaked memory is bounded: a call site is a
/// static of the program.
static CALLSITES: Mutex<Option<HashMap<CallsiteKey, &'static Callsite>>> = Mutex::new(None);

/// The number of slots in a thread's first-level cache, as a power of two.
const RECENT_BITS: u32 = 7;

thread_local! {
    /// First-level cache: the call sites that this thread used last, direct-mapped by key.
    static RECENT_CALLSITES: [Cell<Option<&'static Callsite>>; 1 << RECENT_BITS] =
        const { [const { Cell::new(None) }; 1 << RECENT_BITS] };
    /// Second-level cache: all call sites that this thread has used.
    static THREAD_CALLSITES: RefCell<CallsiteMap> = RefCell::default();
    static THREAD_ATTRIBUTES: OnceCell<Arc<SharedAttributes>> = const { OnceCell::new() };
}

/// The shared data of the call site of `metadata`.
#[inline]
pub(super) fn of(metadata: &'static Metadata<'static>, settings: &Settings) -> &'static Callsite {
    let options = CallsiteOptions::new(settings);
    let key = options.key(metadata);
    let recent = RECENT_CALLSITES.try_with(|recent| {
        let slot =
            &recent[((key as u64).wrapping_mul(MIXER) >> (u64::BITS - RECENT_BITS)) as usize];
        match slot.get() {
            Some(callsite) if callsite.key == key => callsite,
            _ => {
                let callsite = look_up(key, metadata, options);
                slot.set(Some(callsite));
                callsite
            }
        }
    });
    recent.unwrap_or_else(|_| look_up(key, metadata, options))
}

/// As [`of`], for a call site that isn't in the first-level cache.
#[cold]
fn look_up(
    key: CallsiteKey,
    metadata: &'static Metadata<'static>,
    options: CallsiteOptions,
) -> &'static Callsite {
    let found = THREAD_CALLSITES.try_with(|callsites| callsites.borrow().get(&key).copied());
    if let Ok(Some(callsite)) = found {
        return callsite;
    }
    let make = || &*Box::leak(Box::new(Callsite::new(metadata, options)));
    let callsite = match lock_unless_orphaned(&CALLSITES) {
        Some(mut callsites) => *callsites.get_or_insert_default().entry(key).or_insert_with(make),
        None => make(),
    };
    let _ = THREAD_CALLSITES.try_with(|callsites| callsites.borrow_mut().insert(key, callsite));
    callsite
}

/// Sets `attributes` to the attributes of this thread.
#[inline]
pub(super) fn set_thread_attributes(attributes: &mut Option<Arc<SharedAttributes>>) {
    // On a thread that is being torn down `attributes` stays as it is.
    let _ = THREAD_ATTRIBUTES.try_with(|thread| {
        let thread = thread.get_or_init(|| Arc::new(this_thread().into()));
        if !attributes.as_ref().is_some_and(|current| Arc::ptr_eq(current, thread)) {
            *attributes = Some(thread.clone());
        }
    });
}

fn this_thread() -> Attributes {
    let thread = std::thread::current();
    // The number is available in the `Debug` form only: `ThreadId(7)`.
    let id = format!("{:?}", thread.id());
    let digits = id.trim_matches(|c: char| !c.is_ascii_digit());
    let mut attributes = Attributes::default();
    attributes.push("thread.id", ValueRef::I64(digits.parse().unwrap_or(0)));
    if let Some(name) = thread.name() {
        attributes.push("thread.name", ValueRef::Str(name));
    }
    attributes
}

/// An odd number whose bits look random: two to the 64th by the golden ratio.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes addresses by a multiplication: they can't be chosen by an attacker.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
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
        let product = u128::from(self.0.rotate_left(5) ^ value) * u128::from(MIXER);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}
