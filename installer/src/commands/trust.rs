//! `trust`: the roots under which bundles are accepted here.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bundle_format::{Sealed, TrustedRoots};
use console::View;
use install_steps::{Guard, RealDisk, TrustedRoot, add_root, remove_root, trusted_roots};
use manifest_schema::Digest;
use report::{Diagnose, Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::trust::{compare, fingerprint, must_be_readable};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Trust a root, after its fingerprint was compared
    Add(Add),
    /// Say which roots are trusted
    List(List),
    /// Trust a root no more
    Remove(Remove),
}

#[derive(clap::Args, Debug)]
struct Add {
    /// A root document, or a bundle that is signed under it
    file: PathBuf,
    /// Its fingerprint, which a person has compared; asked for where it is not given
    #[arg(long, value_name = "SHA256", value_parser = fingerprint)]
    fingerprint: Option<Digest>,
    #[command(flatten)]
    at: At,
}

#[derive(clap::Args, Debug)]
struct List {
    #[command(flatten)]
    at: At,
}

#[derive(clap::Args, Debug)]
struct Remove {
    /// Fingerprint of the root
    #[arg(value_name = "SHA256", value_parser = fingerprint)]
    fingerprint: Digest,
    #[command(flatten)]
    at: At,
}

/// The file with the root cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{path}`")]
struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

impl Diagnose for Unreadable {
    fn code(&self) -> &'static str {
        "installer.root-unreadable"
    }

    fn args(&self) -> report::Args {
        vec![("path", self.path.display().to_string())]
    }

    fn outcome(&self) -> Outcome {
        Outcome::HostFault
    }
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        match self.command {
            Command::Add(args) => args.run(view),
            Command::List(args) => args.run(view),
            Command::Remove(args) => args.run(view),
        }
    }
}

impl Add {
    fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let (document, found) = document(&self.file, self.fingerprint)?;
        if self.fingerprint.is_none() {
            compare(view, &found, "--fingerprint")?;
        }
        let compared = self.fingerprint.unwrap_or(found);
        let guard = Guard::take(&RealDisk, &prefix, "trust add")?;
        let root = add_root(&RealDisk, &guard, &prefix, &document, compared)?;
        let human = view.text("installer.root-added", &[("fingerprint", found.hex())]);
        view.result(&json!({ "added": root }), &human);
        Ok(Outcome::Done)
    }
}

/// The root's bytes and fingerprint. A bundle gives its root only where its signatures hold under it.
fn document(path: &Path, named: Option<Digest>) -> Result<(Vec<u8>, Digest), Trouble> {
    let unreadable = |source| Unreadable {
        path: path.to_owned(),
        source,
    };
    must_be_readable(path)?;
    let mut head = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?;
    (&mut file)
        .take(LONGEST)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    if head.trim_ascii_start().first() == Some(&b'{') {
        let found = Digest::of(&head);
        return Ok((head, found));
    }
    let sealed = Sealed::open(path)?;
    let found = sealed.fingerprint_offered()?;
    if let Some(named) = named.filter(|named| *named != found) {
        return Err(install_steps::RootError::Other { found, named }.into());
    }
    let bundle = sealed.verify(&TrustedRoots::from_fingerprints([found]))?;
    let document = bundle.metadata.get(ROOT).cloned().unwrap_or_default();
    Ok((document, found))
}

impl List {
    fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let roots = trusted_roots(&prefix)?;
        let mut lines: Vec<String> = roots.iter().map(|root| line(view, root)).collect();
        if lines.is_empty() {
            let args = [("prefix", prefix.path().display().to_string())];
            lines.push(view.text("installer.no-roots", &args));
        }
        view.result(&json!({ "roots": roots }), &lines.join("\n"));
        Ok(Outcome::Done)
    }
}

fn line(view: &View, root: &TrustedRoot) -> String {
    let args = [
        ("fingerprint", root.fingerprint.hex()),
        ("version", root.version.to_string()),
        ("threshold", root.threshold.to_string()),
        ("keys", root.keys.join("\n    ")),
        ("count", root.keys.len().to_string()),
    ];
    view.text("installer.root-line", &args)
}

impl Remove {
    fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let args = [("fingerprint", self.fingerprint.hex())];
        if !view.confirm("installer.root-remove-question", &args, "--yes")? {
            let none: &[(&str, String)] = &[];
            view.note("installer.nothing-done", none);
            return Ok(Outcome::Failed);
        }
        let guard = Guard::take(&RealDisk, &prefix, "trust remove")?;
        remove_root(&RealDisk, &guard, &prefix, self.fingerprint)?;
        let human = view.text("installer.root-removed", &args);
        view.result(&json!({ "removed": self.fingerprint }), &human);
        Ok(Outcome::Done)
    }
}

const ROOT: &str = "meta/root/001.json";
/// Far more than a root takes.
const LONGEST: u64 = 1024 * 1024;
