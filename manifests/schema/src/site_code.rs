//! A machine in letters that a person can photograph or type: what `probe --qr` shows and `init --site` reads.
//!
//! ```text
//! Site --what a bundler needs--> JSON --deflate--> bytes --letters, checked line by line--> FERRY1.1.2.8K2PQ0.4H6…
//! ```
//!
//! Nothing that names a person or dates the visit goes along: no user, no clock, no addresses on the bus.

mod compact;
mod letters;
mod nodes;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::Digest;
use crate::site::Site;
use compact::Compact;

/// A machine, ready to be cut into parts that fit a code or a sheet of paper.
#[derive(Clone, Debug)]
pub struct SiteCode {
    id: String,
    symbols: Vec<u8>,
    /// Whether a reader takes as much as this unfolds to.
    readable: bool,
}

impl SiteCode {
    /// Keeps of `site` what a bundler needs.
    pub fn of(site: &Site) -> Self {
        // A value made of strings and numbers has a JSON form, and a vector takes every write.
        let json = serde_json::to_vec(&Compact::of(site)).unwrap_or_default();
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        let packed = encoder.write_all(&json).and_then(|()| encoder.finish());
        let packed = packed.unwrap_or_default();
        Self {
            id: id_of(&packed),
            symbols: letters::symbols(&packed),
            readable: json.len() as u64 <= LARGEST_JSON,
        }
    }

    /// Parts of at most `longest` characters each; `None` where that would take more than [`MAX_PARTS`], or no
    /// reader would take them.
    pub fn parts(&self, longest: usize) -> Option<Vec<SitePart>> {
        if !self.readable {
            return None;
        }
        let lines = (longest.checked_sub(LONGEST_HEAD)? / letters::LINE).min(letters::MAX_NUMBER);
        if lines == 0 {
            return None;
        }
        let chunks: Vec<&[u8]> = self.symbols.chunks(lines * letters::DATA).collect();
        let total = chunks.len();
        (total <= MAX_PARTS).then(|| {
            let part = |(at, chunk): (usize, &&[u8])| SitePart {
                head: format!("{MARK}{FORMAT}.{}.{total}.{}.", at + 1, self.id),
                lines: letters::lines(at + 1, chunk),
            };
            chunks.iter().enumerate().map(part).collect()
        })
    }
}

/// One part of a [`SiteCode`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SitePart {
    /// `FERRY1.`, number of this part, of all parts, the code's own name.
    pub head: String,
    /// Lines of twenty letters, the last two of which check the others.
    pub lines: Vec<String>,
}

impl SitePart {
    /// The part as one word: what a QR code holds.
    pub fn text(&self) -> String {
        format!("{}{}", self.head, self.lines.concat())
    }
}

/// Reads a site out of scanned or typed text: all parts, in any order, with anything blank between letters.
///
/// # Errors
/// When the text is no such code, or a slip is in it; the error tells the part and the line.
pub fn decode(text: &str) -> Result<Site, SiteCodeError> {
    let text = plain(text);
    let mut parts: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut whole: Option<(usize, String)> = None;
    for piece in pieces(&text)? {
        let part = Part::read(piece)?;
        let (total, id) = whole.get_or_insert_with(|| (part.total, part.id.clone()));
        if (*total, &*id) != (part.total, &part.id) {
            return Err(SiteCodeError::OtherSite {
                part: part.number,
                found: part.id,
                expected: id.clone(),
            });
        }
        parts.insert(part.number, part.symbols);
    }
    let Some((total, id)) = whole else {
        return Err(SiteCodeError::NoCode);
    };
    let missing: Vec<String> = (1..=total)
        .filter(|number| !parts.contains_key(number))
        .map(|number| number.to_string())
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(SiteCodeError::Missing { missing, total });
    }
    let symbols: Vec<u8> = parts.into_values().flatten().collect();
    let packed = letters::bytes(&symbols).ok_or(SiteCodeError::Damaged)?;
    if id_of(&packed) != id {
        return Err(SiteCodeError::Damaged);
    }
    unpack(&packed)
}

/// Why a text is no site.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SiteCodeError {
    /// No part begins anywhere in the text.
    #[error("the text holds no site code: no `{MARK}{FORMAT}.` is in it")]
    NoCode,
    /// The beginning of a part is not as it must be.
    #[error("`{found}` does not begin as a part of a site code does")]
    Head {
        /// What was found.
        found: String,
    },
    /// Made by a newer installer.
    #[error("site code of format {found}; this program reads format {FORMAT}")]
    Format {
        /// The format.
        found: String,
    },
    /// A line that does not agree with its two last letters.
    #[error("a slip in line {line} of part {part}: `{found}`")]
    Slip {
        /// Number of the part, from 1.
        part: usize,
        /// Number of the line in it, from 1.
        line: usize,
        /// The line as it was read.
        found: String,
    },
    /// Not all parts are there.
    #[error("part {missing} of {total} is missing")]
    Missing {
        /// Their numbers.
        missing: String,
        /// How many there are.
        total: usize,
    },
    /// A part of another machine, or of another look at the same one.
    #[error("part {part} belongs to the code {found}, the others to {expected}")]
    OtherSite {
        /// Number of the part.
        part: usize,
        /// The code that it names.
        found: String,
        /// The code of the part before.
        expected: String,
    },
    /// Every line is good, and together they are not what was made.
    #[error("the parts do not make the code that they name")]
    Damaged,
    /// Good letters, and no site in them.
    #[error("the code holds no site: {cause}")]
    Content {
        /// What is wrong.
        cause: String,
    },
}

