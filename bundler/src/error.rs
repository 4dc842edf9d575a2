//! What a person can get wrong between a plan and a bundle.

use std::io;
use std::path::{Path, PathBuf};

use bundle_format::InventoryError;
use manifest_schema::plan::ManifestError;
use report::{Args, Diagnose, Outcome};

/// A plan, a lock or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot use `{}`", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("`{}` is wrong: {problem}", path.display())]
    Manifest {
        path: PathBuf,
        problem: ManifestError,
    },
    #[error("`{path}` in the plan would become `{found}`, which cannot be a path in a bundle")]
    Path { path: String, found: String },
    #[error("`{path}` would be written twice in `{owner}`")]
    Twice { owner: String, path: String },
    #[error("`{repo}` has no file that the patterns take")]
    NothingTaken { repo: String },
    #[error("`{}` is not the file that was locked: found {found}, expected {expected}", path.display())]
    Changed {
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error("`{name}` at `{revision}` is not what it was: {files}")]
    RevisionChanged {
        name: String,
        revision: String,
        files: String,
    },
    #[error("`{file_name}` ({digest}) must be brought: {from}")]
    NotBrought {
        file_name: String,
        digest: String,
        size: String,
        from: String,
    },
    #[error("`{}` describes no machine: {problem}", path.display())]
    Site { path: PathBuf, problem: String },
    #[error("`{}` exists already", path.display())]
    Exists { path: PathBuf },
    #[error("`{text}` is not {expected}")]
    Word {
        text: String,
        expected: &'static str,
    },
    #[error("cannot use the inventory `{}`", path.display())]
    Inventory {
        path: PathBuf,
        #[source]
        problem: InventoryError,
    },
    #[error("the inventory `{}` is signed by {}, not by {pinned}", path.display(), found.as_deref().unwrap_or("nobody"))]
    OtherSite {
        path: PathBuf,
        found: Option<String>,
        pinned: String,
    },
    #[error("the terms `{name}` have two different texts")]
    TermsTwice { name: String },
    #[error("the terms `{name}` (`{file}`) are empty or not UTF-8")]
    TermsNotText { name: String, file: String },
    #[error("the terms `{name}` (`{file}`) have {size}; at most 1 MiB can be shown to a person")]
    TermsTooLong {
        name: String,
        file: String,
        size: String,
    },
    #[error("the bundle is not signed by the key {key}")]
    OtherKey { key: String },
    #[error("`{}` is of the bundle as it was before", path.display())]
    ParityBeside { path: PathBuf },
    #[error("`{text}` begins the identifier of {found} keys of the root, not of one")]
    KeyUnknown { text: String, found: usize },
    #[error("`{}` has no root that waits for signatures", path.display())]
    NothingPending { path: PathBuf },
    #[error("the root would stay as it is")]
    RootUnchanged,
    #[error("nobody could sign under such a root: {cause}")]
    RootImpossible { cause: String },
    #[error("`{}` and the folder know different roots of one version", path.display())]
    RootsDiffer { path: PathBuf },
    #[error("the bundle has no image for `{wanted}`; it has {known}")]
    NoImage { wanted: String, known: String },
    #[error("`{}` holds no images", path.display())]
    NoImages { path: PathBuf },
    #[error("`{image}` is there for {known}, and this form holds one platform")]
    SeveralPlatforms { image: String, known: String },
    #[error("`{}` is the inventory of {found}, and the set is for {expected}", path.display())]
    OtherSystem {
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error("`{package}` of the set `{set}` must match a kernel, and no kernel is named")]
    NoKernel { set: String, package: String },
}

impl InputError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

impl InputError {
    /// The values of what is wrong with images.
    fn of_images(&self) -> Args {
        match self {
            Self::NoImage { wanted, known } => {
                vec![("wanted", wanted.clone()), ("known", known.clone())]
            }
            Self::SeveralPlatforms { image, known } => {
                vec![("image", image.clone()), ("known", known.clone())]
            }
            _ => Args::new(),
        }
    }
}

