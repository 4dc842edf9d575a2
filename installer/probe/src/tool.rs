//! What vendors' tools print.
//!
//! Columns move and change their width between releases, so lines are split at `|` and at blanks:
//!
//! ```text
//! two-line table   | board  name        | health      | power  temperature      pages      |
//!                  | chip  [physical]   | bus         | busy   memory [/ total] [device memory / total] |
//! smi table        | number  name …     | bus …       | …                                  |
//!                  | fan temp power     | used / total MiB   | …  [state]                  |
//! columns          DCU  Temp  AvgPwr  …      (one line of titles, one line a chip; or JSON)
//! ```

use manifest_schema::chip::ToolLayout;
use manifest_schema::site::ToolReport;

mod columns;
mod smi_table;
mod two_lines;

/// Reads the list of all chips.
pub(crate) fn parse_list(layout: ToolLayout, text: &str) -> ToolReport {
    let chips = match layout {
        ToolLayout::TwoLineTable => two_lines::chips(text),
        ToolLayout::SmiTable => smi_table::chips(text),
        ToolLayout::Columns => columns::chips(text),
    };
    let complaint = chips.is_empty().then(|| complaint(text));
    ToolReport {
        version: match layout {
            ToolLayout::TwoLineTable => word_after(text, "Version:"),
            _ => None,
        },
        driver: match layout {
            ToolLayout::TwoLineTable => None,
            _ => driver(text),
        },
        chips,
        compatibility: None,
        complaint,
    }
}

/// `Driver Version: 5.0`, `Driver Version:5.1.0-server`, `Driver Ver: 1.4.4`, `Driver v5.10.22`.
fn driver(text: &str) -> Option<String> {
    let head = |line: &&str| line.contains("Driver");
    let line = text.lines().take(LINE_LIMIT).find(head)?;
    let marks = ["Driver Version:", "Driver Ver:", "Driver "];
    let word = marks.iter().find_map(|mark| word_after(line, mark))?;
    let version = word.trim_start_matches('v');
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| version.to_owned())
}

/// Reads the tool's own word on driver against firmware from a board's `key : value` lines.
pub(crate) fn parse_compatibility(text: &str) -> Option<String> {
    text.lines().take(LINE_LIMIT).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "Compatibility").then(|| value.trim().to_owned())
    })
}

