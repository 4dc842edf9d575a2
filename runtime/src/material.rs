//! A job's data, ready to train on: tokenizer, template, examples. Needs no libtorch.

use std::path::{Path, PathBuf};

use console::View;
use report::{Event, Sink, Trouble};
use serde_json::{Value, json};
use train::Job;
use train_data::{
    Cache, ChatTemplate, DataError, EncodeSettings, Prepared, Request, Stage, Streamed, Streaming,
    Tally, Template, Tokenizer, prepare, tally,
};

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
    tokenizer: Tokenizer,
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

impl Ready {
    /// Reads the datasets of `job` as the model in `folder` will see them.
    pub(crate) fn gather(
        job: &Job,
        folder: &Path,
        home: &Home,
        keep: Keep,
        view: &View,
    ) -> Result<Self, Trouble> {
        let mut tokenizer = Tokenizer::from_folder(folder)?;
        let name = job.data.template.as_deref();
        // Plain texts need no template, so none is missed.
        let name = name.or((job.data.stage == Stage::Pretrain).then_some("empty"));
        let mut template = template(name, folder, &tokenizer, view)?;
        if let Some(format) = job.data.tool_format {
            template = template.with_tools(format);
        }
        tokenizer.adapt_to(&template)?;
        let mut ready = Self {
            padding_id: tokenizer.padding_id(),
            template,
            prepared: Prepared::default(),
            tokenizer,
            folder: datasets(job, home),
        };
        if job.data.streaming.is_none() {
            let cache = Cache {
                folder: Some(home.cache.join("tokens")),
                own: job.data.tokenized.as_deref(),
                renew: job.data.renews_cache,
                reads_only: keep == Keep::No,
            };
            let (request, settings) = (ready.request(job), ready.settings(job));
            ready.prepared = prepare(&request, &ready.tokenizer, &settings, &cache, view)?;
        }
        Ok(ready)
    }

    /// Opens the data of `job` to be read while `work` trains on it.
    pub(crate) fn stream<T>(
        &self,
        job: &Job,
        streaming: Streaming,
        work: impl FnOnce(&Streamed<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let (request, settings) = (self.request(job), self.settings(job));
        let streamed = Streamed::open(&request, &self.tokenizer, &settings, streaming)?;
        work(&streamed)
    }

    fn request<'a>(&'a self, job: &'a Job) -> Request<'a> {
        let data = &job.data;
        Request {
            folder: &self.folder,
            names: &data.names,
            eval_names: &job.evaluation.names,
            eval_apart: job.evaluation.apart,
            mix: data.mix.clone(),
            max_samples: data.max_samples,
            stage: data.stage,
            packing: data.packing,
            chunk: data.chunk,
            overlap: data.overlap,
            held_out: job.evaluation.held_out,
            text_end: data.text_end(),
            seed: job.seed,
        }
    }

    fn settings<'a>(&'a self, job: &'a Job) -> EncodeSettings<'a> {
        let data = &job.data;
        EncodeSettings {
            template: &self.template,
            default_system: data.default_system.clone(),
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
fn datasets(job: &Job, home: &Home) -> PathBuf {
    let installed = home.release.as_ref().map(|r| r.join("datasets"));
    match installed {
        Some(installed) if !job.data.folder.exists() => installed,
        _ => job.data.folder.clone(),
    }
}
