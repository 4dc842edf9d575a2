//! Text into words, as jieba 0.42.1 cuts it.
//!
//! Dictionary and statistics are jieba's own, in the crate `jieba-rs`. That crate has gone its own way since: it takes more
//! characters for Chinese ones, and joins letters and digits over dots, dashes and underlines. So the text is split into
//! blocks by jieba's rule here, and what stands between Chinese characters in a block is cut again by that rule.

use std::sync::LazyLock;

use jieba_rs::Jieba;

static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// Cuts `text` into words; what is no word, such as a blank, stays as a piece of its own.
pub fn cut(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let wordlike = is_wordlike(first);
        let end = rest.find(|c| is_wordlike(c) != wordlike);
        let (run, behind) = rest.split_at(end.unwrap_or(rest.len()));
        if wordlike {
            cut_block(run, &mut words);
        } else {
            cut_signs(run, &mut words);
        }
        rest = behind;
    }
    words
}

/// What jieba looks up in its dictionary.
fn is_wordlike(c: char) -> bool {
    matches!(
        c,
        '\u{4E00}'..='\u{9FD5}' | '+' | '#' | '&' | '.' | '_' | '%' | '-'
    ) || c.is_ascii_alphanumeric()
}

fn cut_block<'a>(block: &'a str, words: &mut Vec<&'a str>) {
    // Letters, digits and signs that are no word of the dictionary, one after another.
    let mut loose: Option<(usize, usize)> = None;
    for token in JIEBA.cut(block, true) {
        let known = token.word.len() > 1 && JIEBA.has_word(token.word);
        if token.word.is_ascii() && !known {
            let start = loose.map_or(token.byte_start, |(start, _)| start);
            loose = Some((start, token.byte_end));
            continue;
        }
        if let Some((start, end)) = loose.take() {
            cut_loose(&block[start..end], words);
        }
        words.push(token.word);
    }
    if let Some((start, end)) = loose {
        cut_loose(&block[start..end], words);
    }
}

/// Cuts letters, digits and signs: a run of the first two with a fraction and a percent sign is one word.
fn cut_loose<'a>(text: &'a str, words: &mut Vec<&'a str>) {
    let bytes = text.as_bytes();
    let from = |at: usize, fits: fn(&u8) -> bool| {
        at + bytes[at..].iter().take_while(|byte| fits(byte)).count()
    };
    let mut at = 0;
    while at < bytes.len() {
        let signs = at;
        at = from(at, |byte| !byte.is_ascii_alphanumeric());
        if at > signs {
            words.push(&text[signs..at]);
        }
        let start = at;
        at = from(at, u8::is_ascii_alphanumeric);
        if at == start {
            continue;
        }
        if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at = from(at + 1, u8::is_ascii_digit);
        }
        if bytes.get(at) == Some(&b'%') {
            at += 1;
        }
        words.push(&text[start..at]);
    }
}

/// Every character by itself, but for the two that end a line together.
fn cut_signs<'a>(text: &'a str, words: &mut Vec<&'a str>) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("\r\n") {
            2
        } else {
            first.len_utf8()
        };
        let (sign, behind) = rest.split_at(length);
        words.push(sign);
        rest = behind;
    }
}