fn word_after(text: &str, mark: &str) -> Option<String> {
    let (_, rest) = text.split_once(mark)?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// The PCI address in a cell, in the form that the kernel gives it: `0000:c1:00.0`. Some tools write the domain
/// with eight digits, some with two.
fn bus(cell: &str) -> Option<String> {
    let word = cell.split_whitespace().next()?.to_lowercase();
    let (domain, rest) = word.split_once(':')?;
    let (bus, function) = rest.split_once(':')?;
    let (device, function) = function.split_once('.')?;
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let right = [domain, bus, device, function].iter().all(|part| hex(part));
    let extra = domain.len().saturating_sub(4);
    (right && domain[..extra].bytes().all(|b| b == b'0'))
        .then(|| format!("{:0>4}:{bus}:{device}.{function}", &domain[extra..]))
}

/// Cells of a table's line, without the frame.
fn cells(line: &str) -> Vec<&str> {
    let inside = line.trim();
    let inside = inside.strip_prefix('|').unwrap_or(inside);
    let inside = inside.strip_suffix('|').unwrap_or(inside);
    inside.split('|').map(str::trim).collect()
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
        rows_of(ToolLayout::TwoLineTable, text)
    }

    fn rows_of(layout: ToolLayout, text: &str) -> Vec<Row> {
        parse_list(layout, text)
            .chips
            .into_iter()
            .map(|c| {
                (
                    c.board,
                    c.chip,
                    c.name,
                    c.bus.unwrap_or_default(),
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
    fn tables_in_the_manner_of_nvidia_smi() {
        for (case, text, driver, expected) in [
            (
                "cnmon",
                "| CNMON v5.10.13                       Driver v5.10.13 |\n\
                 | Card  VF  Name       Firmware |               Bus-Id | Util        Ecc-Error |\n\
                 | 0     /   MLU370-X8    v1.1.6 |         0000:39:00.0 | 0%                N/A |\n\
                 |  0%   32C        106 W/ 250 W |     7 MiB/ 23374 MiB | N/A           Default |\n",
                Some("5.10.13"),
                (0, "MLU370-X8", "0000:39:00.0", Some(7), Some(23374)),
            ),
            (
                "ixsmi",
                "|  IX-ML: 4.1.0       Driver Version: 4.1.0       CUDA Version: 10.2 |\n\
                 | 1    Iluvatar BI-V150  | 00000000:16:00.0     | 1500MHz   1600MHz |\n\
                 | 0%   30C   P0    93W / 350W | 116MiB / 32768MiB | 0%   Default |\n",
                Some("4.1.0"),
                (
                    1,
                    "Iluvatar BI-V150",
                    "0000:16:00.0",
                    Some(116),
                    Some(32768),
                ),
            ),
            (
                "xpu-smi, with a third line",
                "| XPU-SMI  Driver Version: 5.0.21.26    XPU-RT Version: 5.0.21   |\n\
                 |   0  P800 OAM           N/A   | 00000000:03:00.0 N/A |          0 |\n\
                 | N/A   37C  N/A     85W / 400W |  3MiB / 98304MiB |  0%  Default |\n\
                 |                               |  0MiB /    96MiB |     Disabled |\n",
                Some("5.0.21.26"),
                (0, "P800 OAM", "0000:03:00.0", Some(3), Some(98304)),
            ),
            (
                "mx-smi, with the unit once and a state",
                "| MX-SMI 2.2.4        Kernel Mode Driver Version: 2.15.9 |\n\
                 | 0           MetaX C550     | 0000:0f:00.0        | 0%      |\n\
                 | 29C         53W / 450W     | 858/65536 MiB       | Available |\n",
                Some("2.15.9"),
                (0, "MetaX C550", "0000:0f:00.0", Some(858), Some(65536)),
            ),
            (
                "mthreads-gmi, with memory in the first line",
                "    mthreads-gmi:2.4.1           Driver Version:5.1.0-server\n\
                 0    MTT S5000            |00000000:18:00.0    |0%    5MiB(81920MiB)\n\
                 \x20    Physical      P0     |16x(16x)            |48C   YES\n",
                Some("5.1.0-server"),
                (0, "MTT S5000", "0000:18:00.0", Some(5), Some(81920)),
            ),
            (
                "xpu_smi of older boards, a column for each thing and memory in another unit",
                "Runtime Version: 4.31\nDriver Version: 4.0\n  DEVICES\n\
                 | DevID |   PCI Addr   | Model |   SN   |    INODE   | UseRate |    L3     |    Memory    |\n\
                 |     0 | 0000:53:00.0 | R300  | 02Kxxx | /dev/xpu0  |     0 % | 0 / 63 MB | 0 / 32768 MB |\n\
                 | DevID | Model |         DEC         |         ENC         |\n\
                 |     0 | R300 | 0 %, 0 fps, 800 MHz | 0 %, 0 fps, 800 MHz |\n",
                Some("4.0"),
                (0, "R300", "0000:53:00.0", None, None),
            ),
            (
                "efsmi, with the firmware between name and bus, and a short domain",
                "| EFSMI    1.4.0.505       Driver Ver: 1.4.4.501                             |\n\
                 | DEV    NAME                 | FW VER           | BUS-ID      ECC           |\n\
                 | TEMP   Dpm   Pwr(Usage/Cap) | Mem     GCU Virt | DUsed       SN            |\n\
                 | 0      Enflame S60          | 33.6.5           | 00:3d:00.0  Enable        |\n\
                 | 35     LP1      68W / 300W  | 49120MiB Disable | 0%          A0            |\n",
                Some("1.4.4.501"),
                (0, "Enflame S60", "0000:3d:00.0", None, None),
            ),
            (
                "nvidia-smi",
                "| NVIDIA-SMI 550.127.05   Driver Version: 550.127.05   CUDA Version: 12.4 |\n\
                 |   0  Tesla T4               On  |   00000000:4F:00.0 Off |       0 |\n\
                 | 30%   28C    P8   24W /  70W |       1MiB /  15360MiB |      0%      Default |\n",
                Some("550.127.05"),
                (0, "Tesla T4", "0000:4f:00.0", Some(1), Some(15360)),
            ),
        ] {
            let report = parse_list(ToolLayout::SmiTable, text);
            assert_eq!(report.driver.as_deref(), driver, "{case}");
            let (board, name, bus, used, total) = expected;
            let expected = vec![(board, 0, name.to_owned(), bus.to_owned(), used, total)];
            assert_eq!(rows_of(ToolLayout::SmiTable, text), expected, "{case}");
        }
    }

    #[test]
    fn a_state_that_a_tool_prints_is_the_health() {
        let text = |state: &str| {
            format!("| 0 MetaX C500 | 0000:0f:00.0 | 0% |\n| 29C | 8/65536 MiB | {state} |\n")
        };
        for (state, health) in [
            ("Available", "OK"),
            ("Unavailable", "Unavailable"),
            ("0% Default", "OK"),
        ] {
            let report = parse_list(ToolLayout::SmiTable, &text(state));
            assert_eq!(report.chips[0].health, health, "{state}");
        }
    }

    #[test]
    fn columns_and_the_same_as_json() {
        let eight = "==== System Management Interface ====\n\
            DCU     Temp     AvgPwr     Perf     PwrCap     VRAM%      DCU%      Mode\n\
            0       42.0C    39.0W      auto     280.0W     0%         0%        Normal\n\
            1       41.0C    39.0W      auto     280.0W     0%         0%        Fault\n==== End ====\n";
        let old =
            "DCU Temp AvgPwr Fan Perf PwrCap VRAM% DCU%\n0 50.0c 55.0W 0.0% auto 450.0W 0% 0%\n";
        let new = "HCU  Temp  AvgPwr  Perf  PwrCap  VRAM%  HCU%  Dec%  Enc%  Mode\n\
            0  38.0C  77.0W  auto  400.0W  0%  0%  0%  0%  Normal\n";
        let health = |text: &str| -> Vec<(u32, String)> {
            let report = parse_list(ToolLayout::Columns, text);
            report
                .chips
                .into_iter()
                .map(|chip| (chip.board, chip.health))
                .collect()
        };
        assert_eq!(
            health(eight),
            [(0, "OK".to_owned()), (1, "Fault".to_owned())]
        );
        assert_eq!(health(old), [(0, "OK".to_owned())]);
        assert_eq!(health(new), [(0, "OK".to_owned())]);
        let json = "ERROR: one card does not answer\n{\"card1\": {\"Card Series\": \"K100_AI\", \
            \"vram Total Memory (MiB)\": \"65520\", \"vram Total Used Memory (MiB)\": \"2\"}, \
            \"system\": {\"Driver version\": \"6.3.31\"}}";
        let expected = (
            1,
            0,
            "K100_AI".to_owned(),
            String::new(),
            Some(2),
            Some(65520),
        );
        assert_eq!(rows_of(ToolLayout::Columns, json), [expected]);
        let nothing = parse_list(ToolLayout::Columns, "hy-smi: cannot open /dev/kfd\n");
        assert_eq!(
            nothing.complaint.as_deref(),
            Some("hy-smi: cannot open /dev/kfd")
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
        fn no_text_makes_it_panic(text in "[|0-9A-Fa-fDCUMi:./ +{}\"()%\\n-]{0,400}") {
            for layout in [ToolLayout::TwoLineTable, ToolLayout::SmiTable, ToolLayout::Columns] {
                parse_list(layout, &text);
            }
        }
    }
}
