//! The job as LLaMA-Factory gets it: the user's keys, with what keeps it on this machine and on this chip.
//!
//! ```text
//! key -> known to its training? -> of the right type -> left out by the network or the chip
//!     -> names of models and datasets become folders -> what every run here has
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use report::{Event, Sink, Trouble};
use serde_json::{Map, Value, json};
use train::JobError;

use super::datasets;
use super::error::EngineError;
use super::keys::{as_taken, has_template, nearest_template, takes};
use super::python::Python;
use crate::error::RuntimeError;
use crate::home::Home;

/// Keys with the place where each stands, and its value.
pub(crate) type Given = BTreeMap<String, (String, Value)>;

/// A job that is ready to be handed over.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    /// The job, key by key.
    pub(crate) job: Map<String, Value>,
    /// What differs from the user's file.
    pub(crate) changes: Vec<Change>,
    /// Name and folder of the model.
    pub(crate) model: (String, PathBuf),
    /// Names and files of the datasets.
    pub(crate) data: Vec<(String, PathBuf)>,
}

/// One thing that differs from the user's file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    pub(crate) key: String,
    /// What the file has, if it has the key.
    pub(crate) from: Option<Value>,
    /// What is handed over; none: the key is left out.
    pub(crate) to: Option<Value>,
    /// Why.
    pub(crate) because: &'static str,
    /// The user asked for what is not done, so it is told also where nobody asks.
    pub(crate) told: bool,
}

/// What decides on a job beside its keys.
pub(crate) struct Around<'a> {
    pub(crate) python: &'a Python,
    pub(crate) home: &'a Home,
    /// Keys that the chip's rules leave out.
    pub(crate) left_out: &'a [String],
    /// The processor computes, and the job must say so.
    pub(crate) on_processor: bool,
    /// Makes a folder of a model that is one file.
    pub(crate) unfold: &'a dyn Fn(&Path) -> Result<PathBuf, Trouble>,
}

/// Makes the job that is handed over of the job that was `given`; `origin` names its file.
pub(crate) fn hand_over(
    origin: &str,
    given: &Given,
    around: &Around<'_>,
) -> Result<Handed, Trouble> {
    let mut handing = Handing {
        origin,
        given,
        around,
        job: Map::new(),
        changes: Vec::new(),
    };
    handing.take_keys()?;
    handing.stay_local()?;
    handing.leave_out_what_the_chip_lacks();
    handing.need_template()?;
    handing.need_packages()?;
    handing.need_files()?;
    let model = handing.models()?;
    let data = handing.datasets()?;
    handing.always();
    handing.required("output_dir")?;
    let Handing { job, changes, .. } = handing;
    Ok(Handed {
        job,
        changes,
        model,
        data,
    })
}

impl Handed {
    /// The file that is handed over. Each value is JSON on a line of its own, which every YAML reads alike.
    pub(crate) fn to_yaml(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.job {
            text.push_str(key);
            text.push_str(": ");
            text.push_str(&value.to_string());
            text.push('\n');
        }
        text
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.job.get(key)?.as_str()
    }

    /// Names the checkpoint to go on from, where LLaMA-Factory would take another.
    pub(crate) fn go_on_from(&mut self, checkpoint: &Path) {
        const KEY: &str = "resume_from_checkpoint";
        let to = Some(Value::from(checkpoint.to_string_lossy()));
        self.changes.push(Change {
            key: KEY.to_owned(),
            from: self
                .job
                .insert(KEY.to_owned(), to.clone().unwrap_or_default()),
            to,
            because: "a newer checkpoint was cut off while it was written",
            told: false,
        });
    }

    /// Warns of what the user asked for and does not get.
    pub(crate) fn warn(&self, sink: &dyn Sink) {
        for change in self.changes.iter().filter(|change| change.told) {
            let args = change.args().into_iter();
            sink.emit(&Event::Warned {
                code: change.code().to_owned(),
                args: args.map(|(name, value)| (name.to_owned(), value)).collect(),
            });
        }
    }
}

impl Change {
    /// The code of its text.
    pub(crate) fn code(&self) -> &'static str {
        match (&self.from, &self.to) {
            (Some(_), None) => "engine.leaves-out",
            (None, _) => "engine.adds",
            (Some(_), Some(_)) => "engine.replaces",
        }
    }

    pub(crate) fn args(&self) -> Vec<(&'static str, String)> {
        let shown = |value: &Option<Value>| value.as_ref().map_or_else(String::new, plain);
        vec![
            ("key", self.key.clone()),
            ("value", shown(&self.from)),
            ("with", shown(&self.to)),
            ("cause", self.because.to_owned()),
        ]
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"key": self.key, "from": self.from, "to": self.to, "because": self.because})
    }
}

/// A job on its way.
struct Handing<'a> {
    origin: &'a str,
    given: &'a Given,
    around: &'a Around<'a>,
    job: Map<String, Value>,
    changes: Vec<Change>,
}

