//! Why a model cannot be read, trained or written.

use std::io;
use std::path::{Path, PathBuf};

use model_files::ModelFileError;
use report::{Args, Diagnose, Outcome};
use tch::TchError;
use torch_device::DeviceError;

/// Why a model cannot be read, trained or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{path}`")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file breaks the rules of its format.
    #[error("`{path}` is damaged or of another format: found {found}, expected {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// A folder holds no model.
    #[error("`{path}` holds no model: neither config.json nor one .gguf file")]
    NoModel {
        /// The folder.
        path: PathBuf,
    },
    /// A model of a kind that is not built in.
    #[error("`{path}` is a model of kind `{found}`; this program knows {known}")]
    UnknownArchitecture {
        /// The configuration file.
        path: PathBuf,
        /// The kind it names.
        found: String,
        /// The kinds that are built in.
        known: &'static str,
    },
    /// A setting that changes the computation in a way that is not built in.
    #[error("`{path}` asks for `{name}` = {value}, which this program does not compute")]
    UnsupportedSetting {
        /// The configuration file.
        path: PathBuf,
        /// The setting.
        name: String,
        /// Its value.
        value: String,
    },
    /// A number format that is not built in.
    #[error("`{path}` keeps `{tensor}` as {found}; this program reads {known}")]
    UnsupportedType {
        /// The weights file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its number format.
        found: String,
        /// The formats that are built in.
        known: &'static str,
    },
    /// The weights lack a tensor.
    #[error("`{path}` lacks the tensor `{tensor}`")]
    MissingTensor {
        /// The model or adapter.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("`{tensor}` in `{path}` has shape {found:?}, expected {expected:?}")]
    WrongShape {
        /// The model or adapter.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape in the file.
        found: Vec<i64>,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
    },
    /// `lora_target` names no layer of the model.
    #[error("no layer of the model is called `{name}`; there are {known}")]
    NoSuchTarget {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A batch that cannot be computed.
    #[error("a batch cannot be used: {reason}")]
    BadBatch {
        /// What is wrong.
        reason: String,
    },
    /// A prompt is longer than the model can read.
    #[error("the text has {found} tokens; the model reads {limit}")]
    TooLong {
        /// Tokens of the text.
        found: usize,
        /// Positions of the model.
        limit: i64,
    },
    /// Something that only unpacked weights allow.
    #[error("{what} does not work on packed weights")]
    NotOnPacked {
        /// What was asked for.
        what: &'static str,
    },
    /// Experts that were to be written in few bits.
    #[error("the experts of this model cannot be exported in so few bits")]
    NoPackedExperts,
    /// A matrix whose sides are no multiples of what is packed together.
    #[error(
        "`{layer}` is {rows} x {columns}; only sides that are multiples of 32 can be packed so"
    )]
    Unpackable {
        /// The layer.
        layer: String,
        /// Its rows.
        rows: i64,
        /// Its columns.
        columns: i64,
    },
    /// Texts that do not tell what a matrix is used for.
    #[error(
        "the texts do not tell how `{layer}` can be rounded: what it is given is too much alike"
    )]
    NoCalibration {
        /// The layer.
        layer: String,
    },
    /// A weight is infinite or no number.
    #[error("`{tensor}` is not finite in {numbers}")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The number format it was to be written in.
        numbers: &'static str,
    },
    /// A weight of the model or adapter is infinite or no number, so that nothing computed with it means anything.
    #[error("the weight `{tensor}` holds infinite numbers or none at all")]
    BrokenWeight {
        /// The tensor.
        tensor: String,
    },
    /// A result that is no number, of weights that are all finite.
    #[error("the model's result is not a number, though its weights are")]
    NoNumber,
    /// Memory ran out, on the processor or on an accelerator.
    #[error("memory ran out: {reason}")]
    OutOfMemory {
        /// What the library said.
        reason: String,
    },
    /// A device or another process failed.
    #[error(transparent)]
    Device(DeviceError),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Library(String),
}

impl From<TchError> for BackendError {
    fn from(error: TchError) -> Self {
        // The first line is the message; what follows is a C++ call stack.
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default().to_owned();
        if NO_MEMORY.iter().any(|words| text.contains(words)) {
            return Self::OutOfMemory { reason };
        }
        Self::Library(reason)
    }
}

impl From<DeviceError> for BackendError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Refused { reason }
                if NO_MEMORY.iter().any(|words| reason.contains(words)) =>
            {
                Self::OutOfMemory { reason }
            }
            error => Self::Device(error),
        }
    }
}

/// How libtorch's allocators, the system and vendors' libraries say that memory ran out.
const NO_MEMORY: [&str; 4] = [
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
];

impl BackendError {
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Unreadable {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Unwritable {
            path: path.to_owned(),
            source,
        }
    }

