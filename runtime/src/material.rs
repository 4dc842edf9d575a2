//! A job's data, ready to train on: tokenizer, template, examples. Needs no libtorch.

use std::path::{Path, PathBuf};

use console::View;
use report::{Event, Sink, Trouble};
use serde_json::{Value, json};
use train::Job;
use train_data::{
    ChatTemplate, DataError, EncodeSettings, Prepared, Request, Stage, Template, Tokenizer,
    prepare, tally,
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
    pub(crate) prepared: Prepared,
}

impl Ready {
    /// Reads the datasets of `job` as the model in `folder` will see them.
    pub(crate) fn gather(
        job: &Job,
        folder: &Path,
        home: &Home,
        view: &View,
    ) -> Result<Self, Trouble> {
        let mut tokenizer = Tokenizer::from_folder(folder)?;
        let name = job.data.template.as_deref();
        // Plain texts need no template, so none is missed.
        let name = name.or((job.data.stage == Stage::Pretrain).then_some("empty"));
        let template = template(name, folder, &tokenizer, view)?;
        tokenizer.adapt_to(&template)?;
        let data = &job.data;
        let settings = EncodeSettings {
            template: &template,
            default_system: data.default_system.clone(),
            cutoff_len: data.cutoff_len,
            train_on_prompt: data.train_on_prompt,
            mask_history: data.mask_history,
            enable_thinking: data.enable_thinking,
        };
        let folder = datasets(job, home);
        let request = Request {
            folder: &folder,
            names: &data.names,
            eval_names: &job.evaluation.names,
            max_samples: data.max_samples,
            stage: data.stage,
            packing: data.packing,
            chunk: data.chunk,
            held_out: job.evaluation.held_out,
            text_end: data.text_end(),
        };
        let prepared = prepare(&request, &tokenizer, &settings, job.seed)?;
        Ok(Self {
            padding_id: tokenizer.padding_id(),
            template,
            prepared,
        })
    }

    /// Warns of what is left out, one line for each file and reason.
    pub(crate) fn warn(&self, view: &View) {
        for tally in tally(&self.prepared.dropped) {
            view.emit(&Event::Warned {
                code: tally.code.to_owned(),
                args: tally.args,
            });
        }
    }

    /// What is left out, for results: `[{code, path, count, records}]`.
    pub(crate) fn dropped(&self) -> Value {
        json!(tally(&self.prepared.dropped))
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
