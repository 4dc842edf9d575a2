//! Tokens of earlier runs, so that a second start reads them.
//!
//! ```text
//! <cache>/tokens/<key>          examples, named by the digest of all that they are made of; see `item_file`
//! <cache>/tokens/.<key>.<n>     being written
//! <tokenized_path>/examples.ferry   the same where a job wants them, to be carried elsewhere
//! ```
//!
//! A key is made of the data's content, the tokenizer, the template and the settings, so an entry is never out of date. It is
//! renamed only after it was flushed, and two programs that write the same key write the same bytes. What was used longest
//! ago goes when there is too much.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use report::{Event, Sink};
use sha2::{Digest, Sha256};

use crate::dataset::Dataset;
use crate::encode::Encoder;
use crate::error::DataError;
use crate::item_file;
use crate::prepare::{Prepared, Request};

/// Bytes that all entries may take together.
const MOST_BYTES: u64 = 8 << 30;

/// What a program that was killed left half-written goes after this time.
const STALE: Duration = Duration::from_hours(24);

/// Raised whenever the same records become other tokens or labels.
const RULES: u32 = 2;

/// Name of the examples in a job's own folder.
const OWN: &str = "examples.ferry";

/// Where examples are kept between runs.
#[derive(Clone, Debug, Default)]
pub struct Cache<'a> {
    /// Folder of the cache; none: nothing is kept.
    pub folder: Option<PathBuf>,
    /// The job's own folder (`tokenized_path`), which is read instead of the data where it has examples.
    pub own: Option<&'a Path>,
    /// What is there is written anew (`overwrite_cache`).
    pub renew: bool,
    /// Nothing is written.
    pub reads_only: bool,
}

/// What examples are made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// All but the data.
    pub(crate) fn of_settings(encoder: &Encoder<'_>) -> Self {
        let (request, settings, tokenizer) = (encoder.request, encoder.settings, encoder.tokenizer);
        let how = format!(
            "{} {RULES} {:?} {:?} {} {} {} {} {:?} {:?} {:?} {} {} {:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            (
                tokenizer.end_id(),
                tokenizer.begin_id(),
                tokenizer.padding_id(),
                tokenizer.adds_begin()
            ),
            settings.template,
            settings.cutoff_len,
            settings.train_on_prompt,
            settings.mask_history,
            settings.enable_thinking,
            settings.tool_date,
            request.stage,
            request.packing,
            request.chunk,
            request.workers,
            request.overlap,
            request.text_end,
        );
        let mut hash = Sha256::new();
        hash.update(tokenizer.digest());
        hash.update(how);
        Self(hash.finalize().into())
    }

    /// These settings over these datasets.
    pub(crate) fn with_data(
        self,
        request: &Request<'_>,
        sets: &[&[Dataset]],
    ) -> Result<Self, DataError> {
        let mut hash = Sha256::new();
        hash.update(self.0);
        let what = format!(
            "{:?} {:?} {:?} {} {}",
            request.mix, request.max_samples, request.held_out, request.eval_apart, request.seed
        );
        hash.update(what);
        for datasets in sets {
            hash.update(datasets.len().to_le_bytes());
            for dataset in *datasets {
                for text in [&dataset.name, &dataset.entry] {
                    hash.update(text.len().to_le_bytes());
                    hash.update(text);
                }
                // Warnings name the files.
                hash.update(format!("{:?}", dataset.source.files()));
                hash.update(dataset.source.digest()?);
            }
        }
        Ok(Self(hash.finalize().into()))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn name(&self) -> String {
        hex(&self.0)
    }
}

/// Bytes as two digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
    digits.collect()
}

