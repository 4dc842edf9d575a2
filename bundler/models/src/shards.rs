//! The index of a model in several safetensors files: every tensor is in the shard that the index names.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{Flaw, ModelFileError};

/// Longest index: that of a thousand experts has a tenth of this.
pub(crate) const LONGEST_INDEX: u64 = 256 << 20;

/// Whether a file of this name is such an index.
pub fn is_shard_index(path: &str) -> bool {
    path.ends_with(".safetensors.index.json")
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Checks the index in `text` against `shards`: the tensors of each safetensors file by its path in the model.
///
/// # Errors
/// Names the shard or tensor that is not where the index says.
pub fn check_shards(
    path: &str,
    text: &[u8],
    shards: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(), ModelFileError> {
    let flawed = |flaw, at: String, found: String, expected: &str| {
        ModelFileError::flawed(path, flaw, at, found, expected)
    };
    let index: Index = serde_json::from_slice(text).map_err(|error| {
        let at = format!("line {}, column {}", error.line(), error.column());
        flawed(
            Flaw::Json,
            at,
            error.to_string(),
            "`weight_map`: a file name for each tensor",
        )
    })?;
    let folder = path.rsplit_once('/').map(|(folder, _)| folder);
    for (tensor, shard) in &index.weight_map {
        let at = || format!("tensor `{}`", tensor.chars().take(120).collect::<String>());
        let beside = match folder {
            Some(folder) => format!("{folder}/{shard}"),
            None => shard.clone(),
        };
        match shards.get(&beside) {
            None => {
                let expected = "a safetensors file of the bundle beside the index";
                return Err(flawed(
                    Flaw::ShardMissing,
                    at(),
                    format!("`{shard}`"),
                    expected,
                ));
            }
            Some(tensors) if !tensors.contains(tensor) => {
                let expected = "a shard that has the tensor";
                return Err(flawed(
                    Flaw::TensorMissing,
                    at(),
                    format!("`{shard}`"),
                    expected,
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_held_against_its_shards() {
        let shards = BTreeMap::from([
            (
                "m/one.safetensors".to_owned(),
                BTreeSet::from(["a".to_owned()]),
            ),
            (
                "m/two.safetensors".to_owned(),
                BTreeSet::from(["b".to_owned()]),
            ),
        ]);
        for (map, flaw) in [
            (r#"{"a":"one.safetensors","b":"two.safetensors"}"#, None),
            (r#"{"a":"two.safetensors"}"#, Some(Flaw::TensorMissing)),
            (r#"{"a":"three.safetensors"}"#, Some(Flaw::ShardMissing)),
            (r#"{"a":"../m/one.safetensors"}"#, Some(Flaw::ShardMissing)),
            (r#"{"a":1}"#, Some(Flaw::Json)),
        ] {
            let text = format!(r#"{{"metadata":{{}},"weight_map":{map}}}"#);
            let found =
                match check_shards("m/model.safetensors.index.json", text.as_bytes(), &shards) {
                    Ok(()) => None,
                    Err(ModelFileError::Flawed { flaw, .. }) => Some(flaw),
                    Err(other) => panic!("{other}"),
                };
            assert_eq!(found, flaw, "{map}");
        }
    }
}
