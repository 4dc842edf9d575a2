//! One folder for each thread, used again and again: making a new one for every run is slower than the run.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// Hands out a folder that is empty.
pub(crate) fn with<T>(act: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with_borrow_mut(|kept| {
        let folder = kept.get_or_insert_with(|| tempfile::tempdir().expect("a scratch folder"));
        let path = folder.path();
        for entry in fs::read_dir(path).expect("the scratch folder can be listed") {
            let entry = entry.expect("the scratch folder can be listed").path();
            let gone = if entry.is_dir() {
                fs::remove_dir_all(&entry)
            } else {
                fs::remove_file(&entry)
            };
            gone.expect("the scratch folder can be cleared");
        }
        act(path)
    })
}
