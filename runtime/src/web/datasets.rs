//! The datasets that are listed, and files that are added to them.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::error::WebError;
use super::folders::{Folders, checked};

/// The list's file name.
const LIST: &str = "dataset_info.json";
/// Bytes of a list.
const LARGEST_LIST: u64 = 64 << 20;
/// Bytes at the beginning of a file by which its columns are found out.
const LOOKED_AT: u64 = 4 << 20;

/// Held by who changes a list.
static LISTING: Mutex<()> = Mutex::new(());

/// All datasets: those that may be added to, then those of the release.
pub(super) fn list(folders: &Folders) -> Value {
    let mut all = Vec::new();
    let installed = folders.installed_data.iter().map(|folder| (folder, false));
    for (folder, own) in [(&folders.data, true)].into_iter().chain(installed) {
        for (name, entry) in read_list(folder).unwrap_or_default() {
            let file = entry["file_name"].as_str().unwrap_or_default();
            let size = fs::metadata(folder.join(file)).map_or(0, |found| found.len());
            let stage = if entry["ranking"] == true {
                "dpo"
            } else if entry["columns"]["kto_tag"].is_string() {
                "kto"
            } else {
                "sft"
            };
            all.push(json!({
                "name": name, "folder": folder, "own": own, "file": file, "bytes": size, "stage": stage,
                "formatting": entry["formatting"].as_str().unwrap_or("alpaca"),
            }));
        }
    }
    Value::Array(all)
}

/// A file that is being uploaded: beside its place until it is whole.
pub(super) struct Upload {
    folder: PathBuf,
    name: String,
    file: String,
    partial: PathBuf,
    writer: fs::File,
    written: u64,
    limit: u64,
}

impl Upload {
    /// Makes room for a file called `file`, to be the dataset `name`.
    pub(super) fn begin(
        folders: &Folders,
        name: &str,
        file: &str,
        limit: u64,
    ) -> Result<Self, WebError> {
        let (name, file) = (checked(name)?, checked(file)?);
        let kind = Path::new(file).extension().and_then(|kind| kind.to_str());
        if !matches!(kind, Some("json" | "jsonl" | "csv")) {
            return Err(WebError::UnknownKind {
                file: file.to_owned(),
            });
        }
        let folder = &folders.data;
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| WebError::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(write(folder))?;
        let taken = |name: &str| WebError::NameTaken {
            name: name.to_owned(),
        };
        if fs::symlink_metadata(folder.join(file)).is_ok() {
            return Err(taken(file));
        }
        if read_list(folder)?.contains_key(name) {
            return Err(taken(name));
        }
        let partial = folder.join(format!(".{file}.partial"));
        // A file that is there already belongs to another upload, or to one that was cut off with this program.
        let _left = fs::remove_file(&partial);
        let mut options = fs::OpenOptions::new();
        let writer = options.write(true).create_new(true).open(&partial);
        Ok(Self {
            folder: folder.clone(),
            name: name.to_owned(),
            file: file.to_owned(),
            writer: writer.map_err(write(&partial))?,
            partial,
            written: 0,
            limit,
        })
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), WebError> {
        self.written += piece.len() as u64;
        if self.written > self.limit {
            return Err(WebError::TooLarge { limit: self.limit });
        }
        let written = self.writer.write_all(piece);
        written.map_err(|source| self.fault(source))
    }

    /// Puts the file in its place and lists it.
    pub(super) fn finish(self) -> Result<Value, WebError> {
        self.writer
            .sync_all()
            .map_err(|source| self.fault(source))?;
        let entry = entry(&self.partial, &self.file)?;
        let place = self.folder.join(&self.file);
        // Unlike renaming, linking replaces nothing.
        fs::hard_link(&self.partial, &place).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => WebError::NameTaken {
                name: self.file.clone(),
            },
            _ => self.fault(source),
        })?;
        let _alone = LISTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = read_list(&self.folder)?;
        list.insert(self.name.clone(), entry);
        write_list(&self.folder, &list)?;
        Ok(json!({"name": self.name, "folder": self.folder, "bytes": self.written}))
    }

    fn fault(&self, source: io::Error) -> WebError {
        WebError::Write {
            path: self.folder.join(&self.file),
            source,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.partial);
    }
}

