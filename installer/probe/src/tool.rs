//! What vendors' tools print.
//!
//! Columns move and change their width between releases, so lines are split at `|` and at blanks:
//!
//! ```text
//! | board  name        | health      | power  temperature      pages      |
//! | chip  [physical]   | bus         | busy   memory [/ total] [device memory / total] |
//! ```

use manifest_schema::chip::ToolLayout;
use manifest_schema::site::{ToolChip, ToolReport};

/// Reads the list of all chips.
pub(crate) fn parse_list(layout: ToolLayout, text: &str) -> ToolReport {
    let ToolLayout::TwoLineTable = layout;
    let mut report = ToolReport {
        version: title_version(text),
        ..ToolReport::default()
    };
    let mut open: Option<(u32, String, String)> = None;
    for line in text.lines().take(LINE_LIMIT) {
        let cells: Vec<&str> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        let [first, second, third] = cells[..] else {
            open = None;
            continue;
        };
        let mut words = first.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse().ok()) else {
            open = None;
            continue;
        };
        if let Some((board, name, health)) = open.take().filter(|_| is_bus(second)) {
            let memory = last_pair(third);
            report.chips.push(ToolChip {
                board,
                chip: number,
                name,
                health,
                bus: second.to_lowercase(),
                memory_used: memory.map(|pair| pair.0),
                memory_total: memory.map(|pair| pair.1),
            });
        } else if let Some(name) = words.next() {
            open = Some((number, name.to_owned(), second.to_owned()));
        }
    }
    if report.chips.is_empty() {
        report.complaint = Some(complaint(text));
    }
    report
}

/// Reads the tool's own word on driver against firmware from a board's `key : value` lines.
pub(crate) fn parse_compatibility(text: &str) -> Option<String> {
    text.lines().take(LINE_LIMIT).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "Compatibility").then(|| value.trim().to_owned())
    })
}

fn title_version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("Version:")?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn is_bus(cell: &str) -> bool {
    let mut parts = cell.split(':');
    parts.next().is_some_and(|domain| domain.len() == 4) && parts.count() == 2
}

/// The last `used / total` of a cell: device memory where there is any, else main memory.
/// The blanks around the slash come and go.
fn last_pair(cell: &str) -> Option<(u64, u64)> {
    let (before, after) = cell.rsplit_once('/')?;
    let used = before.split_whitespace().next_back()?.parse().ok()?;
    let total = after.split_whitespace().next()?.parse().ok()?;
    Some((used, total))
}

fn complaint(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !line.starts_with('+'));
    line.unwrap_or("it printed nothing")
        .chars()
        .take(200)
        .collect()
}

/// More lines than the largest machine prints.
const LINE_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Board, chip, name, bus, memory in use, memory in all.
    type Row = (u32, u32, String, String, Option<u64>, Option<u64>);

    fn rows(text: &str) -> Vec<Row> {
        parse_list(ToolLayout::TwoLineTable, text)
            .chips
            .into_iter()
            .map(|c| {
                (
                    c.board,
                    c.chip,
                    c.name,
                    c.bus,
                    c.memory_used,
                    c.memory_total,
                )
            })
            .collect()
    }

    #[test]
    fn traps_of_real_tables() {
        for (case, text, expected) in [
            (
                "no blank before the slash",
                "| 0  910B4 | OK | 88.2 30 0 / 0 |\n| 0 | 0000:C1:00.0 | 0 0 / 0 26838/ 32768 |",
                (0, 0, "910B4", "0000:c1:00.0", Some(26838), Some(32768)),
            ),
            (
                "a physical number, and no power on the second die",
                "| 3 Ascend910 | OK | - 34 0 / 0 |\n| 1 7 | 0000:9F:00.0 | 0 0 / 0 2885 / 65536 |",
                (3, 1, "Ascend910", "0000:9f:00.0", Some(2885), Some(65536)),
            ),
            (
                "no device memory, a large number",
                "| 32896 310P3 | OK | NA 45 0 / 0 |\n| 0 0 | 0000:01:00.0 | 0 1529 / 44280 |",
                (32896, 0, "310P3", "0000:01:00.0", Some(1529), Some(44280)),
            ),
        ] {
            let (board, chip, name, bus, used, total) = expected;
            let expected = vec![(board, chip, name.to_owned(), bus.to_owned(), used, total)];
            assert_eq!(rows(text), expected, "{case}");
        }
    }

    #[test]
    fn processes_and_headings_are_no_chips() {
        let text = "| NPU Name | Health | Power |\n| Chip | Bus-Id | AICore |\n\
                    | 0 0 | 4711 | python | 512 |\n| No running processes found in NPU 0 |";
        assert_eq!(rows(text), []);
    }

    #[test]
    fn a_tool_that_lists_nothing_says_why() {
        let report = parse_list(
            ToolLayout::TwoLineTable,
            "log level failed\ndcmi model initialized failed, because the device is used. ret is -8020\n",
        );
        assert_eq!(
            report.complaint.as_deref(),
            Some("dcmi model initialized failed, because the device is used. ret is -8020")
        );
    }

    #[test]
    fn the_board_page_tells_compatibility() {
        let text = "\tSoftware Version : 25.0.rc1\n\tCompatibility    : OK\n";
        assert_eq!(parse_compatibility(text).as_deref(), Some("OK"));
        assert_eq!(parse_compatibility("nothing here"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[|0-9A-Fa-f:./ +\\n-]{0,400}") {
            parse_list(ToolLayout::TwoLineTable, &text);
        }
    }
}
