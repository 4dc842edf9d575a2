//! `hy-smi`: columns apart by blanks under one line of titles, or JSON, an error line before it or not.

use manifest_schema::site::ToolChip;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::LINE_LIMIT;

pub(super) fn chips(text: &str) -> Vec<ToolChip> {
    match text.find('{') {
        Some(at) => json(&text[at..]).unwrap_or_default(),
        None => table(text),
    }
}

fn chip(board: u32, name: &str, health: &str) -> ToolChip {
    ToolChip {
        board,
        chip: 0,
        name: name.to_owned(),
        health: health.to_owned(),
        bus: None,
        memory_used: None,
        memory_total: None,
    }
}

fn table(text: &str) -> Vec<ToolChip> {
    let mut mode: Option<Option<usize>> = None;
    let mut chips = Vec::new();
    for line in text.lines().take(LINE_LIMIT) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words
            .first()
            .is_some_and(|first| matches!(*first, "DCU" | "HCU"))
        {
            mode = Some(words.iter().position(|word| *word == "Mode"));
            continue;
        }
        let Some(mode) = mode else { continue };
        let Some(Ok(board)) = words.first().map(|word| word.parse()) else {
            continue;
        };
        let state = mode
            .and_then(|at| words.get(at))
            .copied()
            .unwrap_or("Normal");
        let health = if state == "Normal" { "OK" } else { state };
        chips.push(chip(board, "DCU", health));
    }
    chips
}

fn json(text: &str) -> Option<Vec<ToolChip>> {
    // What follows the object is not ours to judge.
    let mut reader = serde_json::Deserializer::from_str(text);
    let cards = Map::<String, Value>::deserialize(&mut reader).ok()?;
    let mut chips = Vec::new();
    for (name, facts) in &cards {
        let Some(Ok(board)) = name.strip_prefix("card").map(str::parse) else {
            continue;
        };
        let fact = |key: &str| facts.get(key).and_then(Value::as_str);
        let number = |key: &str| fact(key).and_then(|text| text.parse::<f64>().ok());
        let mut chip = chip(board, fact("Card Series").unwrap_or("DCU"), "OK");
        chip.memory_total = number("vram Total Memory (MiB)").map(|mebibytes| mebibytes as u64);
        chip.memory_used = number("vram Total Used Memory (MiB)").map(|mebibytes| mebibytes as u64);
        chips.push(chip);
    }
    Some(chips)
}
