//! Learning rate by optimizer step.

use std::f64::consts::PI;

/// Shape of the learning rate after its warmup, with the defaults of transformers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scheduler {
    /// Falls in a straight line to zero.
    #[default]
    Linear,
    /// Follows so many cosine waves; half a wave falls to zero.
    Cosine {
        /// Waves.
        cycles: f64,
    },
    /// Half a cosine wave, started again so many times.
    CosineWithRestarts {
        /// Times.
        cycles: f64,
    },
    /// Falls with a power of what is left of the run.
    Polynomial {
        /// Where it ends.
        end: f64,
        /// The power.
        power: f64,
    },
    /// Stays, without warmup.
    Constant,
    /// Rises, then stays.
    ConstantWithWarmup,
    /// Falls with the square root of the step.
    InverseSqrt {
        /// Steps after which it has fallen by the root of two; none: those of the warmup.
        timescale: Option<f64>,
    },
    /// Cosine waves above a least rate.
    CosineAbove {
        /// Waves.
        cycles: f64,
        /// The least rate as a part of the greatest.
        least: f64,
    },
    /// The same, one step ahead: neither the first step nor the last has the rate zero.
    CosineAhead {
        /// Waves.
        cycles: f64,
        /// The least rate as a part of the greatest.
        least: f64,
        /// Where the warmup begins, as a part of the greatest; none: one step's rise.
        start: Option<f64>,
    },
    /// Rises, stays, falls.
    Stages(Stages),
    /// Stays, and falls each time that the evaluation loss has not for a while. No warmup.
    Plateau(Plateau),
}

/// A rise, a level stretch and a fall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stages {
    /// Steps of the level stretch; none: a third of what the warmup leaves.
    pub level: Option<u64>,
    /// Steps of the fall; none: what is left then.
    pub fall: Option<u64>,
    /// How it rises.
    pub rising: Curve,
    /// How it falls.
    pub falling: Curve,
    /// The least rate as a part of the greatest.
    pub least: f64,
    /// Waves of a fall along a cosine.
    pub cycles: f64,
}

/// How a rate goes from one level to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// In a straight line.
    Line,
    /// Along a cosine wave.
    Wave,
    /// With a square root.
    Root,
}

impl Curve {
    /// Every curve with its name in a job file.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("linear", Self::Line),
        ("cosine", Self::Wave),
        ("1-sqrt", Self::Root),
    ];
}

/// When a rate falls that waits for the evaluation loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plateau {
    /// What it is multiplied by.
    pub factor: f64,
    /// Evaluations that may come without a better loss.
    pub patience: u64,
    /// By how much a loss must be less to be better.
    pub threshold: f64,
    /// The threshold is a part of the loss.
    pub relative: bool,
    /// Evaluations that do not count after a fall.
    pub pause: u64,
    /// The least rate.
    pub least: f64,
    /// A fall by no more than this is left out.
    pub smallest: f64,
}

/// Time scale of the inverse square root schedule when there is no warmup.
const INVERSE_SQRT_TIMESCALE: u64 = 10_000;

impl Scheduler {
    /// Returns the rate used in optimizer step `step`, counted from zero, of `total`. `evaluations` are the losses seen so
    /// far.
    ///
    /// With a warmup the first step uses rate zero and so changes nothing, but for the shapes that say otherwise.
    pub fn rate(
        self,
        peak: f64,
        warmup: u64,
        total: u64,
        step: u64,
        evaluations: &[(u64, f64)],
    ) -> f64 {
        match self {
            Self::Constant => return peak,
            Self::Plateau(plateau) => return plateau.rate(peak, evaluations),
            Self::Stages(stages) => return peak * stages.share(warmup, total, step),
            Self::CosineAhead {
                cycles,
                least,
                start,
            } => return peak * ahead(cycles, least, start, [warmup, total, step]),
            _ => {}
        }
        if step < warmup {
            return peak * (step as f64 / warmup as f64);
        }
        let rest = total.saturating_sub(warmup).max(1) as f64;
        let progress = (step - warmup) as f64 / rest;
        match self {
            Self::Linear => peak * (1.0 - progress).max(0.0),
            Self::Cosine { cycles } => peak * wave(cycles, progress).max(0.0),
            Self::CosineWithRestarts { .. } if progress >= 1.0 => 0.0,
            Self::CosineWithRestarts { cycles } => {
                peak * wave(0.5, (cycles * progress).fract()).max(0.0)
            }
            Self::Polynomial { end, .. } if progress > 1.0 => end,
            Self::Polynomial { end, power } => (peak - end) * (1.0 - progress).powf(power) + end,
            Self::InverseSqrt { timescale } => {
                let usual = if warmup == 0 {
                    INVERSE_SQRT_TIMESCALE
                } else {
                    warmup
                };
                let scale = timescale.unwrap_or(usual as f64);
                // A scale below the warmup gives more than the peak there, as in the original.
                peak / (((step - warmup) as f64 + scale) / scale).sqrt()
            }
            Self::CosineAbove { cycles, least } => peak * above(least, wave(cycles, progress)),
            _ => peak,
        }
    }
}

/// Cosine waves between one, at the start, and zero.
fn wave(cycles: f64, progress: f64) -> f64 {
    0.5 * (1.0 + (PI * cycles * 2.0 * progress).cos())
}

