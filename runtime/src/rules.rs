//! What of a job a chip refuses, replaces or leaves out.

use console::View;
use manifest_schema::chip::TrainingSupport;
use manifest_schema::policy::{Rule, Then};
use report::{Event, Sink as _};
use serde_json::{Value, json};

use crate::device::Chosen;
use crate::error::RuntimeError;

/// What a chip's rules make of a job.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Settings that replace the job's.
    pub(crate) settings: Vec<String>,
    /// Keys that ask for what is not there on this chip. The native engine does not read them.
    pub(crate) left_out: Vec<String>,
    notes: Vec<Note>,
}

/// One thing that is done, or ought to be.
#[derive(Debug)]
struct Note {
    code: &'static str,
    args: Vec<(&'static str, String)>,
}

/// Judges the settings of a job, as it gives them, by the rules of a device. `trains`: the job trains something.
pub(crate) fn apply(chosen: &Chosen, job: &Value, trains: bool) -> Result<Applied, RuntimeError> {
    let mut applied = Applied::default();
    if let Some(chip) = chosen.chip
        && trains
        && chip.training.is == TrainingSupport::InferenceOnly
    {
        let name = ("chip", chosen.title().to_owned());
        if chip.training.certain {
            return Err(RuntimeError::ChipForInference {
                chip: chosen.title().to_owned(),
                source_of: chip.training.source.clone(),
            });
        }
        applied.note("runtime.chip-seems-for-inference", vec![name]);
    }
    let chip = chosen.chip.map(|chip| chip.name.as_str());
    for rule in &chosen.policy.rules {
        let Some(value) = asked(rule, job).filter(|_| rule.is_for(chip, chosen.model.as_deref()))
        else {
            continue;
        };
        let mut args = vec![
            ("key", rule.key.clone()),
            ("value", value.clone()),
            ("chip", chosen.title().to_owned()),
            ("cause", rule.because.clone()),
        ];
        match &rule.then {
            _ if !rule.certain => applied.note("runtime.chip-may-not", args),
            Then::Refuse => {
                return Err(RuntimeError::ChipRefuses {
                    key: rule.key.clone(),
                    value,
                    chip: chosen.title().to_owned(),
                    cause: rule.because.clone(),
                    source_of: rule.source.clone(),
                });
            }
            Then::Replace(with) => {
                applied.settings.extend(with.iter().cloned());
                args.push(("with", with.join(" ")));
                applied.note("runtime.chip-replaces", args);
            }
            Then::LeaveOut => {
                applied.left_out.push(rule.key.clone());
                applied.note("runtime.chip-leaves-out", args);
            }
        }
    }
    Ok(applied)
}

/// Whether a job on `chosen` may not have the key at all.
#[cfg(feature = "native")]
pub(crate) fn refuses(chosen: &Chosen, key: &str) -> bool {
    let chip = chosen.chip.map(|chip| chip.name.as_str());
    let mut rules = chosen.policy.rules.iter();
    rules.any(|rule| {
        let whole = rule.key == key && rule.values.is_empty();
        let certain = rule.certain && rule.then == Then::Refuse;
        whole && certain && rule.is_for(chip, chosen.model.as_deref())
    })
}

/// The value of the rule's key, where the job asks for what the rule is about.
fn asked(rule: &Rule, job: &Value) -> Option<String> {
    let value = match job.get(&rule.key)? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let off = ["", "null", "false", "0", "no", "none", "disabled"];
    let meant = if rule.values.is_empty() {
        !off.contains(&value.to_ascii_lowercase().as_str())
    } else {
        rule.values.contains(&value)
    };
    meant.then_some(value)
}

impl Applied {
    fn note(&mut self, code: &'static str, args: Vec<(&'static str, String)>) {
        self.notes.push(Note { code, args });
    }

    /// Warns of everything that is done.
    pub(crate) fn warn(&self, view: &View) {
        for note in &self.notes {
            let args = note.args.iter();
            view.emit(&Event::Warned {
                code: note.code.to_owned(),
                args: args.map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            });
        }
    }

    /// The same for a program: `[{code, key, value, …}]`.
    pub(crate) fn to_json(&self) -> Value {
        let notes = self.notes.iter().map(|note| {
            let mut one = json!({"code": note.code});
            for (name, value) in &note.args {
                one[*name] = value.clone().into();
            }
            one
        });
        Value::Array(notes.collect())
    }
}

#[cfg(test)]
mod tests {
    use manifest_schema::chip::Chip;
    use manifest_schema::policy::Policy;

    use super::*;

    fn on(device: &str, chip: &str) -> Chosen {
        Chosen {
            policy: Policy::of_device(device).unwrap(),
            chip: Chip::named(chip),
            ..Chosen::processor()
        }
    }

    #[test]
    fn each_chip_gets_what_its_rows_say() {
        for (device, chip, job, expected) in [
            (
                "cpu",
                "cpu",
                json!({"bf16": true, "quantization_bit": 4}),
                Ok(""),
            ),
            ("npu", "ascend-910b", json!({"bf16": true}), Ok("")),
            (
                "npu",
                "ascend-910a",
                json!({"bf16": true}),
                Ok("bf16=false"),
            ),
            (
                "npu",
                "ascend-910a",
                json!({"bf16": false, "fp16": "no"}),
                Ok(""),
            ),
            (
                "npu",
                "ascend-910a",
                json!({"fp16": true}),
                Ok("fp16=false"),
            ),
            ("npu", "ascend-910b", json!({"quantization_bit": 0}), Ok("")),
            (
                "npu",
                "ascend-910b",
                json!({"quantization_bit": 4}),
                Err("runtime.chip-refuses"),
            ),
            (
                "npu",
                "ascend-310",
                json!({}),
                Err("runtime.chip-for-inference"),
            ),
        ] {
            let found = apply(&on(device, chip), &job, true);
            let found = found
                .map(|applied| applied.settings.join(" "))
                .map_err(|error| report::Diagnose::code(&error));
            let expected = expected.map(str::to_owned);
            assert_eq!(found, expected, "{device} {chip} {job}");
        }
    }

    #[test]
    fn what_is_left_out_or_not_certain_is_told() {
        let apply = |device, chip, job| apply(&on(device, chip), &job, true).unwrap();
        let applied = apply("npu", "ascend-910b", json!({"flash_attn": "fa2"}));
        assert_eq!(applied.to_json()[0]["code"], "runtime.chip-leaves-out");
        let auto = apply("npu", "ascend-910b", json!({"flash_attn": "auto"}));
        assert_eq!(auto.to_json(), json!([]));
        let may = apply("dcu", "hygon-dcu", json!({"flash_attn": "fa2"}));
        assert_eq!(may.to_json()[0]["code"], "runtime.chip-may-not");
        let unsure = apply("npu", "ascend-310b", json!({}));
        assert_eq!(
            unsure.to_json()[0]["code"],
            "runtime.chip-seems-for-inference"
        );
    }

    #[test]
    fn a_chip_for_inference_is_told_of_where_something_is_trained() {
        let chosen = on("npu", "ascend-310");
        assert!(apply(&chosen, &json!({}), true).is_err());
        assert!(apply(&chosen, &json!({}), false).is_ok());
        // Its other rules hold all the same.
        let numbers = json!({"infer_dtype": "bfloat16"});
        let applied = apply(&chosen, &numbers, false).unwrap();
        assert_eq!(applied.settings, ["infer_dtype=float32"]);
        assert!(apply(&chosen, &json!({"quantization_bit": 4}), false).is_err());
    }
}
