//! Rotary positions, and the four published ways to stretch them over longer texts.
//!
//! A head's pair i turns by `position * step[i]`; plain steps are `base^(-2i / width)`. The rules and their defaults are
//! those of transformers' `modeling_rope_utils.py`.

use std::f64::consts::TAU;

use serde_json::Value;

/// How the steps are changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scaling {
    /// Not at all.
    Plain,
    /// All steps are divided.
    Linear { factor: f64 },
    /// Texts longer than the model was made for raise the base.
    Dynamic { factor: f64, positions: f64 },
    /// Slow pairs are divided, fast ones kept, those between blended by wavelength.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// The same by number of turns, and the attention is sharpened.
    Yarn {
        factor: f64,
        attention: f64,
        fast: f64,
        slow: f64,
        truncate: bool,
        original: f64,
    },
}

impl Scaling {
    /// Reads `rope_scaling` or `rope_parameters` of a `config.json`. `positions` is `max_position_embeddings`.
    ///
    /// # Errors
    ///
    /// Says what is wrong: an unknown rule, or a field that is missing or out of range.
    pub(crate) fn from_json(value: &Value, positions: i64) -> Result<Self, String> {
        let name = ["rope_type", "type"]
            .iter()
            .find_map(|key| value[*key].as_str());
        let optional = |key: &str| match &value[key] {
            Value::Null => Ok(None),
            number => match number.as_f64() {
                Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
                _ => Err(format!("`{key}` = {number} is not a number above zero")),
            },
        };
        let must = |key: &str| optional(key)?.ok_or_else(|| format!("`{key}` is missing"));
        let partial = optional("partial_rotary_factor")?.unwrap_or(1.0);
        if (partial - 1.0).abs() > f64::EPSILON {
            return Err(format!("`partial_rotary_factor` = {partial}"));
        }
        let original = || {
            optional("original_max_position_embeddings")
                .map(|original| original.unwrap_or(positions as f64))
        };
        match name {
            None | Some("default") => Ok(Self::Plain),
            Some("linear") => Ok(Self::Linear {
                factor: must("factor")?,
            }),
            Some("dynamic") => Ok(Self::Dynamic {
                factor: must("factor")?,
                positions: positions as f64,
            }),
            Some("llama3") => {
                let (low, high) = (must("low_freq_factor")?, must("high_freq_factor")?);
                if high <= low {
                    return Err("`high_freq_factor` is not above `low_freq_factor`".to_owned());
                }
                Ok(Self::Llama3 {
                    factor: must("factor")?,
                    low,
                    high,
                    original: original()?,
                })
            }
            Some("yarn") => {
                let original = original()?;
                let factor = optional("factor")?.unwrap_or(positions as f64 / original);
                let scale = |times: f64| {
                    if factor <= 1.0 {
                        1.0
                    } else {
                        0.1 * times * factor.ln() + 1.0
                    }
                };
                let attention = match (optional("mscale")?, optional("mscale_all_dim")?) {
                    (Some(one), Some(all)) => scale(one) / scale(all),
                    _ => scale(1.0),
                };
                Ok(Self::Yarn {
                    factor,
                    attention: optional("attention_factor")?.unwrap_or(attention),
                    fast: optional("beta_fast")?.unwrap_or(32.0),
                    slow: optional("beta_slow")?.unwrap_or(1.0),
                    truncate: value["truncate"].as_bool().unwrap_or(true),
                    original,
                })
            }
            Some(other) => Err(format!("the rule `{other}`")),
        }
    }

    /// Steps of the pairs of a head of `width`, in radians a position, and the factor on all sines and cosines, for a
    /// text of `length` tokens.
    pub(crate) fn steps(&self, width: i64, base: f64, length: i64) -> (Vec<f32>, f64) {
        let width = width as f64;
        let plain = |base: f64| {
            let pairs = 0..(width / 2.0) as i64;
            pairs.map(move |pair| base.powf(-2.0 * pair as f64 / width))
        };
        match *self {
            Self::Plain => (plain(base).map(|step| step as f32).collect(), 1.0),
            Self::Linear { factor } => (
                plain(base).map(|step| (step / factor) as f32).collect(),
                1.0,
            ),
            Self::Dynamic { factor, positions } => {
                let longer = (length as f64).max(positions) / positions;
                let raised = factor * longer - (factor - 1.0);
                let base = base * raised.powf(width / (width - 2.0));
                (plain(base).map(|step| step as f32).collect(), 1.0)
            }
            Self::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let stretched = plain(base).map(|step| {
                    let turns = original * step / TAU;
                    if turns > high {
                        step
                    } else if turns < low {
                        step / factor
                    } else {
                        let kept = (turns - low) / (high - low);
                        (1.0 - kept) * step / factor + kept * step
                    }
                });
                (stretched.map(|step| step as f32).collect(), 1.0)
            }
            Self::Yarn {
                factor,
                attention,
                fast,
                slow,
                truncate,
                original,
            } => {
                // The pair that turns this many times over the original length.
                let pair = |turns: f64| width * (original / (turns * TAU)).ln() / (2.0 * base.ln());
                let (mut first, mut last) = (pair(fast), pair(slow));
                if truncate {
                    (first, last) = (first.floor(), last.ceil());
                }
                let (first, mut last) = (first.max(0.0), last.min(width - 1.0));
                if (last - first).abs() < f64::EPSILON {
                    last += 0.001;
                }
                let blended = plain(base).enumerate().map(|(pair, step)| {
                    let divided = ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0);
                    step / factor * divided + step * (1.0 - divided)
                });
                (blended.map(|step| step as f32).collect(), attention)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Computed by transformers 5.6.0.
    const VECTORS: &str = include_str!("../../../tests/golden/vectors/rope.json");

    #[test]
    fn steps_are_those_of_the_original() {
        let cases: Value = serde_json::from_str(VECTORS).unwrap();
        let cases = cases["cases"].as_array().unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let whole = |name: &str| case[name].as_i64().unwrap();
            let scaling = Scaling::from_json(&case["rope_parameters"], whole("positions")).unwrap();
            let base = case["base"].as_f64().unwrap();
            let (steps, attention) = scaling.steps(whole("width"), base, whole("length"));
            let name = &case["rope_parameters"];
            let wanted = case["steps"].as_array().unwrap();
            assert_eq!(steps.len(), wanted.len(), "{name}");
            for (pair, (step, wanted)) in steps.iter().zip(wanted).enumerate() {
                let off = (f64::from(*step) / wanted.as_f64().unwrap() - 1.0).abs();
                assert!(off < 2e-6, "{name}, pair {pair}: {step} against {wanted}");
            }
            let off = attention - case["attention"].as_f64().unwrap();
            assert!(off.abs() < 1e-9, "{name}: {attention}");
        }
    }

    #[test]
    fn a_rule_that_is_not_known_or_not_whole_is_refused() {
        for (value, reason) in [
            (json!({"rope_type": "longrope", "factor": 2.0}), "longrope"),
            (json!({"type": "linear"}), "`factor` is missing"),
            (json!({"type": "linear", "factor": 0}), "above zero"),
            (
                json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
                "partial",
            ),
            (
                json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}),
                "not above",
            ),
        ] {
            let error = Scaling::from_json(&value, 2048).unwrap_err();
            assert!(error.contains(reason), "{value}: {error}");
        }
    }
}
