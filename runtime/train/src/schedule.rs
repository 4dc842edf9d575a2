//! Learning rate by optimizer step.

use std::f64::consts::PI;

/// Shape of the learning rate after its warmup.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scheduler {
    /// Falls in a straight line to zero.
    #[default]
    Linear,
    /// Falls along half a cosine wave to zero.
    Cosine,
    /// Half a cosine wave, started again `cycles` times; one cycle, as the original defaults to.
    CosineWithRestarts,
    /// Falls in a straight line to 1e-7: the polynomial of power one.
    Polynomial,
    /// Stays, without warmup.
    Constant,
    /// Rises, then stays.
    ConstantWithWarmup,
    /// Falls with the square root of the step.
    InverseSqrt,
}

/// Where the polynomial schedule ends.
const POLYNOMIAL_END: f64 = 1e-7;

/// Time scale of the inverse square root schedule when there is no warmup.
const INVERSE_SQRT_TIMESCALE: u64 = 10_000;

impl Scheduler {
    /// Every scheduler with its name in a job file.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("linear", Self::Linear),
        ("cosine", Self::Cosine),
        ("cosine_with_restarts", Self::CosineWithRestarts),
        ("polynomial", Self::Polynomial),
        ("constant", Self::Constant),
        ("constant_with_warmup", Self::ConstantWithWarmup),
        ("inverse_sqrt", Self::InverseSqrt),
    ];

    /// Returns the rate used in optimizer step `step`, counted from zero, of `total`.
    ///
    /// With a warmup the first step uses rate zero and so changes nothing.
    pub fn rate(self, peak: f64, warmup: u64, total: u64, step: u64) -> f64 {
        if self == Self::Constant {
            return peak;
        }
        if step < warmup {
            return peak * (step as f64 / warmup as f64);
        }
        let rest = total.saturating_sub(warmup).max(1) as f64;
        let progress = (step - warmup) as f64 / rest;
        match self {
            Self::Constant | Self::ConstantWithWarmup => peak,
            Self::Linear => peak * (1.0 - progress).max(0.0),
            Self::Cosine => peak * (0.5 * (1.0 + (PI * progress).cos())).max(0.0),
            Self::CosineWithRestarts if progress >= 1.0 => 0.0,
            Self::CosineWithRestarts => peak * 0.5 * (1.0 + (PI * progress.fract()).cos()),
            Self::Polynomial if progress > 1.0 => POLYNOMIAL_END,
            Self::Polynomial => (peak - POLYNOMIAL_END) * (1.0 - progress) + POLYNOMIAL_END,
            Self::InverseSqrt => {
                let scale = if warmup == 0 {
                    INVERSE_SQRT_TIMESCALE
                } else {
                    warmup
                };
                peak / (((step + scale - warmup) as f64) / scale as f64).sqrt()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn rates_agree_with_the_originals() {
        let text = include_str!("../../../tests/golden/vectors/lr_schedules.json");
        let vectors: BTreeMap<String, Vec<f64>> = serde_json::from_str(text).unwrap();
        assert_eq!(vectors.len(), 2 * Scheduler::NAMES.len());
        for (name, scheduler) in Scheduler::NAMES {
            for warmup in [0, 3] {
                let key = format!("{name}.warmup{warmup}");
                for (step, expected) in vectors[&key].iter().enumerate() {
                    let rate = scheduler.rate(1e-3, warmup, 20, step as u64);
                    let difference = (rate - expected).abs();
                    assert!(difference < 1e-15, "{key} step {step}: {rate} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_warmup_longer_than_the_run_is_no_fault() {
        for (name, scheduler) in Scheduler::NAMES {
            let rate = scheduler.rate(1.0, 50, 20, 60);
            assert!(rate.is_finite() && rate >= 0.0, "{name}: {rate}");
        }
    }
}
