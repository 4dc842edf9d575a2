//! Letters that a person can read out and type: Crockford's base 32, which has no I, L, O and U.
//!
//! Letters come in lines of twenty. The last two check the others, the number of the line and the number of its
//! part: as a Reed-Solomon code over GF(32), so that any one or two wrong letters of a line are found for certain,
//! and so are two lines, or lines of two parts, that changed places.

/// Letters of a whole line.
pub(super) const LINE: usize = DATA + CHECKS;
/// Of these, letters that carry bits.
pub(super) const DATA: usize = 18;
/// Parts and lines are numbered from 1 to this.
pub(super) const MAX_NUMBER: usize = 31;

const CHECKS: usize = 2;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The letter of a number below 32.
pub(super) fn letter(symbol: u8) -> char {
    char::from(ALPHABET[usize::from(symbol & 31)])
}

/// Bytes as numbers below 32, five bits each; the last is filled up with zeros.
pub(super) fn symbols(bytes: &[u8]) -> Vec<u8> {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let symbol = |at: usize| (0..5).fold(0, |symbol, place| symbol << 1 | bit(at + place));
    (0..bytes.len() * 8).step_by(5).map(symbol).collect()
}

/// The bytes again; `None` where they were not filled up with zeros.
pub(super) fn bytes(symbols: &[u8]) -> Option<Vec<u8>> {
    let bit = |at: usize| symbols[at / 5] >> (4 - at % 5) & 1;
    let bits = symbols.len() * 5;
    let whole = bits - bits % 8;
    let byte = |at: usize| (0..8).fold(0, |byte, place| byte << 1 | bit(at + place));
    let filled = bits - whole < 5 && (whole..bits).all(|at| bit(at) == 0);
    filled.then(|| (0..whole).step_by(8).map(byte).collect())
}

/// The lines of a part.
pub(super) fn lines(part: usize, symbols: &[u8]) -> Vec<String> {
    let chunks = symbols.chunks(DATA).enumerate();
    chunks
        .map(|(at, data)| {
            let checks = checks(part, at + 1, data);
            data.iter()
                .chain(&checks)
                .map(|symbol| letter(*symbol))
                .collect()
        })
        .collect()
}

/// The numbers of a part's letters, checks taken off; else the first line with a slip, and how it reads.
pub(super) fn read(part: usize, text: &str) -> Result<Vec<u8>, (usize, String)> {
    let letters: Vec<char> = tidy(text).chars().collect();
    let mut symbols = Vec::new();
    for (at, line) in letters.chunks(LINE).enumerate() {
        let number = at + 1;
        let slip = || (number, line.iter().collect());
        let read: Option<Vec<u8>> = line.iter().map(|letter| symbol(*letter)).collect();
        let read = read.filter(|read| read.len() > CHECKS && number <= MAX_NUMBER);
        let read = read.ok_or_else(slip)?;
        let (data, found) = read.split_at(read.len() - CHECKS);
        if found != checks(part, number, data) {
            return Err(slip());
        }
        symbols.extend_from_slice(data);
    }
    if symbols.is_empty() {
        return Err((1, String::new()));
    }
    Ok(symbols)
}

/// Letters as they are meant: what looks like a digit is one.
pub(super) fn tidy(text: &str) -> String {
    let meant = |c: char| match c {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    text.chars().map(meant).collect()
}

fn symbol(letter: char) -> Option<u8> {
    let letter = u8::try_from(letter).ok()?;
    let at = ALPHABET.iter().position(|known| *known == letter)?;
    u8::try_from(at).ok()
}

/// Values of the line's polynomial at the field's generator and at its square.
fn checks(part: usize, line: usize, data: &[u8]) -> [u8; CHECKS] {
    let numbers = [part as u8, line as u8];
    let all = || numbers.iter().chain(data);
    [
        all().fold(0, |sum, symbol| double(sum) ^ symbol),
        all().fold(0, |sum, symbol| double(double(sum)) ^ symbol),
    ]
}

/// Times the generator in GF(32), by the polynomial x^5 + x^2 + 1.
fn double(value: u8) -> u8 {
    let twice = value << 1;
    if twice & 32 == 0 {
        twice
    } else {
        twice ^ 0b10_0101
    }
}
