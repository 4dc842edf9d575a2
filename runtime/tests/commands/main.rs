//! The real program in a throw-away folder: what it says, in both languages, and what it leaves.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

#[cfg(feature = "native")]
mod api;
mod bench;
#[cfg(feature = "native")]
mod bridges;
#[cfg(feature = "native")]
mod chat;
mod check;
mod data;
#[cfg(feature = "native")]
mod device_answers;
#[cfg(feature = "native")]
mod device_memory;
#[cfg(feature = "native")]
mod devices;
mod engine;
#[cfg(feature = "native")]
mod eval;
#[cfg(feature = "native")]
mod export;
#[cfg(feature = "native")]
mod malformed;
#[cfg(feature = "native")]
mod memory;
#[cfg(feature = "native")]
mod predict;
mod preview;
#[cfg(feature = "native")]
mod processes;
mod refusals;
#[cfg(feature = "native")]
mod rounding;
#[cfg(feature = "native")]
mod shared_training;
mod stand_in;
#[cfg(feature = "native")]
mod training;
#[cfg(feature = "native")]
mod watching;
#[cfg(feature = "native")]
mod web;
