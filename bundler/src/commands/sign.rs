//! `sign`: adds signatures to a bundle, or makes one of a statement that was carried to another machine.

use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::{Draft, Lack, Request, Signer};
use console::View;
use report::{Outcome, Trouble};
use serde_json::json;

use crate::error::InputError;
use crate::key_folder::{open_keys, read_roots};
use crate::output::write_whole;

/// Add signatures to a bundle; nothing of its payload is read or moved
///
/// A key may lie on another machine: `sign BUNDLE --export FILE` writes the statement, `sign FILE --key DIR` signs it
/// there, `sign BUNDLE --import SIGNATURE` puts the signature into the bundle.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, one of its volumes, their folder, or a statement that was exported
    what: PathBuf,
    /// Folder of a key that signs (can be repeated)
    #[arg(long, value_name = "DIR")]
    key: Vec<PathBuf>,
    /// File whose first line is the passphrase, one for all keys or one for each [default: $FERRY_KEY_PASSPHRASE,
    /// else asked]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Vec<PathBuf>,
    /// Write the statement, for a machine that has the key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "import"])]
    export: Option<PathBuf>,
    /// Take a signature that was made on another machine (can be repeated)
    #[arg(long, value_name = "FILE")]
    import: Vec<PathBuf>,
    /// Where to write the signature of a statement [default: STATEMENT.KEYID.ALGORITHM]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        if let Some(statement) = statement(&self.what)? {
            return self.sign_statement(view, statement);
        }
        let mut draft = Draft::open(&self.what)?;
        if let Some(out) = &self.export {
            return export(view, &draft, out);
        }
        refuse_parity(&draft)?;
        for path in &self.import {
            let signature = fs::read(path).map_err(InputError::file(path))?;
            draft.take(&signature)?;
        }
        for key in open_keys(view, &self.key, &self.passphrase_file)? {
            draft.sign(&key)?;
        }
        draft.write()?;
        let (lack, signers) = (draft.lack(), draft.signers());
        say_lack(view, lack.as_ref());
        let result = json!({
            "release": draft.release_name(), "statement": draft.statement_digest(),
            "volumes": draft.paths(), "signers": signers, "complete": lack.is_none(),
            "missing": lack.as_ref().map_or(0, Lack::missing),
            "missing_keys": lack.as_ref().map(Lack::keys),
        });
        view.result(&result, &lines(&signers));
        Ok(Outcome::Done)
    }

    /// On the machine with the key.
    fn sign_statement(&self, view: &View, statement: Vec<u8>) -> Result<Outcome, Trouble> {
        let request = Request::parse(statement)?;
        view.note(
            "bundler.to-sign",
            &[
                ("title", request.title.clone()),
                ("files", request.files.to_string()),
                ("statement", request.digest().hex()),
                ("root", request.root.hex()),
            ],
        );
        let keys = open_keys(view, &self.key, &self.passphrase_file)?;
        if keys.is_empty() || (self.output.is_some() && keys.len() > 1) {
            return Err(InputError::Word {
                text: format!("--key ({})", keys.len()),
                expected: "one key, or several without --output",
            }
            .into());
        }
        let mut written = Vec::new();
        for (folder, key) in self.key.iter().zip(&keys) {
            let signature = request.sign(key, &read_roots(folder)?.0)?;
            let default = || {
                let mut name = self.what.clone().into_os_string();
                name.push(format!(".{}.{}", key.key_id(), key.public().algorithm()));
                PathBuf::from(name)
            };
            let path = self.output.clone().unwrap_or_else(default);
            write_whole(&path, &signature)?;
            written.push(path);
        }
        let shown: Vec<_> = written.iter().map(|p| p.display().to_string()).collect();
        let result = json!({ "statement": request.digest(), "signatures": written });
        view.result(&result, &shown.join("\n"));
        Ok(Outcome::Done)
    }
}

/// The bytes of an exported statement, where `path` is one.
fn statement(path: &Path) -> Result<Option<Vec<u8>>, InputError> {
    if path.is_dir() {
        return Ok(None);
    }
    let mut head = [0];
    let mut file = fs::File::open(path).map_err(InputError::file(path))?;
    let read = std::io::Read::read(&mut file, &mut head).map_err(InputError::file(path))?;
    if (read, head) != (1, *b"{") {
        return Ok(None);
    }
    fs::read(path).map(Some).map_err(InputError::file(path))
}

fn export(view: &View, draft: &Draft, out: &Path) -> Result<Outcome, Trouble> {
    write_whole(out, draft.statement())?;
    let digest = draft.statement_digest();
    view.note("bundler.exported", &[("statement", digest.hex())]);
    let result = json!({ "statement": digest, "path": out });
    view.result(&result, &out.display().to_string());
    Ok(Outcome::Done)
}

/// Parity that was made before would put the old signatures back.
fn refuse_parity(draft: &Draft) -> Result<(), InputError> {
    for path in draft.paths() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let whole = name.strip_suffix(".ferry").unwrap_or(&name);
        let stem = whole.rsplit_once(".vol").map_or(whole, |(stem, _)| stem);
        let parity = path.with_file_name(format!("{stem}.par001"));
        if parity.exists() {
            return Err(InputError::ParityBeside { path: parity });
        }
    }
    Ok(())
}

/// Says which signatures are still missing.
pub(crate) fn say_lack(view: &View, lack: Option<&Lack>) {
    match lack {
        None => {
            let none: &[(&str, String)] = &[];
            view.note("bundler.sign-complete", none);
        }
        Some(lack) => view.note(
            "bundler.sign-missing",
            &[
                ("missing", lack.missing().to_string()),
                ("keys", lack.keys().to_owned()),
            ],
        ),
    }
}

/// One line a signer.
pub(crate) fn lines(signers: &[Signer]) -> String {
    let line = |signer: &Signer| format!("{} {}", signer.algorithm, signer.key_id);
    signers.iter().map(line).collect::<Vec<_>>().join("\n")
}
