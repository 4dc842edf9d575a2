//! `parity` and `repair`: what a scratch takes, and how it comes back.

use std::path::PathBuf;

use bundle_format::{Sealed, repair, write_parity};
use console::View;
use manifest_schema::ByteSize;
use report::{Outcome, Trouble};
use serde_json::json;

use crate::settings;

/// Write parity beside a bundle that exists already; no key is needed
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, one of its volumes, or their folder
    bundle: PathBuf,
    /// How much of the bundle it can restore, in percent
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = settings::percent)]
    share: u32,
    /// Write files of at most this size: fat32, dvd, bd25, bd50, or bytes such as 4.7G
    #[arg(long, value_name = "SIZE", value_parser = settings::volume_size)]
    volume_size: Option<u64>,
    /// Threads that hash
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let files = Sealed::open(&self.bundle)?.complete()?;
        let parity = write_parity(&files, self.share, self.volume_size, self.threads, view)?;
        let shown: Vec<_> = parity
            .paths
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        let result = json!({
            "parity": parity.paths, "bytes": parity.size, "block": parity.block, "recovery": parity.recovery,
        });
        view.result(&result, &shown.join("\n"));
        Ok(Outcome::Done)
    }
}

/// Restore what is damaged or missing of a bundle from its parity, where it lies
#[derive(clap::Args)]
pub(crate) struct Repair {
    /// The folder with the bundle and its `.par` files, or one of its files
    place: PathBuf,
}

impl Repair {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let done = repair(&self.place, view)?;
        let blocks: usize = done.files.iter().map(|(_, blocks)| blocks).sum();
        view.note(
            "bundler.repaired",
            &[
                ("blocks", blocks.to_string()),
                ("size", ByteSize(done.block).to_string()),
                ("spare", done.spare.to_string()),
            ],
        );
        let lines: Vec<_> = done
            .files
            .iter()
            .map(|(path, n)| format!("{}  {n}", path.display()))
            .collect();
        let files: Vec<_> = done
            .files
            .iter()
            .map(|(path, n)| json!({ "path": path, "blocks": n }))
            .collect();
        let result = json!({ "repaired": files, "block": done.block, "spare": done.spare });
        view.result(&result, &lines.join("\n"));
        Ok(Outcome::Done)
    }
}
