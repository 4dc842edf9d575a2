//! When a job evaluates, saves and goes on.

use std::path::PathBuf;

use train_data::HeldOut;

use super::error::JobError;
use super::fields::Fields;

/// When something is done during a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum When {
    /// Never.
    #[default]
    Never,
    /// After every so many optimizer steps.
    Steps(u64),
    /// After every epoch.
    Epochs,
}

impl When {
    /// Whether it is time after step `step`, which does or does not end an epoch.
    pub fn is_now(self, step: u64, ends_epoch: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Steps(every) => step.is_multiple_of(every),
            Self::Epochs => ends_epoch,
        }
    }
}

/// When and on what a model is evaluated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Datasets of its own.
    pub names: Vec<String>,
    /// Each of them has a loss of its own.
    pub apart: bool,
    /// Or what is held out of the others.
    pub held_out: HeldOut,
    /// When.
    pub when: When,
    /// And once more at the end.
    pub at_end: bool,
    /// Examples in a micro-batch.
    pub batch_size: usize,
    /// The end has the weights of the checkpoint with the least evaluation loss.
    pub keep_best: bool,
    /// The run ends after this many evaluations without a lesser loss.
    pub patience: Option<u64>,
}

/// When and how checkpoints are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Saving {
    /// When; unless never, also at the end.
    pub when: When,
    /// At most this many are kept, the newest and the best.
    pub limit: Option<usize>,
    /// Without what is needed to go on.
    pub only_model: bool,
}

/// Whether a run goes on from a checkpoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Resume {
    /// From the newest in the output folder, if there is one.
    #[default]
    IfThere,
    /// From the newest in the output folder, which must be there.
    Newest,
    /// From this one.
    From(PathBuf),
}

/// What `val_size` holds out.
pub(super) fn held_out(fields: &Fields) -> Result<HeldOut, JobError> {
    let size = fields.number("val_size", 0.0, 1e12)?;
    if size <= 1e-6 {
        Ok(HeldOut::Nothing)
    } else if size < 1.0 {
        Ok(HeldOut::Part(size))
    } else if size.fract() == 0.0 {
        Ok(HeldOut::Count(size as usize))
    } else {
        Err(fields.wrong("val_size", "a part below one, or a whole number"))
    }
}

pub(super) fn evaluation(fields: &Fields) -> Result<Evaluation, JobError> {
    let names = fields.words("eval_dataset")?;
    let held_out = held_out(fields)?;
    if !names.is_empty() && held_out != HeldOut::Nothing {
        return Err(fields.conflict("val_size", "eval_dataset"));
    }
    let every = match fields.whole("eval_steps", 1)? {
        Some(every) => every,
        None => fields.whole("logging_steps", 1)?.unwrap_or(500),
    };
    let when = when(fields, "eval_strategy", every)?.unwrap_or_default();
    let nothing = names.is_empty() && held_out == HeldOut::Nothing;
    let at_end = when != When::Never || fields.flag("do_eval")?;
    if nothing && at_end {
        let key = if when == When::Never {
            "do_eval"
        } else {
            "eval_strategy"
        };
        return Err(fields.unsupported(key, "set `val_size` or `eval_dataset` to evaluate on"));
    }
    let patience = fields.whole("early_stopping_steps", 1)?;
    if patience.is_some() && when == When::Never {
        return Err(fields.unsupported("early_stopping_steps", "set `eval_strategy` to watch"));
    }
    check_metric(fields)?;
    Ok(Evaluation {
        apart: fields.flag("eval_on_each_dataset")? && !names.is_empty(),
        names,
        held_out,
        when,
        at_end,
        batch_size: fields.whole("per_device_eval_batch_size", 1)?.unwrap_or(8) as usize,
        keep_best: fields.flag("load_best_model_at_end")?,
        patience,
    })
}

/// The evaluation loss is the one metric there is, and less of it is better.
fn check_metric(fields: &Fields) -> Result<(), JobError> {
    let metric = fields.text("metric_for_best_model")?;
    if !matches!(metric.as_deref(), None | Some("loss" | "eval_loss")) {
        let reason = "the best model is the one with the least `eval_loss`";
        return Err(fields.unsupported("metric_for_best_model", reason));
    }
    if fields.flag("greater_is_better")? {
        return Err(fields.unsupported("greater_is_better", "less loss is better"));
    }
    Ok(())
}

pub(super) fn saving(fields: &Fields, evaluation: &Evaluation) -> Result<Saving, JobError> {
    let every = fields.whole("save_steps", 1)?.unwrap_or(500);
    let when = when(fields, "save_strategy", every)?.unwrap_or(When::Steps(every));
    if evaluation.keep_best {
        // A checkpoint that was never evaluated cannot be the best.
        let fits = match (when, evaluation.when) {
            (When::Steps(save), When::Steps(eval)) => save.is_multiple_of(eval),
            (When::Epochs, When::Epochs) => true,
            _ => false,
        };
        if !fits {
            let reason = "each checkpoint needs an evaluation: let `save_strategy` and `eval_strategy` be the same, and \
                 `save_steps` a multiple of `eval_steps`";
            return Err(fields.unsupported("load_best_model_at_end", reason));
        }
    }
    Ok(Saving {
        when,
        limit: fields
            .whole("save_total_limit", 1)?
            .map(|limit| limit as usize),
        only_model: fields.flag("save_only_model")?,
    })
}

pub(super) fn resume(fields: &Fields) -> Result<Resume, JobError> {
    match fields.text_of_flag("resume_from_checkpoint") {
        Ok(None | Some(false)) => Ok(Resume::IfThere),
        Ok(Some(true)) => Ok(Resume::Newest),
        Err(_) => {
            let path = fields.required("resume_from_checkpoint")?;
            Ok(Resume::From(path.into()))
        }
    }
}

/// `steps`, `epoch` or `no`.
fn when(fields: &Fields, key: &str, every: u64) -> Result<Option<When>, JobError> {
    match fields.text(key) {
        Ok(None) => Ok(None),
        Ok(Some(name)) if name == "steps" => Ok(Some(When::Steps(every))),
        Ok(Some(name)) if name == "epoch" => Ok(Some(When::Epochs)),
        Ok(Some(name)) if name == "no" => Ok(Some(When::Never)),
        // YAML 1.1 writers leave `no` bare, which reads as false.
        Err(_) if !fields.flag(key)? => Ok(Some(When::Never)),
        _ => Err(fields.unsupported(key, "only `steps`, `epoch` and `no` are there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_as_asked() {
        for (when, step, ends, expected) in [
            (When::Never, 4, true, false),
            (When::Steps(2), 4, false, true),
            (When::Steps(3), 4, true, false),
            (When::Epochs, 4, true, true),
            (When::Epochs, 4, false, false),
        ] {
            assert_eq!(when.is_now(step, ends), expected, "{when:?} {step} {ends}");
        }
    }
}
