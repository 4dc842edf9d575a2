//! QR codes on a terminal: two rows of modules in one line, black on white whatever the terminal's own colours are.

use std::io::{IsTerminal as _, stdout};

use qrcodegen::{QrCode, QrCodeEcc, QrSegment, Version};

/// How large the codes may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QrSize(u8);

/// A terminal in which not even the smallest code has room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooSmall {
    /// Columns that it has.
    pub columns: usize,
    /// Lines that it has.
    pub lines: usize,
}

/// A terminal needs at least this many columns, as many as the smallest code.
pub const LEAST_COLUMNS: usize = 45;
/// A terminal needs at least this many lines: the smallest code, its caption, the prompt.
pub const LEAST_LINES: usize = 25;

impl QrSize {
    /// The largest that standard output has room for; where that is no terminal, what 80 columns have room for.
    ///
    /// # Errors
    /// When a terminal is too small for any.
    pub fn for_output() -> Result<Self, TooSmall> {
        if !stdout().is_terminal() {
            return Ok(Self(LARGEST));
        }
        match rustix::termios::tcgetwinsize(stdout()) {
            // A serial line does not say how large what is at its other end is.
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Self::for_terminal(usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => Ok(Self(LARGEST)),
        }
    }

    /// The largest that a terminal has room for, up to what 80 columns have: a larger one is hard to photograph.
    ///
    /// # Errors
    /// When it is too small for any.
    pub fn for_terminal(columns: usize, lines: usize) -> Result<Self, TooSmall> {
        let fits = |version: &u8| {
            let modules = modules(*version) + 2 * QUIET;
            modules <= columns && modules.div_ceil(2) + AROUND <= lines
        };
        let found = (SMALLEST..=LARGEST).rev().find(fits);
        found.map(Self).ok_or(TooSmall { columns, lines })
    }

    /// Characters that one code of this size holds, where they are capitals, digits and `$%*+-./:`.
    pub fn capacity(self) -> usize {
        let number = usize::from(self.0 - SMALLEST);
        CAPACITIES.get(number).copied().unwrap_or_default()
    }

    /// Draws `text`, one line of the terminal after the other; `None` where it does not fit. `plain` leaves the
    /// colours to the reader's terminal: blocks are dark modules.
    pub fn draw(self, text: &str, plain: bool) -> Option<Vec<String>> {
        let (segments, version) = (QrSegment::make_segments(text), Version::new(self.0));
        // All codes of a series have one size, and as much to correct errors with as then fits.
        let code = QrCode::encode_segments_advanced(
            &segments,
            QrCodeEcc::Low,
            version,
            version,
            None,
            true,
        )
        .ok()?;
        let quiet = QUIET as i32;
        let (from, to) = (-quiet, code.size() + quiet);
        let line = |y: i32| {
            let block = |x: i32| match (code.get_module(x, y), code.get_module(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            };
            let blocks: String = (from..to).map(block).collect();
            if plain {
                blocks
            } else {
                format!("{BLACK_ON_WHITE}{blocks}{RESET}")
            }
        };
        Some((from..to).step_by(2).map(line).collect())
    }
}

/// Modules of a code's side.
fn modules(version: u8) -> usize {
    usize::from(version) * 4 + 17
}

/// The light border that a scanner needs, in modules.
const QUIET: usize = 4;
/// Lines of the terminal beside the code: its caption, and where the cursor waits.
const AROUND: usize = 2;
/// 45 columns, 23 lines: the text console of a server has 80 and 25.
const SMALLEST: u8 = 5;
/// 77 columns, 39 lines.
const LARGEST: u8 = 13;
/// Characters of the alphanumeric mode at the lowest error correction, from the smallest to the largest.
const CAPACITIES: [usize; 9] = [154, 195, 224, 279, 335, 395, 468, 535, 619];
/// The sixteen colours of every terminal, the text console included.
const BLACK_ON_WHITE: &str = "\u{1b}[0;30;47m";
const RESET: &str = "\u{1b}[0m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_every_size_holds_what_it_says_and_no_more() {
        for number in SMALLEST..=LARGEST {
            let size = QrSize(number);
            let full = "A".repeat(size.capacity());
            let drawn = size.draw(&full, true).unwrap();
            let columns = modules(size.0) + 2 * QUIET;
            assert!(drawn.iter().all(|line| line.chars().count() == columns));
            assert_eq!(drawn.len(), columns.div_ceil(2));
            assert!(columns <= 80);
            assert_eq!(size.draw(&format!("{full}A"), true), None, "{number}");
        }
    }

    #[test]
    fn a_size_is_chosen_by_both_sides_of_the_terminal() {
        let version = |columns, lines| {
            let size = QrSize::for_terminal(columns, lines);
            size.map(|size| size.0)
        };
        assert_eq!(version(80, 41), Ok(13));
        assert_eq!(version(300, 100), Ok(13));
        assert_eq!(version(80, 25), Ok(5));
        assert_eq!(version(80, 27), Ok(6));
        assert_eq!(version(60, 60), Ok(8));
        assert_eq!(version(LEAST_COLUMNS, LEAST_LINES), Ok(5));
        for (columns, lines) in [(LEAST_COLUMNS - 1, 60), (80, LEAST_LINES - 1)] {
            assert_eq!(version(columns, lines), Err(TooSmall { columns, lines }));
        }
    }

    #[test]
    fn colours_are_forced_unless_plain_is_asked_for() {
        let size = QrSize(SMALLEST);
        let drawn = size.draw("FERRY", false).unwrap();
        assert!(
            drawn
                .iter()
                .all(|line| line.starts_with(BLACK_ON_WHITE) && line.ends_with(RESET))
        );
        let plain = size.draw("FERRY", true).unwrap();
        assert!(plain[0].trim().is_empty(), "the border is light");
        assert!(!plain.concat().contains('\u{1b}'));
    }
}
