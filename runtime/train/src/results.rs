//! Results that are not of a training run, in the original's form.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::output::{indented, placed};
use crate::trainer::TrainError;

const ALL: &str = "all_results.json";

/// Writes a file into `folder`, which is made if need be: beside its place first, so that a reader sees a whole one.
pub fn save_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
    fs::create_dir_all(folder).map_err(|source| TrainError::Write {
        path: folder.to_owned(),
        source,
    })?;
    placed(folder, name, bytes)
}

/// Writes `figures` as `<part>_results.json`, and adds them to what `all_results.json` has.
pub fn save_results(
    folder: &Path,
    part: &str,
    figures: &Map<String, Value>,
) -> Result<(), TrainError> {
    save_sorted(folder, &format!("{part}_results.json"), figures)?;
    // What is there is only added to: a file that is none is written anew, as it would be by a training run.
    let before = fs::read(folder.join(ALL)).unwrap_or_default();
    let mut all: Map<String, Value> = serde_json::from_slice(&before).unwrap_or_default();
    all.extend(figures.clone());
    save_sorted(folder, ALL, &all)
}

fn save_sorted(folder: &Path, name: &str, figures: &Map<String, Value>) -> Result<(), TrainError> {
    let mut figures = figures.clone();
    figures.sort_keys();
    let bytes = indented(&Value::Object(figures), 4).map_err(|source| TrainError::Write {
        path: folder.join(name),
        source,
    })?;
    save_file(folder, name, &bytes)
}

/// Seconds and rates under the original's names, such as `predict_runtime`.
pub fn speed(part: &str, seconds: f64, samples: usize, batch_size: usize) -> Map<String, Value> {
    let seconds = seconds.max(1e-9);
    let steps = samples.div_ceil(batch_size.max(1));
    let mut figures = Map::new();
    for (name, value, scale) in [
        ("runtime", seconds, 1e4),
        ("samples_per_second", samples as f64 / seconds, 1e3),
        ("steps_per_second", steps as f64 / seconds, 1e3),
    ] {
        let value = (value * scale).round() / scale;
        figures.insert(format!("{part}_{name}"), value.into());
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_to_those_that_are_there() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("deep/out");
        let figures = |name: &str, value: f64| Map::from_iter([(name.to_owned(), value.into())]);
        save_results(&folder, "predict", &figures("predict_rouge-1", 0.5)).unwrap();
        save_results(&folder, "eval", &figures("eval_loss", 2.0)).unwrap();
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(
            text(ALL),
            "{\n    \"eval_loss\": 2.0,\n    \"predict_rouge-1\": 0.5\n}\n"
        );
        assert_eq!(
            text("predict_results.json"),
            "{\n    \"predict_rouge-1\": 0.5\n}\n"
        );
        fs::write(folder.join(ALL), "[1, 2").unwrap();
        save_results(&folder, "eval", &figures("eval_loss", 1.0)).unwrap();
        assert_eq!(text(ALL), text("eval_results.json"));
        let names = fs::read_dir(&folder).unwrap().count();
        assert_eq!(names, 3, "nothing is left beside");
    }
}
