//! Tables in the manner of `nvidia-smi`: number, name and bus in one line, memory in it or in the next.

use manifest_schema::site::ToolChip;

use super::{LINE_LIMIT, bus, cells};

pub(super) fn chips(text: &str) -> Vec<ToolChip> {
    let mut chips: Vec<ToolChip> = Vec::new();
    let mut open = false;
    for line in text.lines().take(LINE_LIMIT) {
        let cells = cells(line);
        if let Some(chip) = first_line(&cells) {
            open = chip.memory_total.is_none();
            chips.push(chip);
            continue;
        }
        // Only the first line with memory is the device's: a cache may follow.
        if let (true, Some(chip)) = (open, chips.last_mut()) {
            let memory = cells.iter().find_map(|cell| pair(cell));
            if let Some((used, total)) = memory {
                chip.memory_used = Some(used);
                chip.memory_total = Some(total);
                open = false;
                // A tool with a column for the state prints it alone, below the share of use.
                let state = cells.last().filter(|cell| !cell.contains(['%', '/']));
                if let Some(state) = state.filter(|cell| cell.split_whitespace().count() == 1)
                    && !GOOD.contains(state)
                {
                    chip.health.clear();
                    chip.health.push_str(state);
                }
            }
        }
    }
    chips
}

fn first_line(cells: &[&str]) -> Option<ToolChip> {
    let mut words = cells.first()?.split_whitespace();
    let board = words.next()?.parse().ok()?;
    let rest = &cells[1..];
    let at = rest.iter().position(|cell| bus(cell).is_some())?;
    let address = bus(rest[at])?;
    // A firmware's version, marks and switches stand in the same cell as the name.
    let mut name: Vec<&str> = words
        .filter(|word| !matches!(*word, "/" | "N/A" | "On" | "Off") && !is_version(word))
        .collect();
    if name.is_empty() {
        name.extend(rest.get(at + 1));
    }
    let memory = rest.iter().find_map(|cell| pair(cell));
    Some(ToolChip {
        board,
        chip: 0,
        name: name.join(" "),
        health: "OK".to_owned(),
        bus: Some(address),
        memory_used: memory.map(|pair| pair.0),
        memory_total: memory.map(|pair| pair.1),
    })
}

fn is_version(word: &str) -> bool {
    word.strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `1MiB / 2MiB`, `1 MiB/ 2 MiB`, `1/2 MiB`, `1MiB(2MiB)`.
fn pair(cell: &str) -> Option<(u64, u64)> {
    if !cell.contains("MiB") {
        return None;
    }
    let plain: String = cell.replace("MiB", " ").replace(['/', '(', ')'], " ");
    let numbers: Vec<u64> = plain
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [.., used, total] => Some((used, total)),
        _ => None,
    }
}

/// States in which a device works.
const GOOD: [&str; 3] = ["Available", "Default", "N/A"];
