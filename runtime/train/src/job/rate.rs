//! The shape of a job's learning rate (`lr_scheduler_type`) and what it says of it (`lr_scheduler_kwargs`).

use serde_json::{Map, Value};

use super::error::JobError;
use super::fields::Fields;
use crate::schedule::{Curve, Plateau, Scheduler, Stages};

const SETTINGS: &str = "lr_scheduler_kwargs";

/// Every shape by its name, with the settings that it takes.
const SHAPES: [(&str, &[&str]); 11] = [
    ("linear", &[]),
    ("cosine", &["num_cycles"]),
    ("cosine_with_restarts", &["num_cycles"]),
    ("polynomial", &["lr_end", "power"]),
    // In the original these take none and fail with some.
    ("constant", &[]),
    ("constant_with_warmup", &[]),
    ("inverse_sqrt", &["timescale"]),
    (
        "cosine_with_min_lr",
        &["num_cycles", "min_lr", "min_lr_rate"],
    ),
    (
        "cosine_warmup_with_min_lr",
        &["num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"],
    ),
    (
        "warmup_stable_decay",
        &[
            "num_stable_steps",
            "num_decay_steps",
            "warmup_type",
            "decay_type",
            "min_lr_ratio",
            "num_cycles",
        ],
    ),
    (
        "reduce_lr_on_plateau",
        &[
            "mode",
            "factor",
            "patience",
            "threshold",
            "threshold_mode",
            "cooldown",
            "min_lr",
            "eps",
        ],
    ),
];

/// Reads the shape of a rate that rises to `peak`. `evaluates`: there is a loss to wait for.
pub(super) fn scheduler(
    fields: &Fields,
    peak: f64,
    evaluates: bool,
) -> Result<Scheduler, JobError> {
    let name = fields.text("lr_scheduler_type")?;
    let name = name.as_deref().unwrap_or("linear");
    let Some((name, known)) = SHAPES.iter().find(|(shape, _)| *shape == name) else {
        let known = SHAPES.map(|(shape, _)| shape).join(", ");
        return Err(fields.wrong("lr_scheduler_type", &format!("one of {known}")));
    };
    let settings = Settings {
        fields,
        given: fields.map(SETTINGS)?,
    };
    if settings
        .given
        .keys()
        .any(|key| !known.contains(&key.as_str()))
    {
        let known = if known.is_empty() {
            "nothing".to_owned()
        } else {
            known.join(", ")
        };
        return Err(fields.wrong(SETTINGS, &format!("{known} with `{name}`")));
    }
    let cycles = |usual| settings.number("num_cycles", usual);
    Ok(match *name {
        "linear" => Scheduler::Linear,
        "cosine" => Scheduler::Cosine {
            cycles: cycles(0.5)?,
        },
        "cosine_with_restarts" => Scheduler::CosineWithRestarts {
            cycles: cycles(1.0)?,
        },
        "polynomial" => {
            let end = settings.number("lr_end", 1e-7)?;
            if end >= peak {
                return Err(settings.wrong("`lr_end` below `learning_rate`"));
            }
            let power = settings.number("power", 1.0)?;
            Scheduler::Polynomial { end, power }
        }
        "constant" => Scheduler::Constant,
        "constant_with_warmup" => Scheduler::ConstantWithWarmup,
        "inverse_sqrt" => {
            let timescale = settings.optional("timescale")?;
            if timescale == Some(0.0) {
                return Err(settings.wrong("a `timescale` above 0"));
            }
            Scheduler::InverseSqrt { timescale }
        }
        "cosine_with_min_lr" => Scheduler::CosineAbove {
            cycles: cycles(0.5)?,
            least: settings.least(peak)?,
        },
        "cosine_warmup_with_min_lr" => Scheduler::CosineAhead {
            cycles: cycles(0.5)?,
            least: settings.least(peak)?,
            start: settings.optional("warmup_lr_rate")?,
        },
        "warmup_stable_decay" => Scheduler::Stages(Stages {
            level: settings.whole("num_stable_steps")?,
            fall: settings.whole("num_decay_steps")?,
            rising: settings.curve("warmup_type", Curve::Line)?,
            falling: settings.curve("decay_type", Curve::Wave)?,
            least: settings.number("min_lr_ratio", 0.0)?,
            cycles: cycles(0.5)?,
        }),
        _ => {
            if !evaluates {
                let reason =
                    "set `eval_strategy`: the rate falls when the evaluation loss does not";
                return Err(fields.unsupported("lr_scheduler_type", reason));
            }
            Scheduler::Plateau(settings.plateau()?)
        }
    })
}

/// What a job says of its schedule.
struct Settings<'a> {
    fields: &'a Fields,
    given: Map<String, Value>,
}

