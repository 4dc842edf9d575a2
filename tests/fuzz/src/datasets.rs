//! Data to train on: lists of datasets, records, tools, and tokens that were carried here.
//!
//! Parquet is left out: its reader panics on what is broken, which is caught where it is called, but not under a fuzzer.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use report::Silent;
use train_data::{Cache, EncodeSettings, Request, Template, Tokenizer, prepare};

use crate::{Target, choose, chosen, file, scratch};

/// What a runtime reads before it trains.
pub(crate) const DATASETS: Target = Target {
    name: "datasets",
    run: |bytes| {
        let Some((number, bytes)) = choose(bytes, KINDS.len() as u8) else {
            return;
        };
        scratch::with(|folder| {
            let (name, list) = KINDS[usize::from(number)];
            let write = |name: &str, bytes: &[u8]| {
                fs::write(folder.join(name), bytes).expect("the scratch folder can be written");
            };
            write("dataset_info.json", list.as_bytes());
            write(name, bytes);
            let own = folder.to_owned();
            let cache = Cache {
                own: (name == "examples.ferry").then_some(own.as_path()),
                reads_only: true,
                ..Cache::default()
            };
            let names = ["d".to_owned()];
            let request = request(folder, &names);
            drop(prepare(&request, &TOKENIZER, &settings(), &cache, &Silent));
        });
    },
    seeds: || {
        vec![
            chosen(0, &file("tests/golden/data/golden_alpaca.json")),
            chosen(1, &file("tests/golden/data/golden_sharegpt.json")),
            chosen(2, b"instruction,input,output\na,\"b\nc\",d\n"),
            chosen(3, b"a\r\nb\n"),
            chosen(
                4,
                br#"{"d": {"file_name": "dataset_info.json", "columns": {"prompt": "d"}}}"#,
            ),
            chosen(5, b"FERRYTOK\x01"),
            chosen(6, &file("tests/golden/vectors/arrow/datasets.arrow")),
            chosen(6, &file("tests/golden/vectors/arrow/kinds.arrow")),
        ]
    },
};

/// The file that is made of the bytes, and the list that names it.
const KINDS: [(&str, &str); 7] = [
    (
        "d.json",
        r#"{"d": {"file_name": "d.json", "columns": {"prompt": "instruction", "query": "input", "response": "output",
            "history": "history", "system": "system", "tools": "tools"}}}"#,
    ),
    (
        "d.jsonl",
        r#"{"d": {"file_name": "d.jsonl", "formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}}}"#,
    ),
    ("d.csv", r#"{"d": {"file_name": "d.csv"}}"#),
    (
        "d.txt",
        r#"{"d": {"file_name": "d.txt", "columns": {"prompt": "text", "response": "text"}}}"#,
    ),
    ("dataset_info.json", "{}"),
    ("examples.ferry", "{}"),
    (
        "d.arrow",
        r#"{"d": {"file_name": "d.arrow", "formatting": "sharegpt", "columns": {"messages": "conversations"}}}"#,
    ),
];

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/model");
    Tokenizer::from_folder(Path::new(model)).expect("the golden tokenizer")
});

fn request<'a>(folder: &'a Path, names: &'a [String]) -> Request<'a> {
    Request {
        chunk: 100,
        overlap: Some(8),
        ..Request::of(folder, names)
    }
}

fn settings() -> EncodeSettings<'static> {
    EncodeSettings::of(
        Template::named("default").expect("a template of that name"),
        64,
    )
}