/// A share of what lies between the least and one.
fn above(least: f64, share: f64) -> f64 {
    (share * (1.0 - least) + least).max(0.0)
}

fn ahead(cycles: f64, least: f64, start: Option<f64>, steps: [u64; 3]) -> f64 {
    let [warmup, total, step] = steps.map(|steps| steps as f64);
    if step < warmup {
        return match start {
            None => (step + 1.0) / warmup.max(1.0),
            Some(start) => start + (1.0 - start) * step / (warmup - 1.0).max(1.0),
        };
    }
    let progress = (step - warmup + 1.0) / (total - warmup).max(1.0);
    above(least, wave(cycles, progress))
}

impl Stages {
    fn share(self, warmup: u64, total: u64, step: u64) -> f64 {
        let Self { least, .. } = self;
        let left = total.saturating_sub(warmup);
        let usual = left / 3;
        let level = self.level.unwrap_or(usual);
        let fall = self.fall.unwrap_or(left - usual);
        if step < warmup {
            let progress = step as f64 / warmup as f64;
            let share = match self.rising {
                Curve::Line => progress,
                Curve::Wave => 0.5 * (1.0 - (PI * progress).cos()),
                Curve::Root => 1.0 - (1.0 - progress).sqrt(),
            };
            return above(least, share);
        }
        let Some(fallen) = (step - warmup).checked_sub(level) else {
            return 1.0;
        };
        if fallen >= fall {
            return least;
        }
        let progress = fallen as f64 / fall as f64;
        let share = match self.falling {
            Curve::Line => 1.0 - progress,
            Curve::Wave => wave(self.cycles, progress),
            Curve::Root => 1.0 - progress.sqrt(),
        };
        above(least, share)
    }
}

impl Plateau {
    /// The rate after these evaluations: nothing else has to be remembered of it.
    fn rate(self, peak: f64, evaluations: &[(u64, f64)]) -> f64 {
        let (mut rate, mut best) = (peak, f64::INFINITY);
        let (mut bad, mut paused) = (0, 0);
        for (_, loss) in evaluations {
            let wanted = if self.relative {
                best * (1.0 - self.threshold)
            } else {
                best - self.threshold
            };
            if *loss < wanted {
                (best, bad) = (*loss, 0);
            } else {
                bad += 1;
            }
            if paused > 0 {
                (paused, bad) = (paused - 1, 0);
            }
            if bad > self.patience {
                let next = (rate * self.factor).max(self.least);
                if rate - next > self.smallest {
                    rate = next;
                }
                (paused, bad) = (self.pause, 0);
            }
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use crate::job::Job;

    fn job(settings: &Value) -> Job {
        let text =
            "model_name_or_path: m\ndataset: d\ntemplate: qwen\noutput_dir: o\nval_size: 1\n";
        let settings = settings.as_object().unwrap().iter();
        let settings: Vec<String> = settings.map(|(k, v)| format!("{k}={v}")).collect();
        Job::parse("job.yaml", text, &settings).unwrap()
    }

    /// The names of the schedules that need no more than a name.
    const PLAIN: [&str; 7] = [
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
    ];

    #[test]
    fn rates_agree_with_the_originals() {
        let text = include_str!("../../../tests/golden/vectors/lr_schedules.json");
        let vectors: BTreeMap<String, Vec<f64>> = serde_json::from_str(text).unwrap();
        assert_eq!(vectors.len(), 2 * PLAIN.len());
        for name in PLAIN {
            let scheduler = job(&serde_json::json!({"lr_scheduler_type": name})).scheduler;
            for warmup in [0, 3] {
                let key = format!("{name}.warmup{warmup}");
                for (step, expected) in vectors[&key].iter().enumerate() {
                    let rate = scheduler.rate(1e-3, warmup, 20, step as u64, &[]);
                    let difference = (rate - expected).abs();
                    assert!(difference < 1e-15, "{key} step {step}: {rate} {expected}");
                }
            }
        }
    }

    #[test]
    fn rates_with_settings_agree_with_the_originals() {
        let text = include_str!("../../../tests/golden/vectors/lr_settings.json");
        let cases: Vec<Value> = serde_json::from_str(text).unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let job = job(&case["job"]);
            let total = case["rates"].as_array().unwrap().len() as u64;
            let evaluations = case["evaluations"].as_array().into_iter().flatten();
            let evaluations: Vec<(u64, f64)> = evaluations
                .map(|loss| (0, loss.as_f64().unwrap()))
                .collect();
            let warmup = case["warmup"].as_u64().unwrap();
            for (step, expected) in case["rates"].as_array().unwrap().iter().enumerate() {
                let seen = &evaluations[..step.min(evaluations.len())];
                let peak = job.learning_rate;
                let rate = job.scheduler.rate(peak, warmup, total, step as u64, seen);
                let difference = (rate - expected.as_f64().unwrap()).abs();
                assert!(difference < 1e-15, "{case} step {step}: {rate}");
            }
        }
    }

    #[test]
    fn a_warmup_longer_than_the_run_is_no_fault() {
        for name in PLAIN.into_iter().chain(["warmup_stable_decay"]) {
            let scheduler = job(&serde_json::json!({"lr_scheduler_type": name})).scheduler;
            for step in [0, 20, 60] {
                let rate = scheduler.rate(1.0, 50, 20, step, &[]);
                assert!(rate.is_finite() && rate >= 0.0, "{name}: {rate}");
            }
        }
    }
}
