//! Data larger than memory: what a stream takes does not grow with its file.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping"
)]

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use train_data::{
    EncodeSettings, HeldOut, Request, Stage, Streamed, Streaming, Template, Tokenizer,
};

/// Bytes of the file.
const LENGTH: usize = 160 << 20;

/// Bytes that reading it may take.
const MOST: usize = 48 << 20;

/// One at a time: both measure their process.
static MEASURED: Mutex<()> = Mutex::new(());

/// Forgets the most memory that this process ever had, and measures from now on.
fn measured() -> MutexGuard<'static, ()> {
    let turn = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    fs::write("/proc/self/clear_refs", "5").unwrap();
    turn
}

fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

fn request<'a>(folder: &'a Path, names: &'a [String]) -> Request<'a> {
    Request {
        chunk: 50,
        held_out: HeldOut::Count(10),
        ..Request::of(folder, names)
    }
}

fn settings() -> EncodeSettings<'static> {
    EncodeSettings::of(Template::named("empty").unwrap(), 64)
}

fn tokenizer() -> Tokenizer {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model");
    Tokenizer::from_folder(Path::new(model)).unwrap()
}

#[test]
fn a_stream_takes_no_more_memory_than_its_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let list = r#"{"d": {"file_name": "d.jsonl"}}"#;
    fs::write(folder.path().join("dataset_info.json"), list).unwrap();
    let mut file = BufWriter::new(File::create(folder.path().join("d.jsonl")).unwrap());
    let filler = "one two three ".repeat(6000);
    let mut records = 0;
    for written in (0..LENGTH).step_by(filler.len()) {
        writeln!(
            file,
            r#"{{"instruction": "{written}", "output": "{filler}"}}"#
        )
        .unwrap();
        records += 1;
    }
    file.into_inner().unwrap();
    let names = ["d".to_owned()];
    let (request, settings, tokenizer) = (request(folder.path(), &names), settings(), tokenizer());
    let _turn = measured();
    let before = peak();
    let streaming = Streaming { buffer: 32 };
    let streamed = Streamed::open(&request, &tokenizer, &settings, streaming).unwrap();
    assert_eq!(streamed.eval_items().len(), 10);
    // All records are read and shuffled; only the last few are tokenized.
    let rest = streamed.epoch(0, records - 10 - 20).unwrap();
    assert_eq!(
        rest.map(|item| item.unwrap().length())
            .filter(|length| *length == 64)
            .count(),
        20
    );
    let taken = peak() - before;
    assert!(taken < MOST, "{} MiB", taken >> 20);
}

#[test]
fn a_line_of_ten_gigabytes_is_an_error_and_takes_no_more_memory_than_a_record_may() {
    let folder = tempfile::tempdir().unwrap();
    let list = r#"{"j": {"file_name": "j.jsonl"}, "c": {"file_name": "c.csv"}, "t": {"file_name": "t.txt", "columns": {"prompt": "text"}}}"#;
    fs::write(folder.path().join("dataset_info.json"), list).unwrap();
    let (settings, tokenizer) = (settings(), tokenizer());
    let _turn = measured();
    let before = peak();
    for (name, file, start) in [
        ("j", "j.jsonl", r#"{"instruction": "a", "output": "#),
        ("c", "c.csv", "instruction,output\na,\""),
        ("t", "t.txt", "a"),
    ] {
        let mut sparse = File::create(folder.path().join(file)).unwrap();
        sparse.write_all(start.as_bytes()).unwrap();
        // The hole reads as zeros and takes no room on the disk.
        sparse.seek(SeekFrom::Start(10 << 30)).unwrap();
        sparse.write_all(b"\n").unwrap();
        let names = [name.to_owned()];
        let mut request = request(folder.path(), &names);
        request.stage = if name == "t" {
            Stage::Pretrain
        } else {
            Stage::Supervised
        };
        let error = Streamed::open(&request, &tokenizer, &settings, Streaming { buffer: 4 });
        let error = error.err().unwrap().to_string();
        assert!(error.contains("record 1: longer than 64 MiB"), "{error}");
    }
    let taken = peak() - before;
    assert!(taken < 400 << 20, "{} MiB", taken >> 20);
}
