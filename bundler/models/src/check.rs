//! Everything that one file's content can tell.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use manifest_schema::CodeForm;

use crate::code::{by_content, has_ending};
use crate::error::{Flaw, ModelFileError};
use crate::gguf;
use crate::safetensors::Safetensors;
use crate::shards::{LONGEST_INDEX, is_shard_index};

/// What a file's content tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Checked {
    /// How it runs code when it is loaded.
    pub code: Option<CodeForm>,
    /// The names of its tensors, where it is a safetensors file.
    pub tensors: Option<BTreeSet<String>>,
    /// Its text, where it is the index of a model in several files.
    pub index: Option<Vec<u8>>,
}

/// Looks into the file at `place`, whose path in the model is `path`.
///
/// A file that runs code is not looked into further: whether it may be there at all comes first.
///
/// # Errors
/// When the file cannot be read, or is not what its name or its first bytes say.
pub fn check(place: &Path, path: &str) -> Result<Checked, ModelFileError> {
    let unreadable = || ModelFileError::unreadable(path);
    let file = File::open(place).map_err(unreadable())?;
    let size = file.metadata().map_err(unreadable())?.len();
    let mut checked = Checked {
        code: by_content(&file, path)?,
        ..Checked::default()
    };
    if checked.code.is_some_and(CodeForm::runs_unasked) {
        return Ok(checked);
    }
    let mut first = [0; 4];
    if size >= 4 {
        file.read_exact_at(&mut first, 0).map_err(unreadable())?;
    }
    if has_ending(path, "safetensors") {
        let header = Safetensors::read(&file, path)?;
        checked.tensors = Some(header.tensors.into_keys().collect());
    } else if has_ending(path, "gguf") || first == *gguf::MAGIC {
        gguf::check(&file, path)?;
    } else if is_shard_index(path) {
        if size > LONGEST_INDEX {
            let (found, most) = (format!("{size} bytes"), format!("at most {LONGEST_INDEX}"));
            return Err(ModelFileError::flawed(
                path,
                Flaw::Bound,
                "its size",
                found,
                most,
            ));
        }
        let mut text = vec![0; size as usize];
        file.read_exact_at(&mut text, 0).map_err(unreadable())?;
        checked.index = Some(text);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Cursor, Write as _};

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::ModelFileError;

    const PICKLE: &[u8] =
        b"\x80\x04\x95\x17\0\0\0\0\0\0\0\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.";
    const OBJECTS: &[u8] = b"\x93NUMPY\x01\0\x10\0{'descr': '|O'}\n";

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn looked_into(path: &str, bytes: &[u8]) -> Result<Checked, ModelFileError> {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("blob");
        fs::write(&place, bytes).unwrap();
        check(&place, path)
    }

    #[test]
    fn code_is_found_by_content_whatever_the_name() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(PICKLE).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(PICKLE).unwrap();
        let far = [&vec![0; (1 << 20) - 9][..], b"\"class_name\": \"Lambda\""].concat();
        let hdf5 = [&b"\x89HDF\r\n\x1a\n"[..], &far].concat();
        let lambda: &[u8] = br#"{"layers": [{"class_name": "Lambda"}]}"#;
        for (path, bytes, form) in [
            ("model.safetensors", PICKLE.to_vec(), CodeForm::Pickle),
            ("README.md", PICKLE.to_vec(), CodeForm::Pickle),
            ("m.joblib", gzip.finish().unwrap(), CodeForm::Pickle),
            ("m.joblib", zlib.finish().unwrap(), CodeForm::Pickle),
            (
                "model.safetensors",
                archive(&[("archive/data.pkl", PICKLE)]),
                CodeForm::PickleInZip,
            ),
            (
                "data.zip",
                archive(&[("a.txt", b"text"), ("b/c.PT", b"")]),
                CodeForm::PickleInZip,
            ),
            ("a.npy", OBJECTS.to_vec(), CodeForm::NumpyObjects),
            (
                "a.npz",
                archive(&[("n.npy", OBJECTS)]),
                CodeForm::NumpyObjects,
            ),
            (
                "m.keras",
                archive(&[("config.json", lambda)]),
                CodeForm::KerasLambda,
            ),
            ("m.h5", hdf5, CodeForm::KerasLambda),
            (
                "config.json",
                br#"{"auto_map": {"AutoModel": "other/repo--m.M"}}"#.to_vec(),
                CodeForm::RemoteCode,
            ),
        ] {
            let checked = looked_into(path, &bytes).unwrap();
            assert_eq!(checked.code, Some(form), "{path}");
        }
    }

    #[test]
    fn harmless_files_are_harmless() {
        let numbers = b"\x93NUMPY\x01\0\x11\0{'descr': '<f4'}\n";
        for (path, bytes) in [
            ("config.json", br#"{"model_type": "qwen2"}"#.to_vec()),
            ("list.json", b"[1, 2]".to_vec()),
            ("empty", vec![]),
            ("a.npz", archive(&[("n.npy", numbers)])),
            (
                "m.keras",
                archive(&[("config.json", br#"{"class_name": "Dense"}"#)]),
            ),
            ("data.zip", archive(&[("a.txt", b"text")])),
            ("weights.h5", b"\x89HDF\r\n\x1a\nnumbers".to_vec()),
        ] {
            assert_eq!(looked_into(path, &bytes).unwrap().code, None, "{path}");
        }
    }

    #[test]
    fn a_bomb_is_neither_unpacked_nor_believed() {
        // A gibibyte of zeros in a megabyte: its name tells enough.
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("bomb/data.pkl", SimpleFileOptions::default())
            .unwrap();
        let zeros = vec![0; 1 << 24];
        (0..8).for_each(|_| zip.write_all(&zeros).unwrap());
        let bomb = zip.finish().unwrap().into_inner();
        assert_eq!(
            looked_into("m.pt", &bomb).unwrap().code,
            Some(CodeForm::PickleInZip)
        );
        // As an array, only its front is unpacked.
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("bomb.npy", SimpleFileOptions::default())
            .unwrap();
        (0..8).for_each(|_| zip.write_all(&zeros).unwrap());
        let bomb = zip.finish().unwrap().into_inner();
        assert_eq!(looked_into("a.npz", &bomb).unwrap().code, None);
        // More members than there are bytes.
        let mut many = archive(&[("a", b"x")]);
        let end = many.len() - 22;
        many[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
        let error = looked_into("m.pt", &many).unwrap_err();
        assert!(
            matches!(
                error,
                ModelFileError::Flawed {
                    flaw: Flaw::Archive,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn names_tell_pickles_and_programs() {
        for (path, form) in [
            ("pytorch_model.bin", Some(CodeForm::NameOnly)),
            ("a/b/model-00001-of-00002.PT", Some(CodeForm::NameOnly)),
            ("data.pkl.gz", Some(CodeForm::NameOnly)),
            ("modeling_x.py", Some(CodeForm::Python)),
            ("model.safetensors", None),
            ("vocab.txt.gz", None),
            ("LICENSE", None),
            ("bin/readme", None),
        ] {
            assert_eq!(crate::by_name(path), form, "{path}");
        }
    }
}
