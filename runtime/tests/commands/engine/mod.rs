//! The other engine: what is handed to LLaMA-Factory, how its runs are watched and ended, and what becomes of their ends.

mod ending;
mod handing;

use std::fs;

use serde_json::Value;

use crate::stand_in::Release;

fn record(release: &Release) -> Value {
    let text = fs::read(release.bench.path("out/run.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