/// The list of a folder; empty where there is none.
fn read_list(folder: &Path) -> Result<Map<String, Value>, WebError> {
    let path = folder.join(LIST);
    let wrong = |reason: String| WebError::List {
        path: path.clone(),
        reason,
    };
    let bytes = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        opened => {
            let mut bytes = Vec::new();
            opened
                .and_then(|file| file.take(LARGEST_LIST).read_to_end(&mut bytes))
                .map_err(|error| wrong(error.to_string()))?;
            bytes
        }
    };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match serde_json::from_slice(text) {
        Ok(Value::Object(list)) => Ok(list),
        Ok(_) => Err(wrong("it is not an object".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Replaces the list whole.
fn write_list(folder: &Path, list: &Map<String, Value>) -> Result<(), WebError> {
    let text = format!("{:#}\n", Value::Object(list.clone()));
    train::save_file(folder, LIST, text.as_bytes()).map_err(|error| WebError::List {
        path: folder.join(LIST),
        reason: error.to_string(),
    })
}

/// How `dataset_info.json` describes the file, by the columns of its first record.
fn entry(path: &Path, file: &str) -> Result<Value, WebError> {
    let columns = columns(path, file).unwrap_or_default();
    let one = |known: &[&'static str]| {
        let found = |name: &&&str| columns.iter().any(|c| c.to_lowercase() == ***name);
        let name = known.iter().find(found)?;
        columns.iter().find(|c| c.to_lowercase() == **name).cloned()
    };
    let file_name = json!(file);
    if let Some(messages) = one(&["messages"]) {
        return Ok(json!({
            "file_name": file_name, "formatting": "sharegpt", "columns": {"messages": messages},
            "tags": {
                "role_tag": "role", "content_tag": "content", "user_tag": "user",
                "assistant_tag": "assistant", "system_tag": "system",
            },
        }));
    }
    if let Some(messages) = one(&["conversations"]) {
        return Ok(json!({
            "file_name": file_name, "formatting": "sharegpt", "columns": {"messages": messages},
        }));
    }
    let prompt = one(&QUESTIONS);
    if let (Some(prompt), Some(chosen), Some(rejected)) =
        (&prompt, one(&["chosen"]), one(&["rejected"]))
    {
        return Ok(json!({
            "file_name": file_name, "ranking": true,
            "columns": {"prompt": prompt, "chosen": chosen, "rejected": rejected},
        }));
    }
    let (Some(prompt), Some(response)) = (prompt, one(&ANSWERS)) else {
        return Err(WebError::UnknownColumns {
            file: file.to_owned(),
            found: columns.join(", "),
        });
    };
    let mut named = json!({"prompt": prompt, "response": response});
    for (role, known) in [
        ("query", &["input", "输入", "补充"][..]),
        ("system", &["system", "系统提示"]),
        ("history", &["history"]),
    ] {
        if let Some(column) = one(known) {
            named[role] = column.into();
        }
    }
    Ok(json!({"file_name": file_name, "columns": named}))
}

/// Names under which questions and answers are found in people's files.
const QUESTIONS: [&str; 8] = [
    "instruction",
    "prompt",
    "question",
    "query",
    "指令",
    "问题",
    "提问",
    "问",
];
const ANSWERS: [&str; 9] = [
    "output",
    "response",
    "answer",
    "completion",
    "chosen",
    "输出",
    "回答",
    "答案",
    "答",
];

/// The columns of the first record.
fn columns(path: &Path, file: &str) -> Option<Vec<String>> {
    let mut reader = BufReader::new(fs::File::open(path).ok()?.take(LOOKED_AT));
    let ending = Path::new(file).extension();
    if ending.is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_start_matches('\u{feff}').trim_end();
        let cells = line.split(',');
        let cells = cells.map(|cell| cell.trim().trim_matches('"').to_owned());
        return Some(cells.filter(|cell| !cell.is_empty()).collect());
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    // Of a list the first record, which is whole even where the list is not.
    let text = text.strip_prefix('[').unwrap_or(text);
    let mut records = serde_json::Deserializer::from_str(text).into_iter::<Map<String, Value>>();
    let record = records.next()?.ok()?;
    Some(record.keys().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(root: &Path) -> Folders {
        Folders {
            models: None,
            data: root.join("data"),
            installed_data: None,
            runs: root.join("runs"),
        }
    }

    fn upload(folders: &Folders, name: &str, file: &str, text: &str) -> Result<Value, WebError> {
        let mut upload = Upload::begin(folders, name, file, 1 << 20)?;
        for piece in text.as_bytes().chunks(7) {
            upload.push(piece)?;
        }
        upload.finish()
    }

    #[test]
    fn a_file_is_listed_as_its_columns_say() {
        let place = tempfile::tempdir().unwrap();
        let folders = folders(place.path());
        for (file, text, key, wanted) in [
            (
                "a.json",
                r#"[{"instruction": "q", "output": "a"}]"#,
                "/columns/response",
                "output",
            ),
            (
                "b.jsonl",
                "{\"Question\": \"q\", \"Answer\": \"a\"}\n{",
                "/columns/prompt",
                "Question",
            ),
            (
                "c.csv",
                "\u{feff}问题,回答\n一,二\n",
                "/columns/prompt",
                "问题",
            ),
            ("d.jsonl", r#"{"messages": []}"#, "/tags/role_tag", "role"),
            (
                "e.json",
                r#" [ {"conversations": []}, "#,
                "/formatting",
                "sharegpt",
            ),
            (
                "f.json",
                r#"[{"prompt": "q", "chosen": "a", "rejected": "b"}]"#,
                "/columns/chosen",
                "chosen",
            ),
        ] {
            let name = file.replace('.', "-");
            upload(&folders, &name, file, text).unwrap();
            let list = Value::Object(read_list(&folders.data).unwrap());
            assert_eq!(list[&name].pointer(key).unwrap(), wanted, "{file}");
        }
        assert_eq!(list(&folders).as_array().unwrap().len(), 6);
        let left = fs::read_dir(&folders.data).unwrap().flatten();
        let hidden = left.filter(|e| e.file_name().to_string_lossy().starts_with('.'));
        assert_eq!(hidden.count(), 0, "nothing unfinished stays");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_lands_elsewhere() {
        let place = tempfile::tempdir().unwrap();
        let folders = folders(place.path());
        let text = r#"[{"instruction": "q", "output": "a"}]"#;
        upload(&folders, "one", "one.json", text).unwrap();
        for (name, file, text, code) in [
            ("one", "two.json", text, "web.name-taken"),
            ("two", "one.json", text, "web.name-taken"),
            ("two", "dataset_info.json", text, "web.name-taken"),
            ("two", "../two.json", text, "web.bad-name"),
            ("two", ".two.json", text, "web.bad-name"),
            ("../two", "two.json", text, "web.bad-name"),
            ("two", "two.py", text, "web.unknown-kind"),
            ("two", "two.json", r#"[{"x": 1}]"#, "web.unknown-columns"),
            ("two", "two.json", "hello", "web.unknown-columns"),
            ("two", "two.json", &"x".repeat(2 << 20), "web.too-large"),
        ] {
            let error = upload(&folders, name, file, text).unwrap_err();
            assert_eq!(report::Diagnose::code(&error), code, "{name} {file}");
        }
        let files = fs::read_dir(&folders.data).unwrap().count();
        assert_eq!(files, 2, "the list and one file");
    }
}
