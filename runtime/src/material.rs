//! A job's data, ready to train on: tokenizer, template, examples. Needs no libtorch.

use std::path::{Path, PathBuf};

use console::View;
use report::{Event, Sink, Trouble};
use serde_json::{Value, json};
#[cfg(feature = "native")]
use train::Asked;
use train::{DataSettings, Job};
use train_data::{
    Cache, ChatTemplate, DataError, EncodeSettings, HeldOut, Prepared, Request, Stage, Streamed,
    Streaming, Tally, Template, Tokenizer, prepare, tally,
};
#[cfg(feature = "native")]
use train_data::{Dropped, Question, questions};

use crate::home::Home;

/// What a run reads of its datasets and its model's tokenizer.
pub(crate) struct Ready {
    #[cfg_attr(
        not(feature = "native"),
        allow(dead_code, reason = "read only where libtorch is built in")
    )]
    pub(crate) padding_id: u32,
    pub(crate) template: Template,
    /// Empty where the data is read while it is trained on.
    pub(crate) prepared: Prepared,
    pub(crate) tokenizer: Tokenizer,
    /// Folder of the datasets.
    folder: PathBuf,
}

/// Whether what is tokenized is kept for the next start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keep {
    /// It is.
    #[cfg_attr(
        not(feature = "native"),
        allow(dead_code, reason = "nothing trains without libtorch")
    )]
    Yes,
    /// Nothing is written.
    No,
}

/// Which datasets are read, and how.
pub(crate) struct Sources<'a> {
    data: &'a DataSettings,
    names: &'a [String],
    eval_names: &'a [String],
    eval_apart: bool,
    held_out: HeldOut,
    seed: u64,
}

impl<'a> Sources<'a> {
    /// What `job` trains and is evaluated on.
    pub(crate) fn of_job(job: &'a Job) -> Self {
        Self {
            data: &job.data,
            names: &job.data.names,
            eval_names: &job.evaluation.names,
            eval_apart: job.evaluation.apart,
            held_out: job.evaluation.held_out,
            seed: job.seed,
        }
    }

    /// What a model is tried on: where nothing is held out, all of the datasets.
    #[cfg(feature = "native")]
    pub(crate) fn of_asked(data: &'a DataSettings, asked: &'a Asked, seed: u64) -> Self {
        let all = asked.held_out == HeldOut::Nothing;
        Self {
            data,
            names: if all { &[] } else { &asked.names },
            eval_names: if all { &asked.names } else { &[] },
            eval_apart: false,
            held_out: asked.held_out,
            seed,
        }
    }
}

impl Ready {
    /// Reads the datasets of `job` as the model in `folder` will see them.
    pub(crate) fn gather(
        job: &Job,
        folder: &Path,
        home: &Home,
        keep: Keep,
        view: &View,
    ) -> Result<Self, Trouble> {
        let sources = Sources::of_job(job);
        let mut ready = Self::open(&sources, folder, home, view)?;
        if job.data.streaming.is_none() {
            ready.prepare(&sources, home, keep, view)?;
        }
        Ok(ready)
    }

    /// Reads the tokenizer and the template of the model in `folder`, and no data yet.
    pub(crate) fn open(
        sources: &Sources<'_>,
        folder: &Path,
        home: &Home,
        view: &View,
    ) -> Result<Self, Trouble> {
        let data = sources.data;
        let mut tokenizer = Tokenizer::from_folder(folder)?;
        let name = data.template.as_deref();
        // Plain texts need no template, so none is missed.
        let name = name.or((data.stage == Stage::Pretrain).then_some("empty"));
        let mut template = template(name, folder, &tokenizer, view)?;
        if let Some(format) = data.tool_format {
            template = template.with_tools(format);
        }
        if let Some(system) = &data.default_system {
            template = template.with_default_system(system.clone());
        }
        tokenizer.adapt_to(&template)?;
        Ok(Self {
            padding_id: tokenizer.padding_id(),
            template,
            prepared: Prepared::default(),
            tokenizer,
            folder: datasets(data, home),
        })
    }

