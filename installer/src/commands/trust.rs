//! `trust`: the roots under which bundles are accepted here.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bundle_format::{Algorithm, KeyError, RootChain, Sealed, TrustedRoots};
use console::View;
use install_steps::{
    Acceptance, Guard, RealDisk, TrustedRoot, add_chain, add_root, expect_root, removable_root,
    remove_root, roots, trusted_roots,
};
use manifest_schema::Digest;
use report::{Diagnose, Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::trust::{compare, fingerprint, must_be_readable};
use crate::unread::Unread;

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
    /// A root document, a file of roots, a bundle that is signed under it, or a fingerprint alone
    #[arg(value_name = "FILE|SHA256")]
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
        let typed = self.file.to_str().and_then(|text| fingerprint(text).ok());
        if let Some(typed) = typed.filter(|_| !self.file.exists()) {
            let guard = Guard::take(&RealDisk, &prefix, "trust add")?;
            expect_root(&RealDisk, &guard, &prefix, typed)?;
            let human = view.text("installer.root-expected", &[("fingerprint", typed.hex())]);
            view.result(&json!({ "expected": typed }), &human);
            return Ok(Outcome::Done);
        }
        let root = match offer(&self.file, self.fingerprint)? {
            Offer::One(document) => {
                let found = Digest::of(&document);
                let compared = match self.fingerprint {
                    Some(named) => named,
                    None => compare(view, &[found], "--fingerprint")?,
                };
                let guard = Guard::take(&RealDisk, &prefix, "trust add")?;
                add_root(&RealDisk, &guard, &prefix, &document, compared)?
            }
            Offer::Chain(chain) => {
                let all: Vec<Digest> = chain.fingerprints().collect();
                let known = roots(&prefix)?;
                let acceptance = match self.fingerprint {
                    Some(named) => Acceptance::Compared(named),
                    None if all.iter().any(|root| known.contains(root)) => Acceptance::Followed,
                    None => Acceptance::Compared(compare(view, &all, "--fingerprint")?),
                };
                let guard = Guard::take(&RealDisk, &prefix, "trust add")?;
                add_chain(&RealDisk, &guard, &prefix, &chain, acceptance)?
            }
        };
        let args = [
            ("fingerprint", root.fingerprint.hex()),
            ("version", root.version.to_string()),
        ];
        let human = view.text("installer.root-added", &args);
        view.result(&json!({ "added": root }), &human);
        Ok(Outcome::Done)
    }
}

/// What a file offers to trust.
enum Offer {
    /// A root document.
    One(Vec<u8>),
    /// A chain of roots, which holds.
    Chain(RootChain),
}

/// The roots in a file. A bundle gives its roots only where its signatures hold under them.
fn offer(path: &Path, named: Option<Digest>) -> Result<Offer, Trouble> {
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
        let several = serde_json::from_slice::<serde_json::Value>(&head)
            .is_ok_and(|value| value.get("roots").is_some());
        return Ok(if several {
            Offer::Chain(complete(&head)?)
        } else {
            Offer::One(head)
        });
    }
    let sealed = Sealed::open(path)?;
    let found = sealed.fingerprint_offered()?;
    let all = sealed.fingerprints_offered()?;
    if let Some(named) = named.filter(|named| !all.contains(named)) {
        return Err(install_steps::RootError::Other { found, named }.into());
    }
    let first = all.into_iter().take(1);
    let bundle = sealed.verify(&TrustedRoots::from_fingerprints(first))?;
    Ok(Offer::Chain(bundle.root_chain()?))
}

/// A file of roots, none of which still waits for signatures.
fn complete(bytes: &[u8]) -> Result<RootChain, KeyError> {
    let (mut chain, next) = RootChain::parse(bytes)?;
    if let Some(next) = next {
        // Says which signatures are missing.
        chain.extend(next)?;
    }
    Ok(chain)
}

impl List {
    fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let (list, broken) = trusted_roots(&prefix);
        let mut unread = Unread::default();
        unread.extend(broken);
        let mut lines: Vec<String> = list.roots.iter().map(|root| line(view, root)).collect();
        for expected in &list.expected {
            let args = [("fingerprint", expected.hex())];
            lines.push(view.text("installer.root-expected-line", &args));
        }
        if lines.is_empty() && unread.is_empty() {
            let args = [("prefix", prefix.path().display().to_string())];
            lines.push(view.text("installer.no-roots", &args));
        }
        let value = json!({
            "roots": list.roots, "expected": list.expected, "unread": unread.to_json(),
        });
        view.result(&value, &lines.join("\n"));
        Ok(unread.end(view, Outcome::Done))
    }
}

fn line(view: &View, root: &TrustedRoot) -> String {
    let key = |(key, algorithm): (&String, &Algorithm)| format!("{:<8}{key}", algorithm.name());
    let keys: Vec<String> = root.keys.iter().zip(&root.algorithms).map(key).collect();
    let args = [
        ("fingerprint", root.fingerprint.hex()),
        ("version", root.version.to_string()),
        ("threshold", root.threshold.to_string()),
        ("keys", keys.join("\n    ")),
        ("count", root.keys.len().to_string()),
    ];
    let mut lines = view.text("installer.root-line", &args);
    let mut add = |text: String| {
        lines.push_str("\n    ");
        lines.push_str(&text);
    };
    for algorithm in &root.require {
        add(view.text(
            "installer.root-requires",
            &[("algorithm", algorithm.to_string())],
        ));
    }
    for key in &root.revoked {
        add(view.text("installer.root-revoked", &[("key", key.clone())]));
    }
    let none: &[(&str, String)] = &[];
    if root.superseded {
        add(view.text("installer.root-superseded", none));
    }
    if root.system {
        let args = [("path", root.path.display().to_string())];
        add(view.text("installer.root-of-system", &args));
    }
    lines
}

impl Remove {
    fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        removable_root(&prefix, self.fingerprint)?;
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

/// Far more than a chain of roots takes.
const LONGEST: u64 = 16 * 1024 * 1024;
