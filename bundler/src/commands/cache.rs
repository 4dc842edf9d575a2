//! `cache`: what was fetched, what of it is still good, what may go.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use bundle_mirror::{Cache, Entry};
use console::View;
use manifest_schema::{ByteSize, Digest};
use report::{Outcome, Trouble};
use serde_json::json;

use crate::commands::diff::lock_of;
use crate::settings::CacheFlag;

/// Look after the folder of fetched files
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    cache: CacheFlag,
}

#[derive(clap::Subcommand)]
enum What {
    /// List the files
    List,
    /// Remove what unfinished runs left behind, and files that are not wanted any more
    Gc {
        /// Remove every file that none of these locks or bundles pins (can be repeated)
        #[arg(long, value_name = "FILE")]
        keep: Vec<PathBuf>,
        /// Remove only files that have been there for so many days
        #[arg(long, value_name = "DAYS")]
        older_than: Option<u64>,
        /// Show what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Hash every file again
    Verify {
        /// Remove what is damaged, so that the next build fetches it again
        #[arg(long)]
        delete: bool,
        /// Threads that hash
        #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
        threads: usize,
    },
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let cache = self.cache.open()?;
        match self.what {
            What::List => list(&cache, view),
            What::Gc {
                keep,
                older_than,
                dry_run,
            } => gc(&cache, &keep, older_than, dry_run, view),
            What::Verify { delete, threads } => verify(&cache, delete, threads, view),
        }
    }
}

fn list(cache: &Cache, view: &View) -> Result<Outcome, Trouble> {
    let entries = cache.entries()?;
    let lines: Vec<String> = entries.iter().map(line).collect();
    let total: u64 = entries.iter().map(|entry| entry.size).sum();
    let count = lines.len();
    let files: Vec<_> = entries.iter().map(as_json).collect();
    let sum = [
        ("count", count.to_string()),
        ("size", ByteSize(total).to_string()),
    ];
    let last = view.text("bundler.sum-files", &sum);
    let text = lines
        .into_iter()
        .chain([last])
        .collect::<Vec<_>>()
        .join("\n");
    let result = json!({ "folder": cache.folder(), "files": files, "bytes": total });
    view.result(&result, &text);
    Ok(Outcome::Done)
}

fn gc(
    cache: &Cache,
    keep: &[PathBuf],
    older_than: Option<u64>,
    dry_run: bool,
    view: &View,
) -> Result<Outcome, Trouble> {
    let mut wanted = BTreeSet::new();
    for path in keep {
        wanted.extend(
            lock_of(path)?
                .artifacts
                .iter()
                .map(|artifact| artifact.digest),
        );
    }
    let age = older_than.map(|days| Duration::from_secs(days.saturating_mul(24 * 60 * 60)));
    let mut removed = Vec::new();
    for entry in cache.entries()? {
        if goes(&entry, keep, &wanted, age) && (dry_run || cache.remove(&entry)?) {
            removed.push(entry);
        }
    }
    let bytes: u64 = removed.iter().map(|entry| entry.size).sum();
    let code = if dry_run {
        "bundler.cache-would-go"
    } else {
        "bundler.cache-gone"
    };
    view.note(
        code,
        &[
            ("files", removed.len().to_string()),
            ("size", ByteSize(bytes).to_string()),
        ],
    );
    let files: Vec<_> = removed.iter().map(as_json).collect();
    let result = json!({ "removed": files, "bytes": bytes, "dry_run": dry_run });
    let text: Vec<String> = removed.iter().map(line).collect();
    view.result(&result, &text.join("\n"));
    Ok(Outcome::Done)
}

/// Without a rule only leftovers go. With both rules a file must break both to go.
fn goes(entry: &Entry, keep: &[PathBuf], wanted: &BTreeSet<Digest>, age: Option<Duration>) -> bool {
    let Some(digest) = entry.digest else {
        return true;
    };
    let unwanted = !keep.is_empty() && !wanted.contains(&digest);
    match age {
        None => unwanted,
        Some(age) => entry.age >= age && (keep.is_empty() || unwanted),
    }
}

fn verify(cache: &Cache, delete: bool, threads: usize, view: &View) -> Result<Outcome, Trouble> {
    let damaged = cache.verify(threads, view)?;
    for entry in &damaged {
        if delete {
            cache.remove(entry)?;
        }
    }
    let outcome = if damaged.is_empty() || delete {
        Outcome::Done
    } else {
        Outcome::Untrusted
    };
    let code = if delete {
        "bundler.cache-repaired"
    } else {
        "bundler.cache-verified"
    };
    view.note(code, &[("damaged", damaged.len().to_string())]);
    let files: Vec<_> = damaged.iter().map(as_json).collect();
    let text: Vec<String> = damaged.iter().map(line).collect();
    let result = json!({ "damaged": files, "deleted": delete });
    view.result(&result, &text.join("\n"));
    Ok(outcome)
}

fn line(entry: &Entry) -> String {
    let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}  {}", ByteSize(entry.size))
}

fn as_json(entry: &Entry) -> serde_json::Value {
    json!({
        "path": entry.path, "digest": entry.digest, "bytes": entry.size,
        "complete": entry.complete, "age_seconds": entry.age.as_secs(),
    })
}