    /// Reads the data.
    pub(crate) fn prepare(
        &mut self,
        sources: &Sources<'_>,
        home: &Home,
        keep: Keep,
        view: &View,
    ) -> Result<(), Trouble> {
        let data = sources.data;
        let cache = Cache {
            folder: Some(home.cache.join("tokens")),
            own: data.tokenized.as_deref(),
            renew: data.renews_cache,
            reads_only: keep == Keep::No,
        };
        let (request, settings) = (self.request(sources), self.settings(data));
        self.prepared = prepare(&request, &self.tokenizer, &settings, &cache, view)?;
        Ok(())
    }

    /// Reads the data as questions to be answered.
    #[cfg(feature = "native")]
    pub(crate) fn questions(
        &self,
        sources: &Sources<'_>,
    ) -> Result<(Vec<Question>, Vec<Dropped>), Trouble> {
        let (request, settings) = (self.request(sources), self.settings(sources.data));
        Ok(questions(&request, &self.tokenizer, &settings)?)
    }

    /// Opens the data of `job` to be read while `work` trains on it.
    pub(crate) fn stream<T>(
        &self,
        job: &Job,
        streaming: Streaming,
        work: impl FnOnce(&Streamed<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let sources = Sources::of_job(job);
        let (request, settings) = (self.request(&sources), self.settings(&job.data));
        let streamed = Streamed::open(&request, &self.tokenizer, &settings, streaming)?;
        work(&streamed)
    }

    fn request<'a>(&'a self, sources: &Sources<'a>) -> Request<'a> {
        let data = sources.data;
        Request {
            folder: &self.folder,
            names: sources.names,
            eval_names: sources.eval_names,
            eval_apart: sources.eval_apart,
            mix: data.mix.clone(),
            max_samples: data.max_samples,
            stage: data.stage,
            packing: data.packing,
            chunk: data.chunk,
            workers: data.workers,
            overlap: data.overlap,
            held_out: sources.held_out,
            text_end: data.text_end(),
            seed: sources.seed,
        }
    }

    fn settings<'a>(&'a self, data: &'a DataSettings) -> EncodeSettings<'a> {
        EncodeSettings {
            template: &self.template,
            cutoff_len: data.cutoff_len,
            train_on_prompt: data.train_on_prompt,
            mask_history: data.mask_history,
            enable_thinking: data.enable_thinking,
            tool_date: &data.tool_date,
        }
    }

    /// Warns of what is left out, one line for each file and reason.
    pub(crate) fn warn(&self, view: &View) {
        warn(tally(&self.prepared.dropped), view);
    }

    /// What is left out, for results: `[{code, path, count, records}]`.
    pub(crate) fn dropped(&self) -> Value {
        json!(tally(&self.prepared.dropped))
    }
}

/// Warns of records left out, one line for each file and reason.
pub(crate) fn warn(tallies: Vec<Tally>, view: &View) {
    for tally in tallies {
        view.emit(&Event::Warned {
            code: tally.code.to_owned(),
            args: tally.args,
        });
    }
}

/// The template that is named, or the model's own.
pub(crate) fn template(
    name: Option<&str>,
    folder: &Path,
    tokenizer: &Tokenizer,
    view: &View,
) -> Result<Template, Trouble> {
    if let Some(name) = name {
        return Ok(Template::named(name)?.clone());
    }
    let Some(chat) = ChatTemplate::of_model(folder, tokenizer)? else {
        return Err(DataError::NoTemplate {
            path: folder.to_owned(),
            known: Template::names().collect::<Vec<_>>().join(", "),
        }
        .into());
    };
    let template = Template::of_model(&chat, tokenizer)?;
    view.emit(&Event::Warned {
        code: "runtime.template-of-model".to_owned(),
        args: vec![("path".to_owned(), chat.origin().display().to_string())],
    });
    Ok(template)
}

/// The job's folder of datasets, or the release's where that does not exist.
fn datasets(data: &DataSettings, home: &Home) -> PathBuf {
    let installed = home.release.as_ref().map(|r| r.join("datasets"));
    match installed {
        Some(installed) if !data.folder.exists() => installed,
        _ => data.folder.clone(),
    }
}
