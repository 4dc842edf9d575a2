//! When a job evaluates, saves and goes on.

use std::path::PathBuf;

use train_data::HeldOut;

use super::error::JobError;
use super::fields::Fields;
use super::tuning::signed;

/// How many optimizer steps lie between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Every {
    /// So many.
    Steps(u64),
    /// This part of all steps of the run.
    Part(f64),
}

impl Every {
    /// The number of steps in a run of `total`; at least one.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Part(part) => (total as f64 * part).ceil() as u64,
        }
        .max(1)
    }

    /// Whether each of these moments is one of `other`'s, too.
    fn is_multiple_of(self, other: Self) -> bool {
        // As exact as the original takes parts.
        const FINE: f64 = 1e6;
        match (self, other) {
            (Self::Steps(own), Self::Steps(other)) => own.is_multiple_of(other),
            (Self::Part(own), Self::Part(other)) => {
                let [own, other] = [own, other].map(|part| (part * FINE).round().max(1.0) as u64);
                own.is_multiple_of(other)
            }
            _ => false,
        }
    }
}

impl Default for Every {
    fn default() -> Self {
        Self::Steps(500)
    }
}

/// When something is done during a run: unless never, also at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum When {
    /// Never.
    #[default]
    Never,
    /// After every so many optimizer steps.
    Steps(Every),
    /// After every epoch.
    Epochs,
}

impl When {
    /// Whether it is time after step `step` of `total`, which does or does not end an epoch.
    pub fn is_now(self, step: u64, total: u64, ends_epoch: bool) -> bool {
        let ends = step == total;
        match self {
            Self::Never => false,
            Self::Steps(every) => ends || step.is_multiple_of(every.of(total)),
            Self::Epochs => ends || ends_epoch,
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
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Saving {
    /// When.
    pub when: When,
    /// At most this many are kept: the newest, and the best where that is asked for.
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
    let every = match every(fields, "eval_steps")? {
        Some(every) => every,
        None => every(fields, "logging_steps")?.unwrap_or_default(),
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
    let every = every(fields, "save_steps")?.unwrap_or_default();
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
        // As in the original, zero or less is no limit.
        limit: signed(fields, "save_total_limit")?
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|limit| *limit > 0),
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

/// A number of steps, or, below one, a part of all of them.
pub(super) fn every(fields: &Fields, key: &str) -> Result<Option<Every>, JobError> {
    match fields.number(key, 1.0, 1e12) {
        Ok(part) if part > 0.0 && part < 1.0 => Ok(Some(Every::Part(part))),
        _ => Ok(fields.whole(key, 1)?.map(Every::Steps)),
    }
}

/// `steps`, `epoch` or `no`.
fn when(fields: &Fields, key: &str, every: Every) -> Result<Option<When>, JobError> {
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
        let steps = |every| When::Steps(Every::Steps(every));
        let part = |part| When::Steps(Every::Part(part));
        for (when, step, ends, expected) in [
            (When::Never, 4, true, false),
            (When::Never, 10, true, false),
            (steps(2), 4, false, true),
            (steps(3), 4, true, false),
            (steps(3), 10, true, true),
            (part(0.25), 3, false, true),
            (part(0.25), 4, false, false),
            (part(1e-9), 4, false, true),
            (When::Epochs, 4, true, true),
            (When::Epochs, 4, false, false),
            (When::Epochs, 10, false, true),
        ] {
            let now = when.is_now(step, 10, ends);
            assert_eq!(now, expected, "{when:?} {step} {ends}");
        }
    }

    #[test]
    fn each_save_must_be_an_evaluation() {
        use Every::{Part, Steps};
        for (save, eval, fits) in [
            (Steps(4), Steps(2), true),
            (Steps(3), Steps(2), false),
            (Part(0.2), Part(0.1), true),
            (Part(0.3), Part(0.1), true),
            (Part(0.25), Part(0.1), false),
            (Part(0.5), Steps(1), false),
        ] {
            assert_eq!(save.is_multiple_of(eval), fits, "{save:?} {eval:?}");
        }
    }
}
