//! What a job asks a model, ready to be answered.

use std::path::Path;

use console::View;
use report::Trouble;
use train::{Asked, DataSettings, TrainError};
use train_data::{Dropped, Question, Template, Tokenizer, tally};

use crate::home::Home;
use crate::material::{Ready, Sources, warn};

/// Questions, and what is needed to read the answers.
pub(crate) struct Questions {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Template,
    pub(crate) all: Vec<Question>,
    pub(crate) dropped: Vec<Dropped>,
}

impl Questions {
    /// Reads the datasets of a job as the model in `folder` will see them.
    pub(crate) fn gather(
        data: &DataSettings,
        asked: &Asked,
        seed: u64,
        folder: &Path,
        home: &Home,
        view: &View,
    ) -> Result<Self, Trouble> {
        let sources = Sources::of_asked(data, asked, seed);
        let ready = Ready::open(&sources, folder, home, view)?;
        let (all, dropped) = ready.questions(&sources)?;
        warn(tally(&dropped), view);
        if all.is_empty() {
            return Err(TrainError::NoExamples.into());
        }
        Ok(Self {
            tokenizer: ready.tokenizer,
            template: ready.template,
            all,
            dropped,
        })
    }
}
