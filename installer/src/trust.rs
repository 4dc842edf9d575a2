//! Which roots count: the stored ones, one named by a flag, or one that a person has just compared.

use std::path::{Path, PathBuf};

use bundle_format::{Fault, Sealed, Signer, Verified, VerifyError};
use console::View;
use install_steps::Prefix;
use manifest_schema::{Digest, IdError};
use report::{Args, Diagnose, Outcome, Trouble};

/// The root cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The bundle's root is another than the one that was named.
    #[error("the bundle offers the trust root {offered}, not {named}")]
    Other { offered: String, named: String },
    /// Nobody is there to compare a new root.
    #[error("the trust root {offered} is new here, and there is no terminal to compare it on")]
    Unasked { offered: String, flag: String },
    /// A person looked and said no.
    #[error("the trust root {offered} was not accepted")]
    Refused { offered: String },
}

impl Diagnose for TrustError {
    fn code(&self) -> &'static str {
        match self {
            Self::Other { .. } => "installer.other-root",
            Self::Unasked { .. } => "installer.root-unasked",
            Self::Refused { .. } => "installer.root-refused",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Other { offered, named } => {
                vec![("offered", offered.clone()), ("named", named.clone())]
            }
            Self::Unasked { offered, flag } => {
                vec![("offered", offered.clone()), ("flag", flag.clone())]
            }
            Self::Refused { offered } => vec![("offered", offered.clone())],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Unasked { .. } => Outcome::Usage,
            Self::Other { .. } | Self::Refused { .. } => Outcome::Untrusted,
        }
    }
}

/// A trust root named on the command line.
#[derive(clap::Args, Debug)]
pub(crate) struct Root {
    /// Trust the root with this fingerprint, which a person has compared, and those that follow from it
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint)]
    trust_root: Option<Digest>,
}

pub(crate) fn fingerprint(text: &str) -> Result<Digest, IdError> {
    Digest::parse_hex(&plain(text))
}

/// The digits of a fingerprint as people write it: in groups, in capitals, with its algorithm before it.
fn plain(text: &str) -> String {
    let letters = text.chars().filter(|c| !c.is_whitespace() && *c != ':');
    let plain = letters.collect::<String>().to_lowercase();
    plain.strip_prefix("sha256").unwrap_or(&plain).to_owned()
}

impl Root {
    /// Opens the bundle at `path` and verifies it under the roots that count below `prefix`.
    ///
    /// A root that is not trusted yet is shown, and a person is asked. `--yes` does not answer that.
    pub(crate) fn open(
        &self,
        view: &View,
        path: &Path,
        prefix: &Prefix,
    ) -> Result<Verified, Trouble> {
        must_be_readable(path)?;
        self.verify(view, Sealed::open(path)?, prefix)
    }

    /// The same for volumes in several places, of which some may come later.
    pub(crate) fn open_at_hand(
        &self,
        view: &View,
        places: &[PathBuf],
        prefix: &Prefix,
    ) -> Result<Verified, Trouble> {
        places
            .iter()
            .try_for_each(|place| must_be_readable(place))?;
        self.verify(view, Sealed::open_at_hand(places)?, prefix)
    }

    fn verify(&self, view: &View, sealed: Sealed, prefix: &Prefix) -> Result<Verified, Trouble> {
        let offered = sealed.fingerprints_offered()?;
        let mut roots = install_steps::roots(prefix)?;
        if let Some(named) = self.trust_root {
            if !offered.contains(&named) {
                let offered = sealed.fingerprint_offered()?.hex();
                let named = named.hex();
                return Err(TrustError::Other { offered, named }.into());
            }
            roots.trust(named);
        } else if !offered.iter().any(|root| roots.contains(root)) {
            roots.trust(compare(view, &offered, "--trust-root")?);
        }
        Ok(sealed.verify(&roots)?)
    }
}

/// The keys that signed, each with what it signs with.
pub(crate) fn signers(bundle: &Verified) -> String {
    let one = |signer: &Signer| format!("{} {}", signer.algorithm, signer.key_id);
    bundle
        .signers
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Opening a named pipe waits until somebody writes into it, which may be never.
pub(crate) fn must_be_readable(path: &Path) -> Result<(), VerifyError> {
    let fault = |fault, cause| VerifyError {
        path: path.to_owned(),
        fault,
        cause,
    };
    match std::fs::metadata(path) {
        // A folder may hold the volumes of a bundle.
        Ok(found) if found.is_file() || found.is_dir() => Ok(()),
        Ok(_) => Err(fault(Fault::NotABundle, None)),
        Err(cause) => Err(fault(Fault::Unreadable, Some(cause))),
    }
}

/// Shows the fingerprints of a chain of roots, the newest first, and lets a person type the first characters of any of
/// them from the other source. Returns the one that was typed.
pub(crate) fn compare(view: &View, offered: &[Digest], flag: &str) -> Result<Digest, Trouble> {
    let newest = offered.last().map(Digest::hex).unwrap_or_default();
    let groups = |hex: &str| {
        let groups: Vec<&str> = (0..8)
            .filter_map(|part| hex.get(8 * part..8 * part + 8))
            .collect();
        groups.join(" ")
    };
    view.note("installer.root-shown", &[("fingerprint", groups(&newest))]);
    let earlier = offered.iter().rev().skip(1);
    let earlier: Vec<String> = earlier.map(|root| groups(&root.hex())).collect();
    if !earlier.is_empty() {
        let args = [("fingerprints", earlier.join("\n  "))];
        view.note("installer.root-earlier", &args);
    }
    if !view.can_ask() {
        let (offered, flag) = (newest, flag.to_owned());
        return Err(TrustError::Unasked { offered, flag }.into());
    }
    let none: &[(&str, String)] = &[];
    let answer = view.ask("installer.root-question", none, None, flag)?;
    let answer = plain(&answer);
    let typed = offered
        .iter()
        .find(|root| answer.len() >= COMPARED && root.hex().starts_with(&answer));
    typed.copied().ok_or_else(|| {
        let offered = newest;
        TrustError::Refused { offered }.into()
    })
}

/// Digits that a person must type. With half as many, somebody could make a root that begins like another one.
const COMPARED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_people_write_it() {
        let digest = Digest::of(b"root");
        let hex = digest.hex();
        let groups: Vec<&str> = (0..8).map(|at| &hex[8 * at..8 * at + 8]).collect();
        for text in [
            hex.clone(),
            hex.to_uppercase(),
            format!("SHA256:{}", hex.to_uppercase()),
            format!("sha256:{hex}"),
            groups.join(" "),
            groups.join(":"),
        ] {
            assert_eq!(fingerprint(&text).ok(), Some(digest), "{text}");
        }
        assert!(fingerprint(&hex[..63]).is_err());
    }
}
