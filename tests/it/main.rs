//! What users of the crate can rely on, a module per behaviour. Everything is asserted from what a
//! real OTLP receiver got.

mod api;
mod around;
mod bad_input;
mod connections;
mod delivery;
mod desk;
mod differential;
mod events;
#[cfg(unix)]
mod fork;
mod golden;
mod keep;
mod layer;
mod log_receiver;
mod metrics;
mod otel;
mod other_layer;
mod outbox;
mod outbox_crash;
#[cfg(unix)]
mod outbox_directory;
mod over_layer;
mod over_provider;
mod payloads;
mod pipeline;
mod rig;
mod rooms;
mod rules;
mod sessions;
mod show;
mod span_processors;
mod thread_exit;
mod ticket_budget;
mod tickets;
mod too_large;
mod user_code;
mod web;

use rig::{Rig, build};
