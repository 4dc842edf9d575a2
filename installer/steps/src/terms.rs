//! Terms that a person must accept: which texts are still open, and the record of who accepted what.
//!
//! A text counts by its digest. A name that stands for two texts in one bundle is refused, since whoever accepts
//! the name would accept one of them unread. The log keeps the digest, the time, the user and the way.

use manifest_schema::{BackendName, Digest, EulaName, HostKind, LONGEST_EULA, PlacedFile};
use report::{Args, Diagnose, Outcome};

use bundle_format::{Verified, VerifyError};

use crate::disk::{Disk, DiskError, read_small};
use crate::guard::Guard;
use crate::journal::{AcceptedBy, Action, Journal, JournalError};
use crate::prefix::Prefix;

/// Terms cannot be shown, so nobody can accept them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TermsError {
    /// One name stands for two texts.
    #[error("the terms `{name}` have two different texts in this bundle")]
    TwoTexts {
        /// The name.
        name: EulaName,
    },
    /// The text is not one that can be shown.
    #[error(
        "the terms `{name}` are no text that can be shown: not UTF-8, empty, or longer than 1 MiB"
    )]
    NotText {
        /// The name.
        name: EulaName,
    },
    /// The bundle's bytes are not what was signed.
    #[error(transparent)]
    Bundle(#[from] VerifyError),
    /// The log cannot be read or continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for TermsError {
    fn code(&self) -> &'static str {
        match self {
            Self::TwoTexts { .. } => "install.terms-two-texts",
            Self::NotText { .. } => "install.terms-not-text",
            Self::Bundle(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::TwoTexts { name } | Self::NotText { name } => vec![("name", name.to_string())],
            Self::Bundle(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::TwoTexts { .. } | Self::NotText { .. } => Outcome::Untrusted,
            Self::Bundle(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}

/// Terms that nobody accepted here yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Term {
    /// What `--accept-eula` calls them.
    pub name: EulaName,
    /// SHA-256 of the text.
    pub digest: Digest,
    /// All of it.
    pub text: String,
}

/// The terms of the models, the datasets, the backend and of its installers of these kinds that were not accepted
/// below `prefix` before, each text once.
///
/// # Errors
/// When a text cannot be read, or a name stands for two.
pub fn pending_terms(
    bundle: &Verified,
    prefix: &Prefix,
    backend: Option<&BackendName>,
    kinds: &[HostKind],
) -> Result<Vec<Term>, TermsError> {
    let all = bundle
        .profiles
        .eulas(backend)
        .map_err(|name| TermsError::TwoTexts { name })?;
    let journal = Journal::read(prefix)?;
    let chosen = bundle.profiles.backends.iter();
    let chosen = chosen.filter(|one| Some(&one.name) == backend);
    let idle: Vec<&EulaName> = chosen
        .flat_map(|one| &one.host)
        .filter(|item| !kinds.contains(&item.kind))
        .filter_map(|item| item.eula.as_ref().map(|eula| &eula.name))
        .filter(|name| !needed_elsewhere(bundle, backend, kinds, name))
        .collect();
    let mut terms: Vec<Term> = Vec::new();
    for (name, file) in all {
        let seen = terms.iter().any(|term| term.digest == file.digest);
        if !seen && !idle.contains(&name) && !journal.accepted(&file.digest) {
            terms.push(Term {
                name: name.clone(),
                digest: file.digest,
                text: text_of(bundle, prefix, name, file)?,
            });
        }
    }
    Ok(terms)
}

/// Whether terms stand before something else than an installer that will not run.
fn needed_elsewhere(
    bundle: &Verified,
    backend: Option<&BackendName>,
    kinds: &[HostKind],
    name: &EulaName,
) -> bool {
    let profiles = &bundle.profiles;
    let mut of_components = profiles.components.iter().flat_map(|one| &one.eulas);
    let mut chosen = profiles
        .backends
        .iter()
        .filter(|one| Some(&one.name) == backend);
    of_components.any(|eula| eula.name == *name)
        || chosen.any(|one| {
            let runs = one.host.iter().filter(|item| kinds.contains(&item.kind));
            let of_host = runs.filter_map(|item| item.eula.as_ref());
            one.eulas
                .iter()
                .chain(of_host)
                .any(|eula| eula.name == *name)
        })
}

fn text_of(
    bundle: &Verified,
    prefix: &Prefix,
    name: &EulaName,
    file: &PlacedFile,
) -> Result<String, TermsError> {
    let not_text = || TermsError::NotText { name: name.clone() };
    if file.size.0 > LONGEST_EULA {
        return Err(not_text());
    }
    let bytes = if bundle.blob(&file.digest).is_some() {
        bundle.blob_bytes(&file.digest)?
    } else {
        // A delta leaves out what the store has; what is there is believed only by its digest.
        read_small(&prefix.blob(&file.digest), LONGEST_EULA)?
    };
    if Digest::of(&bytes) != file.digest {
        return Err(not_text());
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.trim().is_empty() => Ok(text),
        _ => Err(not_text()),
    }
}

/// Writes into the log that these terms were accepted.
///
/// # Errors
/// When the log cannot be continued.
pub fn accept_terms(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    accepted: &[(Term, AcceptedBy)],
    login: Option<&str>,
) -> Result<(), JournalError> {
    let mut journal = Journal::read(prefix)?;
    for (term, by) in accepted {
        let action = Action::AcceptTerms {
            terms: term.name.clone(),
            text: term.digest,
            by: *by,
            login: login.map(str::to_owned),
        };
        journal.add(disk, prefix, action)?;
    }
    Ok(())
}
