//! Licences as SPDX expressions, and whether those that a person accepted are enough for one.

use std::collections::BTreeSet;

use spdx::{Expression, Licensee, ParseMode};

/// Reads an SPDX licence expression: identifiers of the SPDX list or `LicenseRef-…`, with `OR`, `AND` and `WITH`.
///
/// Old names that the list still has (`GPL-3.0`) are read, so that their licence is not unknown; other spellings
/// (`Apache 2.0`, `MIT/BSD`) are not guessed at.
///
/// # Errors
/// With what is wrong, and the identifier that may have been meant.
pub fn parse(text: &str) -> Result<Expression, String> {
    let mode = ParseMode {
        allow_deprecated: true,
        ..ParseMode::STRICT
    };
    Expression::parse_mode(text, mode).map_err(|error| {
        let wrong = text.get(error.span.clone()).unwrap_or(text).trim();
        let mut known = spdx::identifiers::LICENSES
            .iter()
            .map(|license| license.name);
        let meant = known.find(|name| name.eq_ignore_ascii_case(wrong));
        let meant = meant.map_or_else(String::new, |name| format!("; was `{name}` meant?"));
        format!("{} at `{wrong}`{meant}", error.reason)
    })
}

/// The licences out of `accepted` under which something of licence `expression` may be taken: one side of an `OR`,
/// both sides of an `AND`. A `WITH` is a licence of its own. `None` where they are not enough.
///
/// An accepted expression of several licences counts for exactly that expression, and each side of an accepted `AND`
/// by itself.
pub fn accepted_by(expression: &str, accepted: &[String]) -> Option<Vec<String>> {
    let wanted = parse(expression).ok()?;
    let same = |text: &&String| parse(text).is_ok_and(|found| found == wanted);
    if let Some(same) = accepted.iter().find(same) {
        return Some(vec![same.clone()]);
    }
    let mut licensees = BTreeSet::new();
    for text in accepted {
        licensees.extend(conjuncts(text));
    }
    let minimal = wanted.minimized_requirements(&licensees).ok()?;
    Some(minimal.iter().map(ToString::to_string).collect())
}

/// The single licences of an expression that has no `OR`.
fn conjuncts(text: &str) -> Vec<Licensee> {
    let Ok(expression) = parse(text) else {
        return Vec::new();
    };
    // Without an `OR`, leaving any one out is not enough.
    let requirements: Vec<_> = expression.requirements().map(|one| &one.req).collect();
    let all_needed = requirements
        .iter()
        .all(|left_out| !expression.evaluate(|requirement| requirement != *left_out));
    if !all_needed {
        return Vec::new();
    }
    requirements
        .iter()
        .map(|one| Licensee::new(one.license.clone(), one.addition.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_met_by_what_was_accepted() {
        type Case<'a> = (&'a str, &'a [&'a str], Option<&'a [&'a str]>);
        let cases: [Case; 15] = [
            ("MIT", &["MIT"], Some(&["MIT"])),
            ("MIT", &["Apache-2.0"], None),
            ("MIT", &[], None),
            ("MIT OR Apache-2.0", &["Apache-2.0"], Some(&["Apache-2.0"])),
            ("MIT AND Apache-2.0", &["Apache-2.0"], None),
            (
                "MIT AND (Apache-2.0 OR GPL-3.0-only)",
                &["Apache-2.0", "MIT"],
                Some(&["Apache-2.0", "MIT"]),
            ),
            (
                "MIT OR Apache-2.0",
                &["MIT OR Apache-2.0"],
                Some(&["MIT OR Apache-2.0"]),
            ),
            ("MIT", &["MIT OR Apache-2.0"], None),
            ("MIT", &["MIT AND Apache-2.0"], Some(&["MIT"])),
            ("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"], None),
            (
                "Apache-2.0 WITH LLVM-exception",
                &["Apache-2.0 WITH LLVM-exception"],
                Some(&["Apache-2.0 WITH LLVM-exception"]),
            ),
            (
                "LicenseRef-Qwen",
                &["LicenseRef-Qwen"],
                Some(&["LicenseRef-Qwen"]),
            ),
            ("LicenseRef-Qwen", &["LicenseRef-Llama"], None),
            ("GPL-2.0-only", &["GPL-3.0-only"], None),
            ("no licence", &["no licence"], None),
        ];
        for (expression, accepted, expected) in cases {
            let accepted: Vec<String> = accepted.iter().map(ToString::to_string).collect();
            let found = accepted_by(expression, &accepted);
            let found: Option<Vec<&str>> = found
                .as_ref()
                .map(|list| list.iter().map(String::as_str).collect());
            assert_eq!(found.as_deref(), expected, "{expression} by {accepted:?}");
        }
    }

    #[test]
    fn a_wrong_expression_says_what_may_have_been_meant() {
        for (text, part) in [
            ("apache-2.0", "was `Apache-2.0` meant?"),
            ("other", "at `other`"),
            ("MIT OR", ""),
            ("(MIT", ""),
            ("", ""),
            ("MIT/BSD-3-Clause", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in ["GPL-3.0", "mit and 0BSD", "LicenseRef-Qwen AND MIT"] {
            let read = parse(text).is_ok();
            assert_eq!(read, !text.starts_with("mit"), "{text}");
        }
    }
}
