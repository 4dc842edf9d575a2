//! Whether a job's datasets are on this machine, as LLaMA-Factory would look for them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use train_data::DataError;

const LIST: &str = "dataset_info.json";

/// More than any list takes.
const LARGEST: u64 = 64 << 20;

/// Names of an entry that mean something elsewhere; LLaMA-Factory prefers them to a file.
const ELSEWHERE: [&str; 5] = [
    "hf_hub_url",
    "ms_hub_url",
    "om_hub_url",
    "script_url",
    "cloud_file_name",
];

/// The file or folder of each of `names`, as the list in `folder` has it.
pub(super) fn find(folder: &Path, names: &[String]) -> Result<Vec<(String, PathBuf)>, DataError> {
    let path = folder.join(LIST);
    let list = read(&path)?;
    let found = names.iter().map(|name| {
        let entry = list.get(name).ok_or_else(|| DataError::UnknownDataset {
            name: name.clone(),
            path: path.clone(),
            listed: listed(&list),
        })?;
        if let Some(what) = ELSEWHERE.iter().find(|what| !entry[**what].is_null()) {
            return Err(DataError::NotLocal {
                path: path.clone(),
                dataset: name.clone(),
                what: format!("`{what}`"),
            });
        }
        let Some(file) = entry["file_name"].as_str() else {
            return Err(DataError::Shape {
                path: path.clone(),
                place: name.clone(),
                expected: "`file_name`".to_owned(),
                found: "nothing".to_owned(),
            });
        };
        let file = folder.join(file);
        match file.metadata() {
            Ok(_) => Ok((name.clone(), file)),
            Err(source) => Err(DataError::Read { path: file, source }),
        }
    });
    found.collect()
}

fn read(path: &Path) -> Result<Map<String, Value>, DataError> {
    let fault = |source: io::Error| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(fault)?;
    file.take(LARGEST).read_to_end(&mut text).map_err(fault)?;
    serde_json::from_slice(&text).map_err(|source| DataError::Json {
        path: path.to_owned(),
        line: source.line(),
        column: source.column(),
        source,
    })
}

fn listed(list: &Map<String, Value>) -> String {
    const MOST: usize = 20;
    let mut names: Vec<&str> = list.keys().take(MOST).map(String::as_str).collect();
    names.extend((list.len() > MOST).then_some("…"));
    names.join(", ")
}
