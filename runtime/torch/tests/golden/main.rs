//! Numbers that LLaMA-Factory computed, computed again: losses, gradient norms, final weights, logits, greedy text.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

mod adapters;
mod answers;
mod methods;
mod numbers;
mod replay;
