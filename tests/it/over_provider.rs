//! The macros and merging, on spans of an OpenTelemetry provider that the layer of `tracing-opentelemetry`
//! makes.

use crate::rig::{Provider, RigOf, build_beside as build};

type Rig = RigOf<Provider>;

#[allow(clippy::duplicate_mod)] // the same tests for each way of capture
#[path = "macros.rs"]
mod macros;
#[allow(clippy::duplicate_mod)]
#[path = "merging.rs"]
mod merging;
