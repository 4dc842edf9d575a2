//! Which files run code when they are loaded, by their names and by their content.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use flate2::read::{GzDecoder, ZlibDecoder};
use manifest_schema::CodeForm;
use serde::de::IgnoredAny;

use crate::error::{Flaw, ModelFileError};
use crate::head::Head;
use crate::zipped::{Zip, is_zip};
use crate::{keras, numpy, pickle};

pub(crate) const MAGIC_NUMPY: &[u8] = b"\x93NUMPY";

/// Endings of files that `pickle`, `torch.load` or `joblib` read.
const PICKLES: [&str; 14] = [
    "bin", "ckpt", "dill", "joblib", "mar", "nemo", "p", "pickle", "pk", "pkl", "pt", "pt2", "pth",
    "ptl",
];

/// Endings of packers that such files are often put through.
const PACKED: [&str; 7] = ["gz", "bz2", "xz", "lzma", "zst", "lz4", "z"];

/// Longest configuration that is looked into.
const LONGEST_CONFIG: u64 = 16 << 20;

/// What the name alone tells: a pickle by its ending, a Python program.
pub fn by_name(path: &str) -> Option<CodeForm> {
    let lower = path.to_ascii_lowercase();
    let name = lower.rsplit('/').next().unwrap_or(&lower);
    let (stem, ending) = name.rsplit_once('.')?;
    let ending = match stem.rsplit_once('.') {
        Some((_, inner)) if PACKED.contains(&ending) => inner,
        _ => ending,
    };
    if PICKLES.contains(&ending) {
        Some(CodeForm::NameOnly)
    } else {
        matches!(ending, "py" | "pyc").then_some(CodeForm::Python)
    }
}

/// Whether the name ends in a dot and these letters, small or capital.
pub(crate) fn has_ending(name: &str, ending: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, found)| found.eq_ignore_ascii_case(ending))
}

/// What the content tells.
pub(crate) fn by_content(file: &File, path: &str) -> Result<Option<CodeForm>, ModelFileError> {
    let unreadable = || ModelFileError::unreadable(path);
    let mut head = Head::open(file).map_err(unreadable())?;
    if pickle::is_pickle(&mut head).map_err(unreadable())? {
        return Ok(Some(CodeForm::Pickle));
    }
    let size = head.size;
    let mut front = vec![0; size.min(numpy::LONGEST_HEADER) as usize];
    file.read_exact_at(&mut front, 0).map_err(unreadable())?;
    if numpy::has_objects(&front) {
        return Ok(Some(CodeForm::NumpyObjects));
    }
    if let Some(inner) = unpacked(file, &front).map_err(unreadable())?
        && inner_pickle(&inner).map_err(unreadable())?
    {
        return Ok(Some(CodeForm::Pickle));
    }
    if front.starts_with(keras::MAGIC_HDF5) {
        let lambda = keras::file_names_lambda(file).map_err(unreadable())?;
        return Ok(lambda.then_some(CodeForm::KerasLambda));
    }
    if is_zip(file, size).map_err(unreadable())? {
        return in_zip(file, path);
    }
    let configuration = has_ending(path, "json") && size <= LONGEST_CONFIG;
    if configuration && names_remote_code(file).map_err(unreadable())? {
        return Ok(Some(CodeForm::RemoteCode));
    }
    Ok(None)
}

/// What is in a zip archive: `torch.save` writes its pickle as `…/data.pkl`, `numpy.savez` its arrays as `….npy`.
fn in_zip(file: &File, path: &str) -> Result<Option<CodeForm>, ModelFileError> {
    let unreadable = || ModelFileError::unreadable(path);
    let zip = match Zip::open(file).map_err(unreadable())? {
        Ok(zip) => zip,
        Err(found) => {
            let expected = "a directory of at most 1048576 members";
            return Err(ModelFileError::flawed(
                path,
                Flaw::Archive,
                "at its end",
                found,
                expected,
            ));
        }
    };
    for member in zip.members() {
        if by_name(&member.name) == Some(CodeForm::NameOnly) {
            return Ok(Some(CodeForm::PickleInZip));
        }
        let read = |limit| zip.read(member, limit).map_err(unreadable());
        // A member that cannot be read cannot be loaded either.
        if has_ending(&member.name, "npy")
            && read(numpy::LONGEST_HEADER)?.is_some_and(|front| numpy::has_objects(&front))
        {
            return Ok(Some(CodeForm::NumpyObjects));
        }
        if has_ending(path, "keras")
            && member.name.ends_with("config.json")
            && read(LONGEST_CONFIG)?.is_some_and(|text| keras::names_lambda(&text))
        {
            return Ok(Some(CodeForm::KerasLambda));
        }
    }
    Ok(None)
}

/// The first bytes of what is inside gzip or zlib, as joblib writes it.
fn unpacked(mut file: &File, front: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    // Damaged packing gives what comes before the damage.
    let _ = match front {
        [0x1f, 0x8b, ..] => GzDecoder::new(file).take(1 << 16).read_to_end(&mut bytes),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => {
            ZlibDecoder::new(file).take(1 << 16).read_to_end(&mut bytes)
        }
        _ => return Ok(None),
    };
    Ok(Some(bytes))
}

/// Whether unpacked bytes are a pickle, which is asked of a file.
fn inner_pickle(bytes: &[u8]) -> io::Result<bool> {
    pickle::is_pickle(&mut Head::of(bytes))
}

/// Whether a configuration sends `transformers` to a Python program, by `auto_map` or `custom_pipelines`.
fn names_remote_code(mut file: &File) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let mut text = Vec::new();
    file.take(LONGEST_CONFIG).read_to_end(&mut text)?;
    // Other JSON, such as a list, is no configuration.
    #[expect(
        clippy::zero_sized_map_values,
        reason = "a set cannot pass over the values"
    )]
    let names = serde_json::from_slice::<HashMap<String, IgnoredAny>>(&text);
    let asks = |name: &String| name == "auto_map" || name == "custom_pipelines";
    Ok(names.is_ok_and(|names| names.keys().any(asks)))
}
