//! What carries a machine's facts out where nothing else may leave: pictures to photograph, letters to copy.

use console::{LEAST_COLUMNS, LEAST_LINES, QrSize, TooSmall, View};
use manifest_schema::site::Site;
use manifest_schema::site_code::{MAX_PARTS, SiteCode, SitePart};
use report::{Args, Diagnose, Outcome, Trouble};

/// The facts cannot be shown here.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    /// The terminal has no room for the smallest code.
    #[error("the terminal has {} columns and {} lines, a code needs {LEAST_COLUMNS} and {LEAST_LINES}", .0.columns, .0.lines)]
    Terminal(TooSmall),
    /// More codes than anybody would photograph.
    #[error("this machine does not fit in {MAX_PARTS} codes")]
    Codes,
}

impl Diagnose for ShowError {
    fn code(&self) -> &'static str {
        match self {
            Self::Terminal(_) => "installer.terminal-small",
            Self::Codes => "installer.codes-many",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Terminal(found) => vec![
                ("columns", found.columns.to_string()),
                ("lines", found.lines.to_string()),
                ("least_columns", LEAST_COLUMNS.to_string()),
                ("least_lines", LEAST_LINES.to_string()),
            ],
            Self::Codes => vec![("most", MAX_PARTS.to_string())],
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

/// One QR code after the other.
pub(crate) fn pictures(view: &View, site: &Site) -> Result<Outcome, Trouble> {
    let code = QrSize::for_output().map_err(ShowError::Terminal)?;
    let parts = SiteCode::of(site)
        .parts(code.capacity())
        .ok_or(ShowError::Codes)?;
    if view.is_json() {
        return Ok(as_json(view, &parts));
    }
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            view.pause("installer.code-next");
        }
        let picture = code.draw(&part.text(), view.is_plain());
        view.data(&caption(view, at, parts.len()));
        for line in picture.ok_or(ShowError::Codes)? {
            view.data(&line);
        }
    }
    view.note("installer.code-photographed", &none());
    Ok(Outcome::Done)
}

/// The same in letters, a sheet of twenty lines at a time.
pub(crate) fn letters(view: &View, site: &Site) -> Result<Outcome, Trouble> {
    let parts = SiteCode::of(site).parts(SHEET).ok_or(ShowError::Codes)?;
    if view.is_json() {
        return Ok(as_json(view, &parts));
    }
    for part in &parts {
        view.data(&part.head);
        for (at, line) in part.lines.iter().enumerate() {
            let clumps: Vec<&str> = (0..line.len())
                .step_by(CLUMP)
                .map(|from| &line[from..line.len().min(from + CLUMP)])
                .collect();
            view.data(&format!("{:>2}:  {}", at + 1, clumps.join("  ")));
        }
    }
    view.note("installer.code-copied", &none());
    Ok(Outcome::Done)
}

fn as_json(view: &View, parts: &[SitePart]) -> Outcome {
    let parts: Vec<String> = parts.iter().map(SitePart::text).collect();
    view.result(&serde_json::json!({ "parts": parts }), "");
    Outcome::Done
}

fn caption(view: &View, at: usize, parts: usize) -> String {
    let args = [("part", (at + 1).to_string()), ("parts", parts.to_string())];
    view.text("installer.code-part", &args)
}

fn none() -> [(&'static str, String); 0] {
    []
}

/// Letters that a person reads out in one breath.
const CLUMP: usize = 5;
/// Characters of one part on paper: a head, and twenty lines of twenty letters.
const SHEET: usize = 420;