impl Diagnose for InputError {
    fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "bundler.file",
            Self::Manifest {
                problem: ManifestError::Other { found: "plan" },
                ..
            } => "bundler.plan-not-lock",
            Self::Manifest {
                problem: ManifestError::Other { .. },
                ..
            } => "bundler.lock-not-plan",
            // Of the whole document there is no better place than the line.
            Self::Manifest {
                problem: ManifestError::Shape { at, .. },
                ..
            } if matches!(at.as_str(), "." | "?") => "bundler.manifest-text",
            Self::Manifest {
                problem: ManifestError::Shape { .. },
                ..
            } => "bundler.manifest-shape",
            Self::Manifest { .. } => "bundler.manifest-value",
            Self::Path { .. } => "bundler.path",
            Self::Twice { .. } => "bundler.twice",
            Self::NothingTaken { .. } => "bundler.nothing-taken",
            Self::Changed { .. } => "bundler.changed",
            Self::RevisionChanged { .. } => "bundler.revision-changed",
            Self::NotBrought { .. } => "bundler.not-brought",
            Self::Site { .. } => "bundler.site",
            Self::Exists { .. } => "bundler.exists",
            Self::Word { .. } => "bundler.word",
            Self::Inventory { .. } => "bundler.inventory",
            Self::OtherSite { found: None, .. } => "bundler.inventory-nobody",
            Self::OtherSite { .. } => "bundler.inventory-other",
            Self::TermsTwice { .. } => "bundler.terms-twice",
            Self::TermsNotText { .. } => "bundler.terms-not-text",
            Self::TermsTooLong { .. } => "bundler.terms-too-long",
            Self::OtherKey { .. } => "bundler.other-key",
            Self::ParityBeside { .. } => "bundler.parity-beside",
            Self::KeyUnknown { .. } => "bundler.key-unknown",
            Self::NothingPending { .. } => "bundler.nothing-pending",
            Self::RootUnchanged => "bundler.root-unchanged",
            Self::RootImpossible { .. } => "bundler.root-impossible",
            Self::RootsDiffer { .. } => "bundler.roots-differ",
            Self::NoImage { .. } => "bundler.no-image",
            Self::NoImages { .. } => "bundler.no-images",
            Self::SeveralPlatforms { .. } => "bundler.several-platforms",
            Self::OtherSystem { .. } => "bundler.other-system",
            Self::NoKernel { .. } => "bundler.no-kernel",
        }
    }

    fn args(&self) -> Args {
        let shown = |path: &Path| path.display().to_string();
        match self {
            Self::File { path, .. }
            | Self::Exists { path }
            | Self::Inventory { path, .. }
            | Self::ParityBeside { path }
            | Self::NothingPending { path }
            | Self::NoImages { path }
            | Self::RootsDiffer { path } => vec![("path", shown(path))],
            Self::KeyUnknown { text, found } => {
                vec![("text", text.clone()), ("found", found.to_string())]
            }
            Self::RootUnchanged => Args::new(),
            Self::RootImpossible { cause } => vec![("cause", cause.clone())],
            Self::Manifest { path, problem } => of_manifest(path, problem),
            Self::Site { path, problem } => {
                vec![("path", shown(path)), ("problem", problem.clone())]
            }
            Self::Path { path, found } => vec![("path", path.clone()), ("found", found.clone())],
            Self::Twice { owner, path } => vec![("owner", owner.clone()), ("path", path.clone())],
            Self::RevisionChanged {
                name,
                revision,
                files,
            } => vec![
                ("name", name.clone()),
                ("revision", revision.clone()),
                ("files", files.clone()),
            ],
            Self::NotBrought {
                file_name,
                digest,
                size,
                from,
            } => vec![
                ("file", file_name.clone()),
                ("digest", digest.clone()),
                ("size", size.clone()),
                ("from", from.clone()),
            ],
            Self::NothingTaken { repo } => vec![("repo", repo.clone())],
            Self::Changed {
                path,
                found,
                expected,
            }
            | Self::OtherSystem {
                path,
                found,
                expected,
            } => vec![
                ("path", shown(path)),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::Word { text, expected } => {
                vec![("text", text.clone()), ("expected", (*expected).to_owned())]
            }
            Self::OtherSite {
                path,
                found,
                pinned,
            } => vec![
                ("path", shown(path)),
                ("found", found.clone().unwrap_or_default()),
                ("pinned", pinned.clone()),
            ],
            Self::TermsTwice { name } => vec![("name", name.clone())],
            Self::TermsNotText { name, file } => {
                vec![("name", name.clone()), ("file", file.clone())]
            }
            Self::TermsTooLong { name, file, size } => vec![
                ("name", name.clone()),
                ("file", file.clone()),
                ("size", size.clone()),
            ],
            Self::OtherKey { key } => vec![("key", key.clone())],
            Self::NoImage { .. } | Self::SeveralPlatforms { .. } => self.of_images(),
            Self::NoKernel { set, package } => {
                vec![("set", set.clone()), ("package", package.clone())]
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::File { .. } => Outcome::HostFault,
            Self::Inventory { problem, .. } => problem.outcome(),
            Self::Changed { .. }
            | Self::OtherSite { .. }
            | Self::OtherKey { .. }
            | Self::RevisionChanged { .. }
            | Self::RootsDiffer { .. } => Outcome::Untrusted,
            _ => Outcome::Usage,
        }
    }
}

/// What is wrong in a manifest, and where.
fn of_manifest(path: &Path, problem: &ManifestError) -> Args {
    let shown = |path: &Path| path.display().to_string();
    match problem {
        ManifestError::Other { .. } => vec![("path", shown(path))],
        ManifestError::Shape {
            line,
            column,
            at,
            problem,
        } => vec![
            ("path", shown(path)),
            ("line", line.to_string()),
            ("column", column.to_string()),
            ("at", at.clone()),
            ("problem", problem.clone()),
        ],
        ManifestError::Value {
            at,
            found,
            expected,
        } => vec![
            ("path", shown(path)),
            ("at", at.clone()),
            ("found", found.clone()),
            ("expected", expected.clone()),
        ],
    }
}
