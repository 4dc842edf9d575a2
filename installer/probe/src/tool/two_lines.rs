//! The table of `npu-smi info`: two lines for each chip.

use manifest_schema::site::ToolChip;

use super::{LINE_LIMIT, bus, cells};

pub(super) fn chips(text: &str) -> Vec<ToolChip> {
    let mut chips = Vec::new();
    let mut open: Option<(u32, String, String)> = None;
    for line in text.lines().take(LINE_LIMIT) {
        let cells = cells(line);
        let [first, second, third] = cells[..] else {
            open = None;
            continue;
        };
        let mut words = first.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse().ok()) else {
            open = None;
            continue;
        };
        let address = bus(second);
        if let Some((board, name, health)) = open.take().filter(|_| address.is_some()) {
            let memory = last_pair(third);
            chips.push(ToolChip {
                board,
                chip: number,
                name,
                health,
                bus: address,
                memory_used: memory.map(|pair| pair.0),
                memory_total: memory.map(|pair| pair.1),
            });
        } else if let Some(name) = words.next() {
            open = Some((number, name.to_owned(), second.to_owned()));
        }
    }
    chips
}

/// The last `used / total` of a cell: device memory where there is any, else main memory.
/// The blanks around the slash come and go.
fn last_pair(cell: &str) -> Option<(u64, u64)> {
    let (before, after) = cell.rsplit_once('/')?;
    let used = before.split_whitespace().next_back()?.parse().ok()?;
    let total = after.split_whitespace().next()?.parse().ok()?;
    Some((used, total))
}
