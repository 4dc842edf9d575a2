//! The job as LLaMA-Factory gets it: the user's keys, with what keeps it on this machine and on this chip.
//!
//! ```text
//! key -> known to its training? -> of the right type -> left out by the network or the chip
//!     -> names of models and datasets become folders -> what every run here has
//! ```

use std::path::{Path, PathBuf};

use report::Trouble;
use serde_json::{Map, Value};
use train::{JobError, asks_for_nothing};

use super::change::{Change, plain};
use super::datasets;
use super::error::EngineError;
use super::handed::{Given, Handed};
use super::keys::{as_taken, takes};
use super::python::Python;
use crate::error::RuntimeError;
use crate::home::Home;

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

/// A job on its way.
pub(super) struct Handing<'a> {
    origin: &'a str,
    given: &'a Given,
    pub(super) around: &'a Around<'a>,
    pub(super) job: Map<String, Value>,
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
                None if asks_for_nothing(value) => {}
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
            if self
                .job
                .get(key)
                .is_some_and(|value| !asks_for_nothing(value))
            {
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

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.job.get(key)?.as_str()
    }

    fn required(&self, key: &str) -> Result<String, JobError> {
        let text = self.text(key).filter(|text| !text.trim().is_empty());
        text.map(str::to_owned).ok_or_else(|| JobError::Missing {
            origin: self.origin.to_owned(),
            key: key.to_owned(),
        })
    }

    pub(super) fn place(&self, key: &str) -> String {
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
