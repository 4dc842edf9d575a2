//! What the three programs say: events while they work, errors when they cannot.
//!
//! Words only. Nothing here prints, prompts or knows a language: a front end looks up an error's
//! [`Diagnose::code`] and its arguments in the catalogues of the console.

mod diagnose;
mod event;
mod relay;

pub use diagnose::{Args, Diagnose, Outcome, Trouble};
pub use event::{Event, Recorder, Silent, Sink, Step};
pub use relay::relayed;
