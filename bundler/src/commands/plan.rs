//! `plan`: what `lock` and `build` would do. Asks the servers, writes nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use console::View;
use manifest_schema::lock::Lock;
use manifest_schema::plan::Plan;
use manifest_schema::{ByteSize, Digest, Image};
use report::{Outcome, Trouble};

use crate::changes::Changes;
use crate::chip_rules::ChipRules;
use crate::commands::diff::{lines, lock_of};
use crate::commands::lock::{Sources, plan_of};
use crate::settings::CacheFlag;

/// Show what a plan would fetch, how large it is and what changed since a lock; nothing is written
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The plan
    plan: PathBuf,
    /// A lock or bundle to compare with [default: ferry.lock, where there is one]
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    cache: CacheFlag,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let default = PathBuf::from("ferry.lock");
        let against = self
            .against
            .or_else(|| default.is_file().then_some(default));
        let old = against.as_deref().map(lock_of).transpose()?;
        // Only the way from the lock to a local file depends on where the lock would be.
        let lock = self.sources.lock(&self.plan, &self.plan, None, view)?;
        let cache = self.cache.look();
        let held = |digest: &Digest, size: u64| cache.holds(digest, size);
        let missing: Vec<_> = lock
            .artifacts
            .iter()
            .filter(|a| !a.urls.is_empty() && !held(&a.digest, a.size.0))
            .collect();
        let fetch: u64 = missing.iter().map(|artifact| artifact.size.0).sum();
        let total: u64 = lock.artifacts.iter().map(|artifact| artifact.size.0).sum();
        let changes = old.as_ref().map(|old| Changes::between(old, &lock));
        let mut text = contents(&lock);
        let rules = chip_rules(&plan_of(&self.plan)?, &lock, &mut text, view);
        let sizes = [
            ("files", lock.artifacts.len().to_string()),
            ("size", ByteSize(total).to_string()),
            ("missing", missing.len().to_string()),
            ("fetch", ByteSize(fetch).to_string()),
        ];
        text.push_str(&view.text("bundler.would-fetch", &sizes));
        if let (Some(changes), Some(path)) = (&changes, &against) {
            let since = [("path", path.display().to_string())];
            let _ = write!(text, "\n\n{}\n", view.text("bundler.changed-since", &since));
            text.push_str(&lines(changes, view));
        }
        let fetched: Vec<_> = missing
            .iter()
            .map(|a| serde_json::json!({ "file": a.file_name, "bytes": a.size, "url": a.urls[0] }))
            .collect();
        let result = serde_json::json!({
            "artifacts": lock.artifacts.len(), "bytes": total,
            "fetch": fetched, "fetch_bytes": fetch, "changes": changes, "chip_rules": rules,
        });
        view.result(&result, &text);
        Ok(Outcome::Done)
    }
}

/// What the tables of the chips add to the backends' environments.
fn chip_rules(plan: &Plan, lock: &Lock, text: &mut String, view: &View) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    for backend in &plan.backends {
        let locked = lock.backends.iter().find(|b| b.name == backend.name);
        let python = locked.and_then(|locked| locked.python.as_ref());
        if let (Some(rules), Some(python)) = (ChipRules::of(backend), python) {
            let (lines, said) = rules.lines(&python.requirements, view);
            if !lines.is_empty() {
                let _ = write!(text, "{}\n{lines}", backend.name);
            }
            all.push(said);
        }
    }
    all
}

/// One line for each thing of the lock, with the bytes of the artifacts that it needs.
fn contents(lock: &Lock) -> String {
    let size = |artifacts: BTreeSet<Digest>| {
        let needed = lock
            .artifacts
            .iter()
            .filter(|a| artifacts.contains(&a.digest));
        ByteSize(needed.map(|artifact| artifact.size.0).sum())
    };
    let mut text = String::new();
    for component in &lock.components {
        let kind = serde_json::to_value(component.kind).unwrap_or_default();
        let digests = component.files.iter().map(|file| file.artifact).collect();
        let _ = writeln!(
            text,
            "{} {}  {}  {}  {}",
            kind.as_str().unwrap_or_default(),
            component.name,
            component.license,
            component.revision.as_deref().unwrap_or("—"),
            size(digests),
        );
    }
    for backend in &lock.backends {
        let wheels = backend.python.iter().flat_map(|python| &python.wheels);
        let wheels: Vec<_> = wheels.collect();
        let files = backend.files.iter().chain(wheels.iter().copied());
        let digests = files.map(|file| file.artifact).collect();
        let _ = writeln!(
            text,
            "backend {}  {} {}  {} wheels  {}",
            backend.name,
            backend.chip,
            backend.arch,
            wheels.len(),
            size(digests),
        );
    }
    for image in &lock.images {
        let digests = image.blobs().map(|blob| blob.digest).collect();
        let line = image_line(image, size(digests));
        let _ = writeln!(text, "{line}");
    }
    for set in &lock.os_packages {
        let digests = set
            .packages
            .iter()
            .map(|package| package.file.artifact)
            .collect();
        let wanted: Vec<String> = set.wanted.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "os-packages {}  {} {}  {} packages for {}  {}",
            set.name,
            set.os,
            set.arch,
            set.packages.len(),
            wanted.join(" "),
            size(digests),
        );
    }
    text
}

/// One line for an image of `size` bytes.
pub(crate) fn image_line(image: &Image, size: ByteSize) -> String {
    let platforms: Vec<&str> = image
        .platforms
        .iter()
        .map(|p| p.platform.as_str())
        .collect();
    format!(
        "image {}  {}  {}  {size}",
        image.reference(),
        image.license,
        platforms.join(", "),
    )
}