impl Handing<'_> {
    fn take_keys(&mut self) -> Result<(), Trouble> {
        for (key, (place, value)) in self.given {
            if value.is_null() {
                continue;
            }
            match takes(key) {
                Some(takes) => {
                    let value = as_taken(takes, key, place, value)?;
                    self.job.insert(key.clone(), value);
                }
                None if is_off(value) => {}
                // A LLaMA-Factory near the known one may have learnt the key.
                None if !self.around.python.is_known() => {
                    self.job.insert(key.clone(), value.clone());
                }
                None => {
                    return Err(EngineError::NotItsKey {
                        place: place.clone(),
                        key: key.clone(),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    /// Leaves out what reports or sends, and refuses what fetches.
    fn stay_local(&mut self) -> Result<(), Trouble> {
        for key in SENDS {
            if self.job.get(key).is_some_and(|value| !is_off(value)) {
                self.put(key, None, "nothing is sent from here", true);
            }
        }
        let wanted = words(self.job.get("report_to"));
        let local: Vec<Value> = wanted
            .iter()
            .filter(|word| *word == "tensorboard")
            .map(|word| word.as_str().into())
            .collect();
        let outside = wanted
            .iter()
            .any(|word| word != "none" && word != "tensorboard");
        let to = if local.is_empty() {
            Value::from("none")
        } else {
            Value::Array(local)
        };
        if outside || wanted.is_empty() {
            self.put("report_to", Some(to), "nothing is sent from here", outside);
        }
        for (key, elsewhere) in [("dataset_dir", "ONLINE"), ("reward_model_type", "api")] {
            if self
                .text(key)
                .is_some_and(|text| text == elsewhere || text.starts_with("REMOTE:"))
            {
                return Err(self.not_local(key).into());
            }
        }
        Ok(())
    }

    fn leave_out_what_the_chip_lacks(&mut self) {
        for key in self.around.left_out {
            self.put(key, None, "the chip does not have it", false);
        }
    }

    fn need_template(&self) -> Result<(), EngineError> {
        let name = self.text("template").filter(|name| !has_template(name));
        match name.filter(|_| self.around.python.is_known()) {
            Some(name) => Err(EngineError::NoTemplate {
                place: self.place("template"),
                name: name.to_owned(),
                nearest: nearest_template(name).to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn need_packages(&self) -> Result<(), Trouble> {
        let python = self.around.python;
        for (key, package) in PACKAGES {
            let asks = self.job.get(key).is_some_and(|value| !is_off(value));
            let other_way = key == "quantization_bit"
                && self
                    .text("quantization_method")
                    .is_some_and(|way| way != "bnb");
            if asks && !other_way && python.package(package).is_none() {
                return Err(EngineError::PackageMissing {
                    key: key.to_owned(),
                    package,
                    python: python.program.clone(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Files that keys name must be there: found out by LLaMA-Factory, it would take a minute.
    fn need_files(&self) -> Result<(), Trouble> {
        for key in ["deepspeed", "fsdp_config", "new_special_tokens_config"] {
            let Some(path) = self.text(key).filter(|text| !text.starts_with('{')) else {
                continue;
            };
            if !Path::new(path).is_file() {
                return Err(EngineError::FileMissing {
                    place: self.place(key),
                    key: key.to_owned(),
                    path: path.into(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Names of models and adapters become folders of this machine.
    fn models(&mut self) -> Result<(String, PathBuf), Trouble> {
        let name = self.required("model_name_or_path")?;
        let folder = self.model(&name)?;
        if folder.as_os_str() != name.as_str() {
            let to = Value::from(folder.to_string_lossy());
            self.put("model_name_or_path", Some(to), FOUND_HERE, false);
        }
        for key in MODELS {
            let names = words(self.job.get(key));
            let folders: Vec<PathBuf> = names
                .iter()
                .map(|name| self.model(name))
                .collect::<Result<_, _>>()?;
            let same = folders
                .iter()
                .zip(&names)
                .all(|(a, b)| a.as_os_str() == b.as_str());
            if !same {
                let texts = folders.iter().map(|path| path.to_string_lossy());
                let text = texts.collect::<Vec<_>>().join(",");
                self.put(key, Some(text.into()), FOUND_HERE, false);
            }
        }
        Ok((name, folder))
    }

    fn model(&self, name: &str) -> Result<PathBuf, Trouble> {
        let found = self
            .around
            .home
            .model(name)
            .ok_or_else(|| RuntimeError::NoSuchModel {
                name: name.to_owned(),
            })?;
        if found.is_file() {
            return (self.around.unfold)(&found);
        }
        Ok(found)
    }

    fn datasets(&mut self) -> Result<Vec<(String, PathBuf)>, Trouble> {
        let mut names = words(self.job.get("dataset"));
        names.extend(words(self.job.get("eval_dataset")));
        let given = self.text("dataset_dir").unwrap_or("data").to_owned();
        let installed = self
            .around
            .home
            .release
            .as_ref()
            .map(|r| r.join("datasets"));
        let folder = match installed {
            Some(installed) if !Path::new(&given).exists() && installed.is_dir() => installed,
            _ => PathBuf::from(&given),
        };
        if folder.as_os_str() != given.as_str() {
            let to = Value::from(folder.to_string_lossy());
            self.put("dataset_dir", Some(to), FOUND_HERE, false);
        }
        let tokenized = self.text("tokenized_path").map(Path::new);
        if tokenized.is_some_and(Path::is_dir) {
            // Then LLaMA-Factory reads nothing else.
            return Ok(Vec::new());
        }
        if names.is_empty() {
            self.required("dataset")?;
        }
        Ok(datasets::find(&folder, &names)?)
    }

    /// What every run here has unless the job says otherwise.
    fn always(&mut self) {
        for (key, value, because) in [
            ("do_train", true, "this command trains"),
            ("disable_tqdm", true, "progress is read from the log"),
            (
                "include_num_input_tokens_seen",
                true,
                "progress is read from the log",
            ),
            (
                "enable_jit_checkpoint",
                true,
                "a run that is asked to end saves",
            ),
        ] {
            let may = match key {
                "enable_jit_checkpoint" => self.around.python.saves_on_request(),
                // Its loop is another one, which does not count.
                "include_num_input_tokens_seen" => self.text("stage") != Some("ppo"),
                _ => true,
            };
            if may && !self.job.contains_key(key) {
                self.put(key, Some(value.into()), because, false);
            }
        }
        let says = self.job.get("use_cpu").and_then(Value::as_bool);
        if self.around.on_processor && says != Some(true) {
            self.put(
                "use_cpu",
                Some(true.into()),
                "the processor computes",
                false,
            );
        }
    }

    fn put(&mut self, key: &str, to: Option<Value>, because: &'static str, told: bool) {
        let from = match &to {
            Some(value) => self.job.insert(key.to_owned(), value.clone()),
            None => self.job.remove(key),
        };
        if from == to {
            return;
        }
        self.changes.push(Change {
            key: key.to_owned(),
            from,
            to,
            because,
            told,
        });
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.job.get(key)?.as_str()
    }

    fn required(&self, key: &str) -> Result<String, JobError> {
        let text = self.text(key).filter(|text| !text.trim().is_empty());
        text.map(str::to_owned).ok_or_else(|| JobError::Missing {
            origin: self.origin.to_owned(),
            key: key.to_owned(),
        })
    }

    fn place(&self, key: &str) -> String {
        let place = self.given.get(key).map(|(place, _)| place.clone());
        place.unwrap_or_else(|| self.origin.to_owned())
    }

    fn not_local(&self, key: &str) -> EngineError {
        EngineError::NotLocal {
            place: self.place(key),
            key: key.to_owned(),
            value: self.job.get(key).map_or_else(String::new, plain),
        }
    }
}

/// Whether a value asks for nothing.
pub(super) fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => ["", "no", "false", "none"].contains(&text.as_str()),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

/// A value as its author wrote it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A list, or words between commas.
fn words(value: Option<&Value>) -> Vec<String> {
    let text = match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        _ => return Vec::new(),
    };
    let words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

const FOUND_HERE: &str = "found on this machine";

/// Keys that send something somewhere.
const SENDS: [&str; 10] = [
    "export_hub_model_id",
    "hub_model_id",
    "hub_token",
    "push_to_hub",
    "swanlab_api_key",
    "swanlab_lark_secret",
    "swanlab_lark_webhook_url",
    "trackio_space_id",
    "trackio_static_space_id",
    "use_swanlab",
];

/// Keys beside `model_name_or_path` that name models and adapters.
const MODELS: [&str; 5] = [
    "adapter_name_or_path",
    "ref_model",
    "ref_model_adapters",
    "reward_model",
    "reward_model_adapters",
];

/// Keys that need a package which is no part of LLaMA-Factory itself.
const PACKAGES: [(&str, &str); 14] = [
    ("deepspeed", "deepspeed"),
    ("enable_liger_kernel", "liger-kernel"),
    ("plot_loss", "matplotlib"),
    ("predict_with_generate", "jieba"),
    ("predict_with_generate", "nltk"),
    ("predict_with_generate", "rouge-chinese"),
    ("quantization_bit", "bitsandbytes"),
    ("report_to", "tensorboard"),
    ("use_adam_mini", "adam-mini"),
    ("use_apollo", "apollo-torch"),
    ("use_badam", "badam"),
    ("use_galore", "galore-torch"),
    ("use_liger_kernel", "liger-kernel"),
    ("use_unsloth", "unsloth"),
];