/// Most parts of one code.
pub const MAX_PARTS: usize = letters::MAX_NUMBER;

/// What every part begins with.
const MARK: &str = "FERRY";
const FORMAT: u32 = 1;
/// `FERRY1.31.31.ABCDEF.`
const LONGEST_HEAD: usize = 20;
/// No site comes near this; a few letters could be made to unfold into gigabytes.
const LARGEST_JSON: u64 = 64 * 1024;

/// One part, its lines checked.
struct Part {
    number: usize,
    total: usize,
    id: String,
    symbols: Vec<u8>,
}

impl Part {
    /// Reads what stands from one mark to the next.
    fn read(piece: &str) -> Result<Self, SiteCodeError> {
        let head = |piece: &str| SiteCodeError::Head {
            found: piece.chars().take(LONGEST_HEAD).collect(),
        };
        let mut fields = piece.splitn(5, '.');
        let mut next = || fields.next().ok_or_else(|| head(piece));
        let format = next()?.strip_prefix(MARK).unwrap_or_default();
        if format != FORMAT.to_string() {
            let found = format.to_owned();
            return Err(SiteCodeError::Format { found });
        }
        let number = next()?.parse().map_err(|_| head(piece))?;
        let total = next()?.parse().map_err(|_| head(piece))?;
        let id = letters::tidy(next()?);
        if !(1..=MAX_PARTS).contains(&total) || !(1..=total).contains(&number) {
            return Err(head(piece));
        }
        let symbols = letters::read(number, next()?).map_err(|(line, found)| {
            let part = number;
            SiteCodeError::Slip { part, line, found }
        })?;
        Ok(Self {
            number,
            total,
            id,
            symbols,
        })
    }
}

/// The text without what scanners and people put between letters: labels, numbers of lines, blanks, dashes.
fn plain(text: &str) -> String {
    let text = text.to_ascii_uppercase().replace("QR-CODE:", " ");
    let is_number = |word: &str| {
        word.strip_suffix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let words = text.split_whitespace().filter(|word| !is_number(word));
    words.flat_map(str::chars).filter(|c| *c != '-').collect()
}

/// The text from each mark to the next. A mark ends in a full stop, which is no letter of a line.
fn pieces(text: &str) -> Result<Vec<&str>, SiteCodeError> {
    let marks: Vec<usize> = text
        .match_indices(MARK)
        .filter(|(at, mark)| {
            let rest = &text[at + mark.len()..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && rest[digits..].starts_with('.')
        })
        .map(|(at, _)| at)
        .collect();
    let Some(first) = marks.first() else {
        return Err(SiteCodeError::NoCode);
    };
    if *first > 0 {
        let found = text[..*first].chars().take(LONGEST_HEAD).collect();
        return Err(SiteCodeError::Head { found });
    }
    let ends = marks.iter().skip(1).copied().chain([text.len()]);
    Ok(marks
        .iter()
        .zip(ends)
        .map(|(at, end)| &text[*at..end])
        .collect())
}

/// Six letters that name the bytes: enough to tell parts of two machines apart, and a slip that no line shows.
fn id_of(packed: &[u8]) -> String {
    let digest = Digest::of(packed).hex();
    let number = u64::from_str_radix(&digest[..8], 16).unwrap_or_default() >> 2;
    let symbol = |place: u32| (number >> (5 * place)) as u8 & 31;
    (0..6)
        .rev()
        .map(|place| letters::letter(symbol(place)))
        .collect()
}

fn unpack(packed: &[u8]) -> Result<Site, SiteCodeError> {
    let content = |cause: String| SiteCodeError::Content { cause };
    let mut json = Vec::new();
    DeflateDecoder::new(packed)
        .take(LARGEST_JSON + 1)
        .read_to_end(&mut json)
        .map_err(|error| content(error.to_string()))?;
    if json.len() as u64 > LARGEST_JSON {
        return Err(content(format!("more than {LARGEST_JSON} bytes")));
    }
    let compact: Compact =
        serde_json::from_slice(&json).map_err(|error| content(error.to_string()))?;
    compact.into_site().map_err(content)
}

#[cfg(test)]
mod tests;
