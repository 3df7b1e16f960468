//! The macros and merging, on spans that the layer of this crate captures.

use crate::rig::{Rig, build};

#[allow(clippy::duplicate_mod)] // the same tests for each way of capture
#[path = "macros.rs"]
mod macros;
#[allow(clippy::duplicate_mod)]
#[path = "merging.rs"]
mod merging;
