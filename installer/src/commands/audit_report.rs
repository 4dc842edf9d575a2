//! An audit as a page: one file, no scripts, nothing from elsewhere.

use std::fmt::Write as _;

use console::{Language, View};
use install_steps::AuditedFile;

use super::audit::{Findings, code_on_load, standing, summary};
use super::log;

/// The whole page. Everything foreign in it is escaped: names of files are chosen by whoever wrote them.
pub(super) fn page(view: &View, findings: &Findings) -> String {
    let none: &[(&str, String)] = &[];
    let language = match view.language() {
        Language::Zh => "zh-CN",
        Language::En => "en",
    };
    let title = escape(&view.text("installer.report.title", none));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n"
    );
    for audit in &findings.audits {
        let class = if audit.problems().next().is_none() {
            "good"
        } else {
            "bad"
        };
        let _ = writeln!(
            page,
            "<pre class=\"{class}\">{}</pre>",
            escape(&summary(view, audit))
        );
        let heads = ["path", "standing", "origin", "license", "digest"];
        let heads = heads.map(|head| {
            format!(
                "<th>{}",
                escape(&view.text(&format!("installer.report.{head}"), none))
            )
        });
        let _ = writeln!(page, "<table>\n<tr>{}", heads.concat());
        // What is wrong comes first: nobody reads ten thousand rows.
        let (wrong, right): (Vec<_>, Vec<_>) = audit
            .files
            .iter()
            .partition(|file| file.standing.is_wrong());
        for file in wrong.into_iter().chain(right) {
            page.push_str(&row(view, file));
        }
        page.push_str("</table>\n");
    }
    let mut others: Vec<String> = findings
        .unlogged
        .iter()
        .map(|found| log::line(view, found))
        .collect();
    others.extend(
        findings
            .loose
            .iter()
            .map(|loose| format!("✗ {}  {}", loose.path, view.text(loose.how.code(), none))),
    );
    others.extend(findings.unread.lines(view));
    if !others.is_empty() {
        let _ = writeln!(
            page,
            "<pre class=\"bad\">{}</pre>",
            escape(&others.join("\n"))
        );
    }
    page.push_str("</html>\n");
    page
}

fn row(view: &View, file: &AuditedFile) -> String {
    let none: &[(&str, String)] = &[];
    let class = if file.standing.is_wrong() {
        " class=\"bad\""
    } else {
        ""
    };
    let origin = match (&file.origin, &file.made_from) {
        (Some(origin), Some(made_from)) => format!("{} ← {made_from}", origin.line()),
        (Some(origin), None) => origin.line(),
        (None, Some(made_from)) => format!("← {made_from}"),
        (None, None) => String::new(),
    };
    let digest = file.digest.map(|digest| digest.hex()).unwrap_or_default();
    let license = file.license.as_deref().unwrap_or_default();
    let mut standing = view.text(standing(file.standing), none);
    if let Some(code) = &file.code_on_load {
        let _ = write!(standing, " ⚠ {}", code_on_load(view, code));
    }
    let cells = [file.path.as_str(), &standing, &origin, license, &digest];
    let cells = cells.map(|cell| format!("<td>{}", escape(cell)));
    format!("<tr{class}>{}\n", cells.concat())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

const STYLE: &str = "body{font:14px/1.5 sans-serif;margin:2em}pre{padding:1em;background:#eef7ee}\
pre.bad,tr.bad{background:#fbe9e7}table{border-collapse:collapse;width:100%}\
td,th{border:1px solid #ccc;padding:.2em .5em;text-align:left;word-break:break-all}\
td:last-child{font-family:monospace;font-size:11px}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_cannot_become_markup() {
        assert_eq!(
            escape("a<script>\"&\u{1b}[2J\n"),
            "a&lt;script&gt;&quot;&amp;\u{fffd}[2J\n"
        );
    }
}
