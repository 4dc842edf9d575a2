//! What `chat` and `api` talk with: a model with its tokenizer, its way to write chats, and how it answers.

use std::path::PathBuf;

use console::View;
use report::Trouble;
use torch_backend::Model;
use train::Generation;
use train_data::Tokenizer;

use crate::error::RuntimeError;
use crate::native::TalkArguments;
use crate::placed_job::Desk;
use crate::speech::Speech;
use crate::{job_file, model};

/// A model to talk with.
pub(crate) struct Talk {
    pub(crate) model: Model,
    pub(crate) voice: Voice,
    /// The model as it was named.
    pub(crate) name: String,
    /// A job file or settings say how to answer, not defaults alone.
    pub(crate) told: bool,
}

/// What stands between texts and a model. Unlike the model, several threads may use it at once.
pub(crate) struct Voice {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) speech: Speech,
    /// Tokens at which an answer ends.
    pub(crate) ends: Vec<i64>,
    pub(crate) generation: Generation,
    /// Tokens that the model reads, its answer included.
    pub(crate) positions: usize,
}

impl Talk {
    /// Loads what is named.
    pub(crate) fn open(arguments: &TalkArguments, view: &View) -> Result<Self, Trouble> {
        let (path, settings) = parted(arguments);
        if path.is_none() && arguments.model.is_none() {
            return Err(RuntimeError::NothingNamed.into());
        }
        let named = arguments.model.as_deref();
        let read =
            |settings: &[String]| job_file::read_chat(path.as_deref(), settings, named, view);
        let (mut job, desk) = Desk::open(&arguments.device, &settings, view, read)?;
        if !arguments.adapter.is_empty() {
            job.used.adapters.clone_from(&arguments.adapter);
        }
        if arguments.template.is_some() {
            job.wording.template.clone_from(&arguments.template);
        }
        let files = model::find(&job.used, &desk.home, view)?;
        let mut tokenizer = Tokenizer::from_folder(files.folder())?;
        let speech = Speech::settle(&job.wording, files.folder(), &mut tokenizer)?;
        let model = model::load(&files, &job.used, desk.place)
            .map_err(|trouble| desk.explained(&job.used, trouble))?;
        let config = model.config();
        let voice = Voice {
            ends: speech.ends(&tokenizer, files.folder(), &config.end_tokens),
            positions: config.positions as usize,
            tokenizer,
            speech,
            generation: job.generation,
        };
        Ok(Self {
            model,
            voice,
            name: job.used.model,
            told: path.is_some() || !settings.is_empty(),
        })
    }
}

/// The job file and the settings. Where a model is named there may be settings alone.
fn parted(arguments: &TalkArguments) -> (Option<PathBuf>, Vec<String>) {
    let mut settings = arguments.settings.clone();
    match &arguments.job {
        Some(job) if arguments.model.is_some() && !job.exists() => {
            let text = job.display().to_string();
            if !text.contains('=') {
                return (Some(job.clone()), settings);
            }
            settings.insert(0, text);
            (None, settings)
        }
        job => (job.clone(), settings),
    }
}