impl Cache<'_> {
    /// The examples of the job's own folder, if it has any.
    pub(crate) fn own(&self, how: Key) -> Result<Option<Prepared>, DataError> {
        let Some(folder) = self.own.filter(|_| !self.renew) else {
            return Ok(None);
        };
        let path = folder.join(OWN);
        if !path.exists() {
            return takes(folder).map(|()| None);
        }
        let bytes = fs::read(&path).map_err(|source| DataError::Read {
            path: path.clone(),
            source,
        })?;
        let unusable = |reason: &str| DataError::Tokenized {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let (made, prepared) = item_file::read(&bytes)
            .ok_or_else(|| unusable("it is damaged, or of another version of this program"))?;
        if made != *how.bytes() {
            return Err(unusable(
                "it was made with another tokenizer, template, stage, `cutoff_len` or other setting of this job",
            ));
        }
        Ok(Some(prepared))
    }

    pub(crate) fn keep_own(&self, how: Key, prepared: &Prepared) -> Result<(), DataError> {
        let Some(folder) = self.own.filter(|_| !self.reads_only) else {
            return Ok(());
        };
        takes(folder)?;
        let path = folder.join(OWN);
        fs::create_dir_all(folder)
            .and_then(|()| write(&path, how, prepared))
            .map_err(|source| DataError::Write { path, source })
    }

    /// The entry of a key. One that is damaged is as good as none.
    pub(crate) fn find(&self, key: Key) -> Option<Prepared> {
        let path = self
            .folder
            .as_ref()
            .filter(|_| !self.renew)?
            .join(key.name());
        let bytes = fs::read(&path).ok()?;
        let (made, prepared) = item_file::read(&bytes)?;
        if made != *key.bytes() {
            return None;
        }
        if !self.reads_only
            && let Ok(file) = File::options().append(true).open(&path)
        {
            // Only the order in which entries go depends on it.
            let _unordered = file.set_modified(SystemTime::now());
        }
        Some(prepared)
    }

    /// Whether entries are written.
    pub(crate) fn keeps(&self) -> bool {
        self.folder.is_some() && !self.reads_only
    }

    /// Keeps an entry. A run does not fail for want of it: a person is told.
    pub(crate) fn keep(&self, key: Key, prepared: &Prepared, sink: &dyn Sink) {
        let Some(folder) = self.folder.as_ref().filter(|_| !self.reads_only) else {
            return;
        };
        let kept = fs::create_dir_all(folder)
            .and_then(|()| write(&folder.join(key.name()), key, prepared))
            .and_then(|()| sweep(folder, MOST_BYTES));
        if let Err(error) = kept {
            sink.emit(&Event::Warned {
                code: "data.not-kept".to_owned(),
                args: vec![
                    ("path".to_owned(), folder.display().to_string()),
                    ("reason".to_owned(), error.to_string()),
                ],
            });
        }
    }
}

/// Whether a job's own folder is free to be written.
fn takes(folder: &Path) -> Result<(), DataError> {
    let foreign = ["dataset_dict.json", "dataset_info.json", "state.json"];
    if foreign.iter().any(|name| folder.join(name).exists()) {
        return Err(DataError::Tokenized {
            path: folder.to_owned(),
            reason: "it was written by LLaMA-Factory, whose tokens are kept in another form"
                .to_owned(),
        });
    }
    Ok(())
}

/// Writes a file beside its place, flushes it, and puts it there.
fn write(path: &Path, key: Key, prepared: &Prepared) -> io::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let partial = folder.join(format!(".{name}.{}-{count}", process::id()));
    let written = File::create_new(&partial).and_then(|mut file| {
        item_file::write(&mut file, key.bytes(), prepared)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        // What is left of it is swept away later.
        let _left = fs::remove_file(&partial);
    }
    written
}

