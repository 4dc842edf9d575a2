//! Records a machine as a folder that [`RecordedHost`](crate::RecordedHost) reads back.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use manifest_schema::site::Site;

use crate::host::{Host, below, command_file};
use crate::packages::installed_packages;
use crate::probe::probe;
use crate::surroundings::listening_port;

/// Probes a machine and writes every answer that the probe got below `folder`. Serial numbers are
/// blotted out; nothing that the probe does not read is written.
pub fn record(host: &dyn Host, folder: &Path) -> io::Result<Site> {
    let tape = Tape {
        host,
        folder: folder.to_owned(),
        failure: RefCell::new(None),
        there: RefCell::default(),
    };
    let site = probe(&tape);
    // What a preflight asks beside the facts.
    let _ = installed_packages(&tape);
    match tape.failure.into_inner() {
        Some(error) => Err(error),
        None => Ok(site),
    }
}

/// Passes questions on, and keeps the answers.
struct Tape<'a> {
    host: &'a dyn Host,
    folder: PathBuf,
    failure: RefCell<Option<io::Error>>,
    there: RefCell<BTreeSet<String>>,
}

impl Tape<'_> {
    fn keep(&self, path: io::Result<PathBuf>, text: &str) {
        let written = path.and_then(|path| {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, text)
        });
        if let Err(error) = written {
            self.failure.borrow_mut().get_or_insert(error);
        }
    }
}

impl Host for Tape<'_> {
    fn read(&self, path: &str) -> io::Result<String> {
        let text = self.host.read(path)?;
        let text = if path.starts_with("/proc/net/") {
            without_peers(&text)
        } else {
            text
        };
        self.keep(below(&self.folder, path), &text);
        Ok(text)
    }

    fn run(&self, program: &str, args: &[&str], libraries: &[String]) -> io::Result<String> {
        let text = self.host.run(program, args, libraries)?;
        let text = without_serials(&text);
        self.keep(
            Ok(self.folder.join("cmd").join(command_file(program, args))),
            &text,
        );
        Ok(text)
    }

    fn foresee(&self, programs: &[(&str, &[&str])]) {
        self.host.foresee(programs);
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let names = self.host.list(path)?;
        if path == "/dev" {
            self.keep(Ok(self.folder.join("dev.txt")), &(names.join("\n") + "\n"));
        }
        Ok(names)
    }

    fn exists(&self, path: &str) -> bool {
        let there = self.host.exists(path);
        if there {
            let mut noted = self.there.borrow_mut();
            noted.insert(path.to_owned());
            let mut lines = noted
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("\n");
            lines.push('\n');
            self.keep(Ok(self.folder.join("there.txt")), &lines);
        }
        there
    }
}

/// Who talks to whom is nobody's business: only the ports that somebody listens on stay.
fn without_peers(text: &str) -> String {
    let ports = text.lines().filter_map(listening_port);
    let line = |(number, port): (usize, u16)| {
        format!("{number:4}: 00000000:{port:04X} 00000000:0000 0A\n")
    };
    ports.enumerate().map(line).collect()
}

/// Blots serial numbers out: in lines that name them, and in the column of a table that is headed `SN`.
fn without_serials(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    // Cells of a line, and which of them ends with the number.
    let mut column = None;
    for line in text.split_inclusive('\n') {
        let cells: Vec<&str> = line.split('|').collect();
        let heads = |cell: &&str| cell.split_whitespace().last() == Some("SN");
        if let Some(at) = cells.iter().position(heads) {
            column = Some((cells.len(), at));
        } else if let Some((_, at)) = column.filter(|(count, _)| *count == cells.len()) {
            let blotted = cells[at]
                .split_whitespace()
                .last()
                .filter(|word| is_serial(word));
            if let Some(word) = blotted {
                let cell = cells[at].replace(word, "-");
                let line = [&cells[..at], &[cell.as_str()], &cells[at + 1..]].concat();
                kept.push_str(&line.join("|"));
                continue;
            }
        }
        match line.split_once(':') {
            Some((key, _)) if key.trim().eq_ignore_ascii_case("serial number") => {
                kept.push_str(key);
                kept.push_str(": -\n");
            }
            _ => kept.push_str(line),
        }
    }
    kept
}

/// Letters and digits, more than a share or a state has.
fn is_serial(word: &str) -> bool {
    word.len() >= 5
        && word.bytes().all(|b| b.is_ascii_alphanumeric())
        && word.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{RealHost, RecordedHost};

    #[test]
    fn a_recording_of_this_machine_probes_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let site = record(&RealHost::default(), folder.path()).unwrap();
        let again = probe(&RecordedHost {
            root: folder.path().to_owned(),
        });
        assert_eq!(site, again);
        assert!(site.kernel.is_some() && site.memory.is_some(), "{site:?}");
    }

    #[test]
    fn connections_are_not_kept() {
        let text = "  sl  local_address rem_address   st\n\
            0: 0A00020F:1EDC 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n\
            1: 0A00020F:0016 0A000202:C1A2 01 00000000:00000000 00:00000000 00000000 0\n";
        assert_eq!(
            without_peers(text),
            "   0: 00000000:1EDC 00000000:0000 0A\n"
        );
    }

    #[test]
    fn serial_numbers_are_not_kept() {
        let text = "\tModel : NA\n\tSerial Number : 2102312PXY\n\tBoard ID : 0x67\n";
        assert_eq!(
            without_serials(text),
            "\tModel : NA\n\tSerial Number : -\n\tBoard ID : 0x67\n"
        );
        for (table, expected) in [
            (
                "| TEMP   Lpm | Mem      GCU Virt | DUsed       SN            |\n\
                 | 0      S60 | 33.6.5            | 00:2d:00.0  Enable        |\n\
                 | 35     LP1 | 49120MiB Disable  | 0%          A098Q50610048 |\n",
                "| TEMP   Lpm | Mem      GCU Virt | DUsed       SN            |\n\
                 | 0      S60 | 33.6.5            | 00:2d:00.0  Enable        |\n\
                 | 35     LP1 | 49120MiB Disable  | 0%          - |\n",
            ),
            (
                "| DevID |   PCI Addr   | Model |   SN   | Memory |\n\
                 |     0 | 0000:53:00.0 | R300  | 02K12345 | 0 / 32768 MB |\n| 0 | R300 |\n",
                "| DevID |   PCI Addr   | Model |   SN   | Memory |\n\
                 |     0 | 0000:53:00.0 | R300  | - | 0 / 32768 MB |\n| 0 | R300 |\n",
            ),
        ] {
            assert_eq!(without_serials(table), expected);
        }
    }
}
