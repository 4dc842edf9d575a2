//! Jobs that the page makes: nothing in them may lead out of the page's folders.

use std::path::Path;

use report::Trouble;
use serde_json::Value;
use train::Job;

use super::error::WebError;
use super::folders::Folders;
use crate::home::Home;

/// Bytes of a job.
pub(super) const LARGEST: usize = 1 << 20;
/// The file's name, also in messages.
pub(super) const FILE: &str = "job.yaml";

/// Keys whose values are words for the model, not names of files.
const TEXTS: [&str; 2] = ["default_system", "tool_date"];

/// Refuses a job with a value that could name a file elsewhere, whatever its key.
pub(super) fn confine(text: &str, folders: &Folders, home: &Home) -> Result<(), Trouble> {
    for (key, (_, value)) in Job::given(FILE, text, &[])? {
        if !TEXTS.contains(&key.as_str()) {
            look(&key, &value, folders, home)?;
        }
    }
    Ok(())
}

/// Refuses a job that writes elsewhere than into `folder`.
pub(super) fn writes_to(text: &str, folder: &Path) -> Result<(), Trouble> {
    let given = Job::given(FILE, text, &[])?;
    let output = given
        .get("output_dir")
        .and_then(|(_, value)| value.as_str());
    if output.is_some_and(|output| Path::new(output) == folder) {
        return Ok(());
    }
    Err(WebError::OutputElsewhere {
        expected: folder.display().to_string(),
    }
    .into())
}

/// A key's value in the job of a run, for the page.
pub(super) fn word(text: &str, key: &str) -> Option<String> {
    let given = Job::given(FILE, text, &[]).ok()?;
    match &given.get(key)?.1 {
        Value::String(word) => Some(word.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

fn look(key: &str, value: &Value, folders: &Folders, home: &Home) -> Result<(), WebError> {
    match value {
        Value::String(text) => {
            // A value may be a list between commas.
            for part in text.split(',').map(str::trim) {
                let model = key == "model_name_or_path" && is_installed(part, home);
                if !model && !part.is_empty() && !folders.hold(Path::new(part)) {
                    return Err(WebError::Outside {
                        key: key.to_owned(),
                        path: part.chars().take(200).collect(),
                    });
                }
            }
            Ok(())
        }
        Value::Array(list) => list
            .iter()
            .try_for_each(|value| look(key, value, folders, home)),
        Value::Object(map) => map
            .values()
            .try_for_each(|value| look(key, value, folders, home)),
        _ => Ok(()),
    }
}

/// Whether it is a model of the release by its name there.
fn is_installed(name: &str, home: &Home) -> bool {
    let plain = name
        .split('/')
        .all(|part| super::folders::checked(part).is_ok());
    let release = home.release.as_ref().filter(|_| plain);
    release.is_some_and(|release| release.join("models").join(name).exists())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_key_leads_out_whatever_its_name() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("runs")).unwrap();
        fs::create_dir_all(root.join("data")).unwrap();
        fs::create_dir_all(root.join("models/org/small")).unwrap();
        let folders = Folders {
            models: Some(root.join("models")),
            data: root.join("data"),
            installed_data: None,
            runs: root.join("runs"),
        };
        let home = Home {
            release: Some(root.clone()),
            cache: root.join("cache"),
        };
        let models = root.join("models").display().to_string();
        for (job, right) in [
            ("model_name_or_path: org/small\nstage: sft", true),
            (&format!("model_name_or_path: {models}/org/small"), true),
            ("model_name_or_path: /etc", false),
            ("model_name_or_path: org/../../..", false),
            ("dataset_dir: /", false),
            ("dataset_dir: ../data", true),
            ("adapter_name_or_path: one, ../../secret", false),
            ("output_dir: ../../elsewhere", false),
            ("anything: {deep: [\"/etc/passwd\"]}", false),
            ("default_system: \"and/or: /etc\"", true),
            ("learning_rate: 1.0e-4\nbf16: true", true),
        ] {
            assert_eq!(confine(job, &folders, &home).is_ok(), right, "{job}");
        }
    }
}