/// Removes the entries that were used longest ago until the rest takes at most `most` bytes, and what was left half-written.
fn sweep(folder: &Path, most: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Another program may have swept it away.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let used = metadata.modified()?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            if used.elapsed().is_ok_and(|age| age > STALE) {
                remove(&entry.path())?;
            }
        } else {
            entries.push((used, metadata.len(), entry.path()));
        }
    }
    entries.sort();
    let mut total: u64 = entries.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in entries {
        if total <= most {
            break;
        }
        remove(&path)?;
        total -= length;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use report::{Recorder, Silent};

    use super::*;
    use crate::example::{Example, Item};

    fn prepared(id: u32, count: usize) -> Prepared {
        Prepared {
            items: vec![Item::Single(Example::of_text(vec![id; count]))],
            ..Prepared::default()
        }
    }

    fn cache(folder: &Path) -> Cache<'static> {
        Cache {
            folder: Some(folder.to_owned()),
            ..Cache::default()
        }
    }

    const KEY: Key = Key([7; 32]);

    #[test]
    fn an_entry_comes_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        assert_eq!(cache.find(KEY), None);
        cache.keep(KEY, &prepared(1, 3), &Silent);
        assert_eq!(cache.find(KEY), Some(prepared(1, 3)));
        assert_eq!(cache.find(Key([8; 32])), None);
        let renewed = Cache {
            renew: true,
            ..cache.clone()
        };
        assert_eq!(renewed.find(KEY), None);
        let path = folder.path().join(KEY.name());
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.find(KEY), None, "{length}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.find(KEY), None, "{at}");
        }
        // As another entry's file under this name.
        let other = folder.path().join(Key([8; 32]).name());
        cache.keep(Key([8; 32]), &prepared(2, 2), &Silent);
        fs::rename(other, &path).unwrap();
        assert_eq!(cache.find(KEY), None);
    }

    #[test]
    fn many_writers_leave_one_whole_entry() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        cache.keep(KEY, &prepared(1, 5000), &Silent);
                        assert_eq!(cache.find(KEY), Some(prepared(1, 5000)));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let hour = Duration::from_hours(1);
        let age = |name: &str, hours: u32| {
            let file = File::options()
                .append(true)
                .open(folder.path().join(name))
                .unwrap();
            file.set_modified(SystemTime::now() - hour * hours).unwrap();
        };
        for (id, hours) in [(1, 3), (2, 2), (3, 1)] {
            cache.keep(Key([id; 32]), &prepared(u32::from(id), 100), &Silent);
            age(&Key([id; 32]).name(), hours);
        }
        for (name, hours) in [(".old.1-0", 25), (".new.1-0", 1)] {
            fs::write(folder.path().join(name), "").unwrap();
            age(name, hours);
        }
        // Used again, and so the newest.
        assert!(cache.find(Key([1; 32])).is_some());
        let length = fs::metadata(folder.path().join(KEY_1)).unwrap().len();
        sweep(folder.path(), 2 * length).unwrap();
        let left: Vec<bool> = [1, 2, 3]
            .map(|id| cache.find(Key([id; 32])).is_some())
            .to_vec();
        assert_eq!(left, [true, false, true]);
        assert!(!folder.path().join(".old.1-0").exists());
        assert!(folder.path().join(".new.1-0").exists());
    }

    const KEY_1: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    #[test]
    fn a_cache_that_cannot_be_written_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let told = Recorder::default();
        cache(&file.join("tokens")).keep(KEY, &prepared(1, 1), &told);
        assert!(
            matches!(&told.events()[..], [Event::Warned { code, .. }] if code == "data.not-kept")
        );
        let reads_only = Cache {
            reads_only: true,
            ..cache(&folder.path().join("tokens"))
        };
        reads_only.keep(KEY, &prepared(1, 1), &Silent);
        assert!(!folder.path().join("tokens").exists());
    }

    #[test]
    fn a_jobs_own_folder_is_read_instead_of_the_data_and_must_fit() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        let cache = Cache {
            own: Some(&own),
            ..Cache::default()
        };
        assert_eq!(cache.own(KEY).unwrap(), None);
        cache.keep_own(KEY, &prepared(1, 3)).unwrap();
        assert_eq!(cache.own(KEY).unwrap(), Some(prepared(1, 3)));
        let error = cache.own(Key([8; 32])).unwrap_err().to_string();
        assert!(error.contains("another tokenizer"), "{error}");
        fs::write(own.join(OWN), "FERRYTOK").unwrap();
        let error = cache.own(KEY).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        fs::remove_file(own.join(OWN)).unwrap();
        fs::write(own.join("dataset_dict.json"), "{}").unwrap();
        let error = cache.own(KEY).unwrap_err().to_string();
        assert!(error.contains("LLaMA-Factory"), "{error}");
    }
}
