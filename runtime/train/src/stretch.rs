//! Positions stretched for texts longer than a model was made for (`rope_scaling`).
//!
//! A stretch is a change of the model's `config.json`, as LLaMA-Factory changes it: the rule, its factor, and the longest text.

use serde_json::{Map, Value};

/// A published rule for stretching positions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StretchRule {
    /// All positions move together.
    Linear,
    /// The base of the angles rises with the text.
    Dynamic,
    /// Slow angles are divided, fast ones kept, and the attention is sharpened.
    Yarn,
    /// The same by wavelength, as Llama 3.1 does it.
    Llama3,
}

impl StretchRule {
    /// Every rule with its name in a job file.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("linear", Self::Linear),
        ("dynamic", Self::Dynamic),
        ("yarn", Self::Yarn),
        ("llama3", Self::Llama3),
    ];

    /// Its name in a job file and in `config.json`.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, rule)| *rule == self);
        found.map_or("", |(name, _)| name)
    }
}

/// How the positions of a model are stretched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stretch {
    /// The rule.
    pub rule: StretchRule,
    /// The longest text in tokens; none: one twice as long as the model was made for.
    pub longest: Option<usize>,
}

/// How far a model's positions reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reach {
    /// The longest text that the model was made for, in tokens.
    pub made_for: u64,
    /// The longest one now; the same where no stretch is needed.
    pub now: u64,
}

impl Reach {
    /// How many times longer texts may be.
    pub fn factor(self) -> u64 {
        self.now / self.made_for.max(1)
    }
}

impl Stretch {
    /// How far a model reaches that was made for texts of so many tokens: a whole multiple of it.
    pub fn reach(self, made_for: u64) -> Reach {
        let made_for = made_for.max(1);
        let factor = match self.longest {
            Some(longest) => (longest as u64).div_ceil(made_for).max(1),
            None => 2,
        };
        Reach {
            made_for,
            now: made_for.saturating_mul(factor),
        }
    }

    /// Changes a parsed `config.json`. One whose model was made for texts that long stays as it is.
    pub fn apply(self, config: &mut Value) -> Reach {
        let reach = self.reach(made_for(config));
        let (made_for, factor) = (reach.made_for, reach.factor());
        let Some(fields) = config.as_object_mut().filter(|_| factor > 1) else {
            return reach;
        };
        let mut rule = Map::new();
        rule.insert("rope_type".to_owned(), self.rule.name().into());
        rule.insert("factor".to_owned(), (factor as f64).into());
        if self.rule != StretchRule::Linear {
            rule.insert(
                "original_max_position_embeddings".to_owned(),
                made_for.into(),
            );
        }
        if self.rule == StretchRule::Llama3 {
            rule.insert("low_freq_factor".to_owned(), 1.0.into());
            rule.insert("high_freq_factor".to_owned(), 4.0.into());
        }
        // Newer files keep the base of the angles beside the rule, which must not be lost with the old one.
        let older = fields.remove("rope_parameters");
        fields.remove("rope_scaling");
        let base = older.as_ref().and_then(|older| older.get("rope_theta"));
        let name = if older.is_some() {
            "rope_parameters"
        } else {
            "rope_scaling"
        };
        rule.extend(base.map(|base| ("rope_theta".to_owned(), base.clone())));
        fields.insert(name.to_owned(), Value::Object(rule));
        fields.insert("max_position_embeddings".to_owned(), reach.now.into());
        reach
    }
}

/// The longest text that the model of a `config.json` was made for, before any stretch.
pub(crate) fn made_for(config: &Value) -> u64 {
    let rules = ["rope_parameters", "rope_scaling"].iter();
    let mut original = rules.map(|name| &config[*name]["original_max_position_embeddings"]);
    // Some writers keep it with a fraction that is zero.
    let whole = |value: &Value| value.as_f64().map(|number| number as u64);
    let original = original.find_map(whole);
    let positions = original.or(whole(&config["max_position_embeddings"]));
    positions
        .filter(|positions| *positions > 0)
        .unwrap_or(USUAL)
}

/// What a configuration means that names no longest text.
const USUAL: u64 = 2048;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Made by LLaMA-Factory's `configure_rope`; see `tests/golden/make`.
    const VECTORS: &str = include_str!("../../../tests/golden/vectors/stretch.json");

    #[test]
    fn configurations_are_changed_as_the_original_changes_them() {
        let cases: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
        assert!(cases.len() > 12);
        for case in cases {
            let rule = StretchRule::NAMES.iter();
            let rule = rule
                .clone()
                .find(|(name, _)| case["rule"] == *name)
                .unwrap()
                .1;
            let longest = case["cutoff_len"].as_u64().map(|longest| longest as usize);
            let mut config = case["config"].clone();
            let reach = Stretch { rule, longest }.apply(&mut config);
            assert_eq!(reach.now, case["positions"].as_u64().unwrap(), "{case}");
            assert_eq!(config["max_position_embeddings"], reach.now, "{case}");
            let found = if config.get("rope_parameters").is_some() {
                &config["rope_parameters"]
            } else {
                &config["rope_scaling"]
            };
            for (name, wanted) in case["rope"].as_object().unwrap() {
                let same = match (found[name].as_f64(), wanted.as_f64()) {
                    (Some(found), Some(wanted)) => (found - wanted).abs() < 1e-9,
                    _ => found[name] == *wanted,
                };
                assert!(same, "{case}: {name}");
            }
        }
    }

    #[test]
    fn the_base_of_the_angles_stays_where_it_was() {
        let stretch = Stretch {
            rule: StretchRule::Yarn,
            longest: Some(100),
        };
        let mut newer = json!({
            "max_position_embeddings": 64,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}
        });
        assert_eq!(
            stretch.apply(&mut newer),
            Reach {
                made_for: 64,
                now: 128
            }
        );
        assert_eq!(newer["rope_parameters"]["rope_theta"], 5e5);
        assert_eq!(newer["rope_parameters"]["rope_type"], "yarn");
        let mut older = json!({
            "max_position_embeddings": 64, "rope_theta": 5e5,
            "rope_scaling": {"type": "linear", "factor": 2.0}
        });
        stretch.apply(&mut older);
        assert_eq!(older["rope_theta"], 5e5);
        assert_eq!(older["rope_scaling"]["rope_type"], "yarn");
        assert_eq!(older["rope_scaling"].get("type"), None);
        let mut fraction = json!({
            "max_position_embeddings": 131_072,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64.0}
        });
        assert_eq!(stretch.apply(&mut fraction).now, 128);
        for odd in [json!([]), json!({"max_position_embeddings": 0}), json!({})] {
            let mut changed = odd.clone();
            assert_eq!(stretch.apply(&mut changed).now, 2048);
            assert_eq!(changed, odd, "2048 positions are enough");
        }
    }
}