impl Settings<'_> {
    fn wrong(&self, expected: &str) -> JobError {
        self.fields.wrong(SETTINGS, expected)
    }

    fn optional(&self, key: &str) -> Result<Option<f64>, JobError> {
        const MOST: f64 = 1e12;
        let number = match self.given.get(key) {
            None | Some(Value::Null) => return Ok(None),
            // YAML 1.2 reads `1e-4` as text.
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_f64(),
        };
        let fits = number.filter(|number| (0.0..=MOST).contains(number));
        fits.map(Some)
            .ok_or_else(|| self.wrong(&format!("a number from 0 to {MOST} as `{key}`")))
    }

    fn number(&self, key: &str, usual: f64) -> Result<f64, JobError> {
        Ok(self.optional(key)?.unwrap_or(usual))
    }

    fn whole(&self, key: &str) -> Result<Option<u64>, JobError> {
        match self.optional(key)? {
            Some(number) if number.fract() != 0.0 => {
                Err(self.wrong(&format!("a whole number as `{key}`")))
            }
            number => Ok(number.map(|number| number as u64)),
        }
    }

    fn curve(&self, key: &str, usual: Curve) -> Result<Curve, JobError> {
        let Some(name) = self.given.get(key) else {
            return Ok(usual);
        };
        let found = Curve::NAMES.iter().find(|(known, _)| name == known);
        found.map(|(_, curve)| *curve).ok_or_else(|| {
            let known = Curve::NAMES.map(|(known, _)| known).join(", ");
            self.wrong(&format!("one of {known} as `{key}`"))
        })
    }

    /// The least rate as a part of the greatest: one of two settings says it.
    fn least(&self, peak: f64) -> Result<f64, JobError> {
        let (rate, part) = (self.optional("min_lr")?, self.optional("min_lr_rate")?);
        match (rate, part) {
            (Some(rate), None) if peak > 0.0 => Ok(rate / peak),
            (None, Some(part)) => Ok(part),
            _ => Err(self.wrong("either `min_lr` or `min_lr_rate`")),
        }
    }

    fn plateau(&self) -> Result<Plateau, JobError> {
        let is = |key: &str, usual: &str| match self.given.get(key) {
            None => Ok(true),
            Some(value) if value == "rel" || value == "abs" || value == "min" => Ok(value == usual),
            Some(_) => Err(self.wrong("`mode: min`, and `rel` or `abs` as `threshold_mode`")),
        };
        if !is("mode", "min")? {
            return Err(self.wrong("`mode: min`: less loss is better"));
        }
        let factor = self.number("factor", 0.1)?;
        if factor >= 1.0 {
            return Err(self.wrong("a `factor` below 1"));
        }
        Ok(Plateau {
            factor,
            patience: self.whole("patience")?.unwrap_or(10),
            threshold: self.number("threshold", 1e-4)?,
            relative: is("threshold_mode", "rel")?,
            pause: self.whole("cooldown")?.unwrap_or(0),
            least: self.number("min_lr", 0.0)?,
            smallest: self.number("eps", 1e-8)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Job;

    fn parse(more: &str) -> Result<Job, super::JobError> {
        let text = format!(
            "model_name_or_path: m\ndataset: a\ntemplate: qwen\noutput_dir: o\nreport_to: none\n{more}"
        );
        Job::parse("job.yaml", &text, &[])
    }

    #[test]
    fn settings_that_fit_no_schedule_are_told() {
        for (more, expected) in [
            ("lr_scheduler_type: wobbly", "one of linear, cosine"),
            (
                "lr_scheduler_kwargs: {num_cycles: 2}",
                "nothing with `linear`",
            ),
            (
                "lr_scheduler_type: cosine\nlr_scheduler_kwargs: {cycles: 2}",
                "num_cycles with `cosine`",
            ),
            (
                "lr_scheduler_type: cosine\nlr_scheduler_kwargs: much",
                "settings by name",
            ),
            (
                "lr_scheduler_type: cosine_with_min_lr",
                "either `min_lr` or `min_lr_rate`",
            ),
            (
                "lr_scheduler_type: polynomial\nlr_scheduler_kwargs: {lr_end: 1}",
                "`lr_end` below `learning_rate`",
            ),
            (
                "lr_scheduler_type: inverse_sqrt\nlr_scheduler_kwargs: {timescale: 0}",
                "above 0",
            ),
            (
                "lr_scheduler_type: warmup_stable_decay\nlr_scheduler_kwargs: {decay_type: step}",
                "one of linear, cosine, 1-sqrt as `decay_type`",
            ),
            (
                "lr_scheduler_type: warmup_stable_decay\nlr_scheduler_kwargs: {num_decay_steps: 1.5}",
                "a whole number as `num_decay_steps`",
            ),
            (
                "lr_scheduler_type: reduce_lr_on_plateau",
                "set `eval_strategy`",
            ),
            (
                "lr_scheduler_type: reduce_lr_on_plateau\nval_size: 1\neval_strategy: steps\n\
                 lr_scheduler_kwargs: {mode: max}",
                "`mode: min`",
            ),
            (
                "lr_scheduler_type: reduce_lr_on_plateau\nval_size: 1\neval_strategy: steps\n\
                 lr_scheduler_kwargs: {factor: 1}",
                "a `factor` below 1",
            ),
        ] {
            let error = parse(more).unwrap_err().to_string();
            assert!(error.contains(expected), "{more}: {error}");
        }
        // As the original's command line has them.
        assert!(
            parse("lr_scheduler_type: cosine\nlr_scheduler_kwargs: '{\"num_cycles\": 2}'").is_ok()
        );
    }
}
