//! What may be in a model or a dataset: no file that runs code unless the plan names it, no damaged weights.
//!
//! `lock` knows names alone, and refuses what they tell, before anything large is fetched. `build` has the bytes.

use std::collections::BTreeMap;
use std::path::Path;

use bundle_mirror::Filter;
use manifest_schema::lock::LockedComponent;
use manifest_schema::{CodeForm, CodeOnLoad, ComponentKind, PlacedFile, RepoName};
use model_files::{ModelFileError, check_shards};
use report::{Args, Diagnose, Outcome, Trouble};

/// A model or a dataset holds what it may not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    #[error("`{component}` has files that can run code when they are loaded: {files}")]
    RunsCode {
        component: String,
        files: String,
        form: CodeForm,
    },
    #[error(transparent)]
    Flawed(#[from] ModelFileError),
}

impl Diagnose for GateError {
    fn code(&self) -> &'static str {
        match self {
            Self::RunsCode { form, .. } => match form {
                CodeForm::Pickle => "gate.pickle",
                CodeForm::PickleInZip => "gate.pickle-in-zip",
                CodeForm::NumpyObjects => "gate.numpy-objects",
                CodeForm::KerasLambda => "gate.keras-lambda",
                _ => "gate.name",
            },
            Self::Flawed(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::RunsCode {
                component, files, ..
            } => vec![("component", component.clone()), ("files", files.clone())],
            Self::Flawed(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::RunsCode { .. } => Outcome::Usage,
            Self::Flawed(error) => error.outcome(),
        }
    }
}

/// The patterns of one component that let code in.
pub(crate) struct Gate<'a> {
    kind: ComponentKind,
    name: &'a RepoName,
    allowed: Vec<(&'a str, Filter)>,
}

impl<'a> Gate<'a> {
    /// The gate of `component`.
    pub(crate) fn of(component: &'a LockedComponent) -> Result<Self, Trouble> {
        let mut allowed = Vec::new();
        for pattern in &component.allow_code_on_load {
            let filter = Filter::new(std::slice::from_ref(pattern), &[])?;
            allowed.push((pattern.as_str(), filter));
        }
        Ok(Self {
            kind: component.kind,
            name: &component.name,
            allowed,
        })
    }

    /// Looks at names alone. Returns the Python programs among them, which nothing runs unasked.
    pub(crate) fn names<'n>(
        &self,
        paths: impl Iterator<Item = &'n str>,
    ) -> Result<Vec<&'n str>, GateError> {
        let (mut refused, mut programs) = (Vec::new(), Vec::new());
        for path in paths {
            match model_files::by_name(path) {
                Some(form) if form.runs_unasked() && self.allows(path).is_none() => {
                    refused.push(path);
                }
                Some(CodeForm::Python) => programs.push(path),
                _ => {}
            }
        }
        if refused.is_empty() {
            return Ok(programs);
        }
        Err(self.refuse(&refused, CodeForm::NameOnly))
    }

    /// Looks into every file. `blob` says where the bytes of a file are.
    pub(crate) fn files<P: AsRef<Path>>(
        &self,
        files: &[PlacedFile],
        blob: impl Fn(&PlacedFile) -> P,
    ) -> Result<Vec<CodeOnLoad>, GateError> {
        let (mut found, mut shards, mut indexes) = (Vec::new(), BTreeMap::new(), Vec::new());
        for file in files {
            // A message names the model too.
            let path = format!("{}/{}", self.name, file.path);
            let checked = model_files::check(blob(file).as_ref(), &path)?;
            if let Some(form) = checked.code.or_else(|| model_files::by_name(&path)) {
                found.push((file, form));
            }
            if let Some(text) = checked.index {
                indexes.push((path, text));
            } else if let Some(tensors) = checked.tensors {
                shards.insert(path, tensors);
            }
        }
        let refused = |(file, form): &&(&PlacedFile, CodeForm)| {
            form.runs_unasked() && self.allows(file.path.as_str()).is_none()
        };
        if let Some((_, first)) = found.iter().find(refused) {
            let alike = found.iter().filter(|one| one.1 == *first).filter(refused);
            let paths: Vec<_> = alike.map(|(file, _)| file.path.as_str()).collect();
            return Err(self.refuse(&paths, *first));
        }
        for (path, text) in indexes {
            check_shards(&path, &text, &shards)?;
        }
        let code = found.into_iter().map(|(file, form)| CodeOnLoad {
            kind: self.kind,
            component: self.name.clone(),
            path: file.path.clone(),
            form,
            allowed_by: self
                .allows(file.path.as_str())
                .filter(|_| form.runs_unasked())
                .map(str::to_owned),
        });
        Ok(code.collect())
    }

    /// The pattern that lets `path` in.
    fn allows(&self, path: &str) -> Option<&'a str> {
        let mut allowed = self.allowed.iter();
        allowed
            .find(|(_, filter)| filter.takes(path))
            .map(|(pattern, _)| *pattern)
    }

    fn refuse(&self, paths: &[&str], form: CodeForm) -> GateError {
        GateError::RunsCode {
            component: self.name.to_string(),
            files: paths.join(", "),
            form,
        }
    }
}