    /// What is wrong with the header of a model file.
    pub(crate) fn header(path: &Path) -> impl FnOnce(ModelFileError) -> Self + '_ {
        move |error| match error {
            ModelFileError::Unreadable { source, .. } => Self::reading(path)(source),
            ModelFileError::Flawed {
                at,
                found,
                expected,
                ..
            } => Self::malformed(path, format!("{found} ({at})"), expected),
            other => Self::malformed(path, other.to_string(), "a model file"),
        }
    }

    pub(crate) fn malformed(
        path: &Path,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

impl Diagnose for BackendError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "torch.unreadable",
            Self::Unwritable { .. } => "torch.unwritable",
            Self::Malformed { .. } => "torch.malformed",
            Self::NoModel { .. } => "torch.no-model",
            Self::UnknownArchitecture { .. } => "torch.unknown-architecture",
            Self::UnsupportedSetting { .. } => "torch.unsupported-setting",
            Self::UnsupportedType { .. } => "torch.unsupported-type",
            Self::MissingTensor { .. } => "torch.missing-tensor",
            Self::WrongShape { .. } => "torch.wrong-shape",
            Self::NoSuchTarget { .. } => "torch.no-such-target",
            Self::BadBatch { .. } => "torch.bad-batch",
            Self::TooLong { .. } => "torch.too-long",
            Self::NotOnPacked { .. } => "torch.not-on-packed",
            Self::NoPackedExperts => "torch.no-packed-experts",
            Self::Unpackable { .. } => "torch.unpackable",
            Self::NoCalibration { .. } => "torch.no-calibration",
            Self::NotFinite { .. } => "torch.not-finite",
            Self::BrokenWeight { .. } => "torch.broken-weight",
            Self::NoNumber => "torch.no-number",
            Self::OutOfMemory { .. } => "torch.out-of-memory",
            Self::Device(error) => error.code(),
            Self::Library(_) => "torch.library",
        }
    }

    fn args(&self) -> Args {
        let shown = |path: &PathBuf| path.display().to_string();
        match self {
            Self::Unreadable { path, .. }
            | Self::Unwritable { path, .. }
            | Self::NoModel { path } => vec![("path", shown(path))],
            Self::Malformed {
                path,
                found,
                expected,
            } => vec![
                ("path", shown(path)),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::UnknownArchitecture { path, found, known } => vec![
                ("path", shown(path)),
                ("found", found.clone()),
                ("known", (*known).to_owned()),
            ],
            Self::UnsupportedSetting { path, name, value } => vec![
                ("path", shown(path)),
                ("name", name.clone()),
                ("value", value.clone()),
            ],
            Self::UnsupportedType {
                path,
                tensor,
                found,
                known,
            } => vec![
                ("path", shown(path)),
                ("tensor", tensor.clone()),
                ("found", found.clone()),
                ("known", (*known).to_owned()),
            ],
            Self::MissingTensor { path, tensor } => {
                vec![("path", shown(path)), ("tensor", tensor.clone())]
            }
            Self::WrongShape {
                path,
                tensor,
                found,
                expected,
            } => vec![
                ("path", shown(path)),
                ("tensor", tensor.clone()),
                ("found", format!("{found:?}")),
                ("expected", format!("{expected:?}")),
            ],
            Self::NoSuchTarget { name, known } => {
                vec![("name", name.clone()), ("known", known.clone())]
            }
            Self::BadBatch { reason } | Self::OutOfMemory { reason } | Self::Library(reason) => {
                vec![("reason", reason.clone())]
            }
            Self::BrokenWeight { tensor } => vec![("tensor", tensor.clone())],
            Self::NoNumber | Self::NoPackedExperts => Vec::new(),
            Self::Unpackable {
                layer,
                rows,
                columns,
            } => vec![
                ("layer", layer.clone()),
                ("rows", rows.to_string()),
                ("columns", columns.to_string()),
            ],
            Self::NoCalibration { layer } => vec![("layer", layer.clone())],
            Self::NotFinite { tensor, numbers } => vec![
                ("tensor", tensor.clone()),
                ("numbers", (*numbers).to_owned()),
            ],
            Self::Device(error) => error.args(),
            Self::NotOnPacked { what } => vec![("what", (*what).to_owned())],
            Self::TooLong { found, limit } => {
                vec![("found", found.to_string()), ("limit", limit.to_string())]
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Device(error) => error.outcome(),
            Self::Unreadable { .. } | Self::Unwritable { .. } | Self::OutOfMemory { .. } => {
                Outcome::HostFault
            }
            Self::NoSuchTarget { .. }
            | Self::NotOnPacked { .. }
            | Self::NoPackedExperts
            | Self::Unpackable { .. } => Outcome::Usage,
            _ => Outcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn memory_that_runs_out_is_told_from_other_faults() {
        // More than a process can address.
        let huge = Tensor::f_zeros([1 << 46], (Kind::Float, Device::Cpu)).unwrap_err();
        let error = BackendError::from(huge);
        assert_eq!(error.code(), "torch.out-of-memory", "{error}");
        let one = |sides: [i64; 2]| Tensor::zeros(sides, (Kind::Float, Device::Cpu));
        let wrong = one([2, 3]).f_mm(&one([2, 3])).unwrap_err();
        assert_eq!(BackendError::from(wrong).code(), "torch.library");
    }
}
