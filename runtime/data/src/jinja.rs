//! What chat templates expect of Python around Jinja.

use std::borrow::Cow;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind, State};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Methods of Python's texts, lists and dictionaries.
pub(crate) fn method(
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

/// The `tojson` filter, as Python's `json.dumps` writes it: blanks after commas and colons, nothing escaped for HTML.
pub(crate) fn json(value: &Value, options: &Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Chat templates also name `ensure_ascii`, `separators` and `sort_keys`; texts are kept as they are here.
    let _ignored: (Option<Value>, Option<Value>, Option<Value>) = (
        options.get("ensure_ascii")?,
        options.get("separators")?,
        options.get("sort_keys")?,
    );
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        Some(width) => {
            let blanks = " ".repeat(width.min(16));
            let formatter = PrettyFormatter::with_indent(blanks.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
    };
    let fault = |reason: String| Error::new(ErrorKind::BadSerialization, reason);
    written.map_err(|error| fault(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| fault(error.to_string()))?;
    Ok(Value::from_safe_string(text))
}

/// JSON on one line with a blank after each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Takes out `{% generation %}` and its end, which mark answers for trainers and print nothing.
pub(crate) fn without_generation_marks(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut kept = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        let Some((inner, behind)) = after.split_once("%}") else {
            break;
        };
        kept.push_str(before);
        let word = inner.trim_matches(['-', '+']).trim();
        // A block in its place keeps what the marks say about the blanks around them.
        let block = match word {
            "generation" => inner.replace("generation", "if true"),
            "endgeneration" => inner.replace("endgeneration", "endif"),
            _ => inner.to_owned(),
        };
        kept.push_str("{%");
        kept.push_str(&block);
        kept.push_str("%}");
        rest = behind;
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

/// The present time in UTC by `format`, with the letters of `strftime` that dates are written with.
pub(crate) fn now(format: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    at(since.map_or(0, |span| span.as_secs()), format)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

fn at(seconds: u64, format: &str) -> String {
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let name = |names: &[&'static str], index: u64| names[index as usize % names.len()];
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let part = match letters.next() {
            Some('Y') => year.to_string(),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('B') => name(&MONTHS, month - 1).to_owned(),
            Some('b') => name(&MONTHS, month - 1)[..3].to_owned(),
            Some('A') => name(&DAYS, days).to_owned(),
            Some('a') => name(&DAYS, days)[..3].to_owned(),
            Some('H') => format!("{:02}", clock / 3600),
            Some('M') => format!("{:02}", clock / 60 % 60),
            Some('S') => format!("{:02}", clock % 60),
            Some('%') | None => "%".to_owned(),
            Some(other) => format!("%{other}"),
        };
        text.push_str(&part);
    }
    text
}

/// Year, month and day of a day counted from 1970 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        for (seconds, format, expected) in [
            (0, "%d %b %Y", "01 Jan 1970"),
            (
                1_709_210_096,
                "%Y-%m-%d %H:%M:%S %A",
                "2024-02-29 12:34:56 Thursday",
            ),
            (1_735_689_599, "%a %B %d %% %q", "Tue December 31 % %q"),
        ] {
            assert_eq!(at(seconds, format), expected);
        }
    }

    #[test]
    fn generation_marks_keep_their_blanks_rules() {
        for (source, expected) in [
            ("a {%- generation -%} b", "a {%- if true -%} b"),
            ("{% endgeneration %}{% if x %}", "{% endif %}{% if x %}"),
            ("{{ add_generation_prompt }}", "{{ add_generation_prompt }}"),
            ("{% if generation %", "{% if generation %"),
        ] {
            assert_eq!(without_generation_marks(source), expected);
        }
    }
}
