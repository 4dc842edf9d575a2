//! Sentences with gaps: `form.more than {n} bytes` says what every text of that form is in another language.
//!
//! A name in braces stands for any text, one of a single letter for a number; what stands in a gap whose name is that of
//! a wordy argument is translated in turn, and everything else is left as it is.

use crate::Language;
use crate::catalog::{Catalog, Text};
use crate::han;
use crate::phrase::{BETWEEN, is_wordy, said};

/// The text by the form that it has; by the one that says most, where it has several.
pub(crate) fn filled(catalog: &'static Catalog, text: &str) -> Option<String> {
    let forms = catalog.range(FORM.to_owned()..);
    let forms = forms.map_while(|(code, entry)| Some((code.strip_prefix(FORM)?, entry)));
    let found = forms.filter_map(|(form, entry)| Some((words(form), gaps(form, text)?, entry)));
    let (_, gaps, entry) = found.max_by_key(|(words, _, _)| *words)?;
    Some(fill(entry, &gaps))
}

/// How many letters a form fixes.
fn words(form: &str) -> usize {
    pieces(form).map(|(literal, _)| literal.len()).sum()
}

/// The pieces of a form: what is fixed, and the name of the gap behind it.
fn pieces(form: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    form.split('}').map(|piece| match piece.split_once('{') {
        Some((literal, name)) => (literal, Some(name)),
        None => (piece, None),
    })
}

/// What stands in the gaps, where `text` has the form.
fn gaps<'t>(form: &'static str, text: &'t str) -> Option<Vec<(&'static str, &'t str)>> {
    let mut gaps = Vec::new();
    let mut rest = text;
    let mut open = None;
    let mut pieces = pieces(form).peekable();
    while let Some((literal, next)) = pieces.next() {
        let is_last = pieces.peek().is_none() && next.is_none();
        let at = match open {
            None => rest.starts_with(literal).then_some(0),
            Some(_) if is_last => rest.ends_with(literal).then(|| rest.len() - literal.len()),
            Some(_) => rest.find(literal),
        }?;
        if let Some(name) = open {
            let gap = &rest[..at];
            if !suits(name, gap) {
                return None;
            }
            gaps.push((name, gap));
        }
        rest = &rest[at + literal.len()..];
        open = next;
    }
    rest.is_empty().then_some(gaps)
}

fn suits(name: &str, gap: &str) -> bool {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = !gap.contains(BETWEEN) && !gap.contains(PLACE);
    !gap.is_empty() && whole && (name.len() > 1 || number(gap))
}

fn fill(entry: &Text, gaps: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    for (literal, name) in pieces(&entry.text) {
        han::push(&mut filled, literal);
        let gap = gaps.iter().find(|(known, _)| Some(*known) == name);
        match gap {
            // Shorter than the text that it stands in, so this ends.
            Some((name, gap)) if is_wordy(name) => han::push(&mut filled, &said(Language::Zh, gap)),
            Some((_, gap)) => han::push(&mut filled, gap),
            None => {}
        }
    }
    filled
}

const FORM: &str = "form.";
/// Behind this a text says where in a document it is wrong, whatever is wrong there: a form of its own.
const PLACE: &str = " at line ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_where_a_text_has_a_form() {
        for (form, text, expected) in [
            (
                "more than {n} bytes",
                "more than 12 bytes",
                Some(vec![("n", "12")]),
            ),
            ("more than {n} bytes", "more than two bytes", None),
            ("{n} of {m}", "1 of 22", Some(vec![("n", "1"), ("m", "22")])),
            ("a `{name}`", "a `b` c", None),
            ("a `{name}`", "a ``", None),
            (
                "{a1}: {b1}",
                "x: y: z",
                Some(vec![("a1", "x"), ("b1", "y: z")]),
            ),
            ("{a1}: {b1}", "x: y; z", None),
            ("{a1}: {b1}", "x: y at line 1 column 2", None),
            (
                "{problem} at line {n} column {m}",
                "x: y at line 1 column 2",
                Some(vec![("problem", "x: y"), ("n", "1"), ("m", "2")]),
            ),
            ("plain", "plain", Some(vec![])),
            ("plain", "plain too", None),
        ] {
            assert_eq!(gaps(form, text), expected, "{form}: {text}");
        }
    }
}
