//! Models and datasets that lie on this machine, and how a plan names files of this machine.

use std::path::{Path, PathBuf};

use bundle_mirror::Filter;
use manifest_schema::plan::{FileSource, PlanComponent, PlanFile, Source};
use manifest_schema::{BundlePath, RepoName};
use report::Trouble;
use walkdir::WalkDir;

use super::word;
use crate::commands::lock::folder_of;
use crate::error::InputError;
use crate::locking::relative;
use crate::wizard::{MODEL_FILES, component};

/// Models and datasets of this machine.
#[derive(clap::Args)]
pub(crate) struct Local {
    /// Model in a folder of this machine (can be repeated)
    #[arg(long, value_name = "NAME=DIR", value_parser = placed)]
    model_folder: Vec<(RepoName, PathBuf)>,
    /// Dataset in a folder or a file of this machine (can be repeated)
    #[arg(long, value_name = "NAME=PATH", value_parser = placed)]
    dataset_folder: Vec<(RepoName, PathBuf)>,
}

/// Where files lie, seen from the plan that names them.
pub(super) struct Places {
    folder: PathBuf,
}

impl Places {
    /// For a plan that is to be written to `plan`.
    pub(super) fn from(plan: &Path) -> Result<Self, InputError> {
        let folder = folder_of(plan)?;
        Ok(Self { folder })
    }

    /// The way to a file that is there.
    pub(super) fn of(&self, path: &Path) -> Result<String, InputError> {
        let found = path.canonicalize().map_err(InputError::file(path))?;
        Ok(relative(&self.folder, &found))
    }

    /// The file as a source.
    pub(super) fn file(&self, path: &Path) -> Result<Source, InputError> {
        Ok(Source::File(FileSource {
            path: self.of(path)?,
            member: None,
            members: Vec::new(),
            strip: String::new(),
        }))
    }
}

impl Local {
    /// Names of the models, then of the datasets.
    pub(super) fn names(&self) -> Vec<String> {
        let all = self.model_folder.iter().chain(&self.dataset_folder);
        all.map(|(name, _)| name.to_string()).collect()
    }

    /// The models and the datasets, each under its licence.
    pub(super) fn planned(
        self,
        licenses: &mut impl Iterator<Item = String>,
        places: &Places,
    ) -> Result<(Vec<PlanComponent>, Vec<PlanComponent>), Trouble> {
        let mut planned = |all: Vec<(RepoName, PathBuf)>, patterns: &[&str]| {
            let mut components = Vec::new();
            for ((name, path), license) in all.into_iter().zip(&mut *licenses) {
                let files = files(&path, patterns, places)?;
                components.push(PlanComponent {
                    files,
                    ..component(name, license)
                });
            }
            Ok::<_, Trouble>(components)
        };
        let models = planned(self.model_folder, &MODEL_FILES)?;
        Ok((models, planned(self.dataset_folder, &[])?))
    }
}

/// The files of a folder that the patterns take, or the one file, ordered by name.
fn files(path: &Path, patterns: &[&str], places: &Places) -> Result<Vec<PlanFile>, Trouble> {
    let patterns: Vec<String> = patterns.iter().map(|one| (*one).to_owned()).collect();
    let filter = Filter::new(&patterns, &[])?;
    let mut files = Vec::new();
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| InputError::File {
            path: error.path().unwrap_or(path).to_owned(),
            source: error.into(),
        })?;
        let below = entry.path().strip_prefix(path).unwrap_or(entry.path());
        let name = match below.to_string_lossy() {
            // The path is the file itself.
            name if name.is_empty() => entry.file_name().to_string_lossy().into_owned(),
            name => name.into_owned(),
        };
        if !entry.file_type().is_file() || !filter.takes(&name) {
            continue;
        }
        files.push(PlanFile {
            path: BundlePath::parse(&name).map_err(|error| word(&name, error.expected))?,
            executable: false,
            source: places.file(entry.path())?,
        });
    }
    if files.is_empty() {
        let repo = path.display().to_string();
        return Err(InputError::NothingTaken { repo }.into());
    }
    Ok(files)
}

/// Reads `NAME=PATH`.
fn placed(text: &str) -> Result<(RepoName, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("write it as NAME=PATH")?;
    let name = RepoName::parse(name).map_err(|error| error.to_string())?;
    Ok((name, PathBuf::from(path)))
}
