//! Why data or a tokenizer cannot be used.

use std::path::PathBuf;

use report::{Args, Diagnose, Outcome};

use crate::dropped::Origin;

/// A dataset, template or tokenizer that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not JSON.
    #[error("`{path}`, line {line}, column {column}: not valid JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, counted from one.
        line: usize,
        /// Column, counted from one.
        column: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A value has the wrong shape.
    #[error("`{path}`, {place}: expected {expected}, found {found}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where in it, such as `record 3, field output`.
        place: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// `dataset_info.json` has no such dataset.
    #[error("dataset `{name}` is not listed in `{path}`; listed: {listed}")]
    UnknownDataset {
        /// The name asked for.
        name: String,
        /// The list.
        path: PathBuf,
        /// The names that it has.
        listed: String,
    },
    /// The original knows this, this program does not.
    #[error("`{path}`, {place}: {feature} is not supported")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// What is asked for.
        feature: String,
    },
    /// No such template.
    #[error("template `{name}` is not known; known: {known}")]
    UnknownTemplate {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No such template, but one that is spelt nearly so.
    #[error("template `{name}` is not known, did you mean `{nearest}`? known: {known}")]
    MistypedTemplate {
        /// The name asked for.
        name: String,
        /// The known name most like it.
        nearest: String,
        /// The names there are.
        known: String,
    },
    /// No template was named, and the model brings none.
    #[error("no template is named, and the model in `{path}` brings none; known: {known}")]
    NoTemplate {
        /// The model's folder.
        path: PathBuf,
        /// The names there are.
        known: String,
    },
    /// The template that a model brings cannot be used.
    #[error("the chat template in `{path}` cannot be used, line {line}: {reason}")]
    ChatTemplate {
        /// The file.
        path: PathBuf,
        /// Line of the template, counted from one; zero where it is not about one.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A data file holds no record.
    #[error("`{path}` holds no records")]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// Texts to calibrate with are too short.
    #[error("no text in `{path}` was found that has more than {tokens} tokens")]
    NoLongText {
        /// The file or folder.
        path: PathBuf,
        /// The length that was asked for.
        tokens: usize,
    },
    /// Texts that are held at once are more than a machine holds.
    #[error("`{path}` holds more than {most} GiB of text")]
    TooMuchText {
        /// The file or folder.
        path: PathBuf,
        /// What is allowed, in GiB.
        most: usize,
    },
    /// A record is longer than any model could read.
    #[error("`{path}`, record {record}: longer than {most} MiB")]
    RecordTooLarge {
        /// The file.
        path: PathBuf,
        /// The record, counted from one.
        record: usize,
        /// What is allowed, in MiB.
        most: usize,
    },
    /// A parquet file cannot be read.
    #[error("`{path}` is not a parquet file that can be read: {reason}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An Arrow file cannot be read.
    #[error("`{path}` is not an Arrow file that can be read: {reason}")]
    Arrow {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A dataset is listed by a name on a hub, or as a script.
    #[error("`{path}`, dataset {dataset}: {what} is not on this machine")]
    NotLocal {
        /// The list.
        path: PathBuf,
        /// The dataset; empty: it is about the whole list.
        dataset: String,
        /// What names it.
        what: String,
    },
    /// Tools, or calls of them, are not what a template can write.
    #[error("tools: expected {expected}, found {found}")]
    ToolJson {
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A mix would go on and on.
    #[error("the mix of datasets is not complete after {drawn} records")]
    EndlessMix {
        /// Records drawn until then.
        drawn: usize,
    },
    /// Tokenized examples cannot be used.
    #[error("`{path}`: {reason}")]
    Tokenized {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A dataset is made for another kind of training.
    #[error(
        "dataset `{name}` in `{path}` is made for {found}; this job's stage is `{stage}`, which takes {expected}"
    )]
    WrongStage {
        /// The dataset.
        name: String,
        /// The list that describes it.
        path: PathBuf,
        /// What it holds.
        found: &'static str,
        /// The job's stage.
        stage: &'static str,
        /// What that stage trains on.
        expected: &'static str,
    },
    /// A tokenizer file or table does not make a tokenizer.
    #[error("`{origin}` does not make a tokenizer")]
    Tokenizer {
        /// The file, or what the tables came from.
        origin: String,
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A special token is not in the vocabulary.
    #[error("the tokenizer of `{origin}` has no token `{token}`, which is its {role} token")]
    TokenMissing {
        /// Where the tokenizer came from.
        origin: String,
        /// The token.
        token: String,
        /// `end-of-text` or `padding`.
        role: &'static str,
    },
}

impl DataError {
    /// The same error with the place of the record that it is about, where it has none yet.
    pub(crate) fn at(self, origin: &Origin) -> Self {
        match self {
            Self::ToolJson { expected, found } => Self::Shape {
                path: origin.path.to_path_buf(),
                place: format!("record {}, tools", origin.record),
                expected,
                found,
            },
            other => other,
        }
    }
}

impl Diagnose for DataError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "data.read",
            Self::Json { .. } => "data.json",
            Self::Shape { .. } => "data.shape",
            Self::UnknownDataset { .. } => "data.unknown-dataset",
            Self::Unsupported { .. } => "data.unsupported",
            Self::UnknownTemplate { .. } => "data.unknown-template",
            Self::MistypedTemplate { .. } => "data.mistyped-template",
            Self::NoTemplate { .. } => "data.no-template",
            Self::ChatTemplate { .. } => "data.chat-template",
            Self::Empty { .. } => "data.empty",
            Self::NoLongText { .. } => "data.no-long-text",
            Self::TooMuchText { .. } => "data.too-much-text",
            Self::RecordTooLarge { .. } => "data.record-too-large",
            Self::Parquet { .. } => "data.parquet",
            Self::Arrow { .. } => "data.arrow",
            Self::NotLocal { .. } => "data.not-local",
            Self::ToolJson { .. } => "data.tool-json",
            Self::EndlessMix { .. } => "data.endless-mix",
            Self::Tokenized { .. } => "data.tokenized",
            Self::Write { .. } => "data.write",
            Self::WrongStage { .. } => "data.wrong-stage",
            Self::Tokenizer { .. } => "data.tokenizer",
            Self::TokenMissing { .. } => "data.token-missing",
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each error")]
    fn args(&self) -> Args {
        match self {
            Self::Read { path, .. } | Self::Write { path, .. } | Self::Empty { path } => {
                vec![("path", path.display().to_string())]
            }
            Self::NoLongText { path, tokens } => vec![
                ("path", path.display().to_string()),
                ("tokens", tokens.to_string()),
            ],
            Self::TooMuchText { path, most } => vec![
                ("path", path.display().to_string()),
                ("most", most.to_string()),
            ],
            Self::RecordTooLarge { path, record, most } => vec![
                ("path", path.display().to_string()),
                ("record", record.to_string()),
                ("most", most.to_string()),
            ],
            Self::Parquet { path, reason }
            | Self::Arrow { path, reason }
            | Self::Tokenized { path, reason } => vec![
                ("path", path.display().to_string()),
                ("reason", reason.clone()),
            ],
            Self::NotLocal {
                path,
                dataset,
                what,
            } => vec![
                ("path", path.display().to_string()),
                ("dataset", dataset.clone()),
                ("what", what.clone()),
            ],
            Self::ToolJson { expected, found } => {
                vec![("expected", expected.clone()), ("found", found.clone())]
            }
            Self::EndlessMix { drawn } => vec![("drawn", drawn.to_string())],
            Self::Json {
                path, line, column, ..
            } => vec![
                ("path", path.display().to_string()),
                ("line", line.to_string()),
                ("column", column.to_string()),
            ],
            Self::Shape {
                path,
                place,
                expected,
                found,
            } => vec![
                ("path", path.display().to_string()),
                ("place", place.clone()),
                ("expected", expected.clone()),
                ("found", found.clone()),
            ],
            Self::UnknownDataset { name, path, listed } => vec![
                ("name", name.clone()),
                ("path", path.display().to_string()),
                ("listed", listed.clone()),
            ],
            Self::Unsupported {
                path,
                place,
                feature,
            } => vec![
                ("path", path.display().to_string()),
                ("place", place.clone()),
                ("feature", feature.clone()),
            ],
            Self::UnknownTemplate { name, known } => {
                vec![("name", name.clone()), ("known", known.clone())]
            }
            Self::MistypedTemplate {
                name,
                nearest,
                known,
            } => vec![
                ("name", name.clone()),
                ("nearest", nearest.clone()),
                ("known", known.clone()),
            ],
            Self::NoTemplate { path, known } => vec![
                ("path", path.display().to_string()),
                ("known", known.clone()),
            ],
            Self::ChatTemplate { path, line, reason } => vec![
                ("path", path.display().to_string()),
                ("line", line.to_string()),
                ("reason", reason.clone()),
            ],
            Self::WrongStage {
                name,
                path,
                found,
                stage,
                expected,
            } => vec![
                ("name", name.clone()),
                ("path", path.display().to_string()),
                ("found", (*found).to_owned()),
                ("stage", (*stage).to_owned()),
                ("expected", (*expected).to_owned()),
            ],
            Self::Tokenizer { origin, .. } => vec![("origin", origin.clone())],
            Self::TokenMissing {
                origin,
                token,
                role,
            } => vec![
                ("origin", origin.clone()),
                ("token", token.clone()),
                ("role", (*role).to_owned()),
            ],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Read { .. } | Self::Write { .. } => Outcome::HostFault,
            _ => Outcome::Usage,
        }
    }
}
