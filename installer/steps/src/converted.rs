//! What the runtime converted on site: `cache/converted/<hex>/` with its `origin.json`.
//!
//! The runtime writes the digest of what it read and of every file that it made. Those digests are as good as
//! the machine they were written on; that the source is a signed blob, and that nothing has changed since, is
//! what an audit can add.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use manifest_schema::Digest;
use serde::Deserialize;

use crate::audit::{AuditedFile, Standing};
use crate::disk::{DiskError, read_small};
use crate::environment::{digest_of, walk};
use crate::prefix::Prefix;

/// What `origin.json` says; more may stand there.
#[derive(Deserialize)]
struct ConversionRecord {
    source: Digest,
    converter: String,
    version: serde_json::Value,
    files: BTreeMap<String, Made>,
}

#[derive(Deserialize)]
struct Made {
    digest: Digest,
}

/// Checks every conversion. `signed` are the blobs that a signature covers.
pub(crate) fn check(prefix: &Prefix, signed: &[Digest]) -> Result<Vec<AuditedFile>, DiskError> {
    let home = prefix.converted();
    let entries = match fs::read_dir(&home) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::of("list", &home)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::of("list", &home))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let folder = home.join(&name);
        let record = read_small(&folder.join("origin.json"), 1024 * 1024)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<ConversionRecord>(&bytes).ok())
            // A folder must be named for its source, and its source must be something that was signed.
            .filter(|record| record.source.hex() == name && signed.contains(&record.source));
        let there = if entry
            .file_type()
            .map_err(DiskError::of("read", &folder))?
            .is_dir()
        {
            walk(&folder)?
        } else {
            vec![String::new()]
        };
        let made_from = record.as_ref().map(|record| {
            let version = match &record.version {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            format!("{} by {} {version}", record.source, record.converter)
        });
        let known = record.map(|record| record.files).unwrap_or_default();
        for path in &there {
            let expected = known.get(path).map(|made| made.digest);
            let standing = match expected {
                None if path == "origin.json" && made_from.is_some() => Standing::MadeOnSite,
                expected => {
                    let found = digest_of(&folder.join(path));
                    Standing::of(Standing::MadeOnSite, expected, found)
                }
            };
            let path = format!("cache/converted/{name}/{path}");
            files.push(file(
                path.trim_end_matches('/'),
                standing,
                expected,
                made_from.clone(),
            ));
        }
        for path in known.keys().filter(|path| !there.contains(path)) {
            let path = format!("cache/converted/{name}/{path}");
            files.push(file(&path, Standing::Missing, None, made_from.clone()));
        }
    }
    Ok(files)
}

fn file(
    path: &str,
    standing: Standing,
    digest: Option<Digest>,
    made_from: Option<String>,
) -> AuditedFile {
    AuditedFile {
        path: path.to_owned(),
        standing,
        digest,
        origin: None,
        made_from,
        license: None,
        code_on_load: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversion_stands_on_a_signed_source_and_its_own_digests() {
        let source = Digest::of(b"weights");
        let made = Digest::of(b"converted");
        for (signed, content, expected) in [
            (vec![source], "converted", Standing::MadeOnSite),
            (vec![source], "tampered!", Standing::Changed),
            (vec![], "converted", Standing::Unsigned),
        ] {
            let root = tempfile::tempdir().unwrap();
            let prefix = Prefix::at(root.path()).unwrap();
            let folder = prefix.converted().join(source.hex());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("model.safetensors"), content).unwrap();
            let record = serde_json::json!({
                "format": 1, "source": source, "converter": "ferry-runtime gguf", "version": 1,
                "files": {"model.safetensors": {"digest": made, "size": 9}},
            });
            fs::write(folder.join("origin.json"), record.to_string()).unwrap();
            let files = check(&prefix, &signed).unwrap();
            let model = files.iter().find(|file| file.path.ends_with("tensors"));
            assert_eq!(model.unwrap().standing, expected, "{content}");
        }
    }
}
