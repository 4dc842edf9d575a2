//! Streams beside the same data read whole.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::mixing::Mix;
use crate::packing::Packing;
use crate::template::Template;
use crate::testing::golden_tokenizer;

fn settings() -> EncodeSettings<'static> {
    EncodeSettings::of(Template::named("empty").unwrap(), 100)
}

fn request<'a>(folder: &'a Path, names: &'a [String]) -> Request<'a> {
    Request {
        chunk: 7,
        ..Request::of(folder, names)
    }
}

/// Datasets `a`, `b`, … of so many records that say their number among all.
fn write(folder: &Path, lengths: &[usize]) -> Vec<String> {
    let mut next = 0..;
    let mut info = serde_json::Map::new();
    for (letter, length) in ('a'..).zip(lengths) {
        let records = next.by_ref().take(*length);
        let lines: Vec<String> = records
            .map(|number| json!({"instruction": format!("{number}"), "output": ""}).to_string())
            .collect();
        fs::write(folder.join(format!("{letter}.jsonl")), lines.join("\n")).unwrap();
        info.insert(
            letter.to_string(),
            json!({"file_name": format!("{letter}.jsonl")}),
        );
    }
    fs::write(
        folder.join("dataset_info.json"),
        Value::Object(info.clone()).to_string(),
    )
    .unwrap();
    info.keys().cloned().collect()
}

fn numbers(items: impl Iterator<Item = Result<Item, DataError>>) -> Vec<usize> {
    let tokenizer = golden_tokenizer();
    let number = |item: Result<Item, DataError>| match item.unwrap() {
        Item::Single(example) => tokenizer
            .decode(&example.input_ids, true)
            .unwrap()
            .parse()
            .unwrap(),
        other => panic!("{other:?}"),
    };
    items.map(number).collect()
}

#[test]
fn several_datasets_stream_in_the_originals_order() {
    let text = include_str!("../../../tests/golden/vectors/numpy.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let cases = vectors["streams"].as_array().unwrap();
    assert!(cases.len() > 5);
    let (tokenizer, settings) = (golden_tokenizer(), settings());
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        let lengths: Vec<usize> = serde_json::from_value(case["lengths"].clone()).unwrap();
        let names = write(folder.path(), &lengths);
        let mut request = request(folder.path(), &names);
        request.seed = case["seed"].as_u64().unwrap();
        let shares = serde_json::from_value(case["probabilities"].clone()).unwrap();
        request.mix = match case["strategy"].as_str() {
            None => Mix::Concat,
            Some("first_exhausted") => Mix::Under(shares),
            Some("all_exhausted") => Mix::Over(shares),
            Some(other) => panic!("{other}"),
        };
        let buffer = case["buffer"].as_u64().unwrap() as usize;
        let streamed =
            Streamed::open(&request, &tokenizer, &settings, Streaming { buffer }).unwrap();
        let epoch = case["epoch"].as_u64().unwrap();
        let expected: Vec<usize> = serde_json::from_value(case["order"].clone()).unwrap();
        assert_eq!(
            numbers(streamed.epoch(epoch, 0).unwrap()),
            expected,
            "{case}"
        );
    }
}

#[test]
fn what_is_held_out_is_never_trained_on_and_is_the_first_of_the_shuffle() {
    let folder = tempfile::tempdir().unwrap();
    let names = write(folder.path(), &[40]);
    let (tokenizer, settings) = (golden_tokenizer(), settings());
    let mut request = request(folder.path(), &names);
    let streaming = Streaming { buffer: 8 };
    let all = {
        let streamed = Streamed::open(&request, &tokenizer, &settings, streaming).unwrap();
        numbers(streamed.epoch(0, 0).unwrap())
    };
    request.held_out = HeldOut::Count(5);
    let streamed = Streamed::open(&request, &tokenizer, &settings, streaming).unwrap();
    let held = numbers(streamed.eval_items().iter().cloned().map(Ok));
    assert_eq!(held, all[..5]);
    assert_eq!(numbers(streamed.epoch(0, 0).unwrap()), all[5..]);
    let mut second = numbers(streamed.epoch(1, 0).unwrap());
    assert_ne!(second, all[5..]);
    second.extend(held);
    second.sort_unstable();
    assert_eq!(second, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_stream_goes_on_where_it_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let names = write(folder.path(), &[50, 30]);
    let (tokenizer, settings) = (golden_tokenizer(), settings());
    for packing in [Packing::Off, Packing::Neat] {
        let mut request = request(folder.path(), &names);
        request.packing = packing;
        let streaming = Streaming { buffer: 16 };
        let streamed = Streamed::open(&request, &tokenizer, &settings, streaming).unwrap();
        let items = |skip| -> Vec<Item> {
            streamed
                .epoch(1, skip)
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap()
        };
        let whole = items(0);
        assert!(whole.len() > 3);
        for skip in [
            1,
            2,
            whole.len() / 2,
            whole.len() - 1,
            whole.len(),
            whole.len() + 5,
        ] {
            assert_eq!(
                items(skip),
                whole[skip.min(whole.len())..],
                "{packing:?} {skip}"
            );
        }
    }
}

#[test]
fn each_of_several_processes_makes_its_own_items_and_all_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let names = write(folder.path(), &[40, 21]);
    let (tokenizer, settings) = (golden_tokenizer(), settings());
    let request = request(folder.path(), &names);
    let streaming = Streaming { buffer: 16 };
    let streamed = Streamed::open(&request, &tokenizer, &settings, streaming).unwrap();
    for skip in [0, 6, 11, 60] {
        let whole: Vec<Item> = streamed
            .epoch(1, skip)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let mut made = vec![0; whole.len()];
        for rank in 0..3 {
            let share = Share {
                rank,
                count: 3,
                size: 2,
            };
            let drawn = streamed.drawn(1, skip, share).unwrap();
            for (place, drawn) in drawn.enumerate() {
                let drawn = drawn.unwrap();
                let own = place / 2 % 3 == rank;
                assert_eq!(
                    matches!(drawn.0, Draft::Made(_)),
                    own,
                    "{skip} {rank} {place}"
                );
                made[place] += usize::from(own);
                assert_eq!(streamed.item(drawn).unwrap(), whole[place]);
            }
        }
        assert!(made.iter().all(|count| *count == 1));
    }
    let first = streamed.first(1, 3).unwrap();
    assert!(first.iter().all(|drawn| matches!(drawn.0, Draft::Open(..))));
    let first = first.into_iter().map(|drawn| streamed.item(drawn));
    let all: Vec<Item> = streamed
        .epoch(1, 0)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(first.collect::<Result<Vec<_>, _>>().unwrap(), all[..3]);
}

#[test]
fn an_error_in_another_processes_item_is_found_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["d".to_owned()];
    let info = r#"{"d": {"file_name": "d.jsonl", "columns": {"prompt": "p", "response": "r", "tools": "t"}}}"#;
    fs::write(folder.path().join("dataset_info.json"), info).unwrap();
    let lines = r#"{"p": "a", "r": "b", "t": ""}
{"p": "a", "r": "b", "t": "oops"}
"#;
    fs::write(folder.path().join("d.jsonl"), lines).unwrap();
    let (tokenizer, settings) = (golden_tokenizer(), settings());
    let request = request(folder.path(), &names);
    let streaming = Streaming { buffer: 1 };
    let streamed = Streamed::open(&request, &tokenizer, &settings, streaming).unwrap();
    for rank in 0..2 {
        let share = Share {
            rank,
            count: 2,
            size: 1,
        };
        let error = streamed.drawn(0, 0, share).unwrap().next().unwrap();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("record 2, tools"), "{error}");
    }
}

#[test]
fn a_listed_column_that_the_first_records_lack_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let names = write(folder.path(), &[2500]);
    let info = r#"{"a": {"file_name": "a.jsonl", "columns": {"prompt": "question", "response": "output"}}}"#;
    fs::write(folder.path().join("dataset_info.json"), info).unwrap();
    let (tokenizer, settings) = (golden_tokenizer(), settings());
    let request = request(folder.path(), &names);
    let streaming = Streaming { buffer: 8 };
    let streamed = Streamed::open(&request, &tokenizer, &settings, streaming).unwrap();
    let found = streamed.epoch(0, 0).unwrap().find_map(Result::err);
    let error = found.unwrap().to_string();
    assert!(
        error.contains("none of the first 1000 records has"),
        "{error}"
    );
}

#[test]
fn what_is_left_out_is_counted_once_and_an_error_comes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let names = write(folder.path(), &[3]);
    let path = folder.path().join("a.jsonl");
    fs::write(
        &path,
        "{\"instruction\": \"1\", \"output\": \"\"}\n{\"instruction\": \"2\"}\n",
    )
    .unwrap();
    let (tokenizer, settings) = (golden_tokenizer(), settings());
    let request = request(folder.path(), &names);
    let streaming = Streaming { buffer: 1 << 20 };
    let streamed = Streamed::open(&request, &tokenizer, &settings, streaming).unwrap();
    let digest = streamed.digest().unwrap();
    for epoch in 0..3 {
        assert_eq!(streamed.epoch(epoch, 0).unwrap().count(), 1);
    }
    let tallies = streamed.tallies();
    let counts: Vec<_> = tallies.iter().map(|t| (t.code, t.count)).collect();
    assert_eq!(
        counts,
        [("data.dropped-no-answer", 1), ("data.no-labels", 1)]
    );
    fs::write(&path, "{\"instruction\": \"1\", \"output\": \"\"}\noops\n").unwrap();
    let mut items = streamed.epoch(0, 0).unwrap();
    assert!(items.next().unwrap().is_err());
    assert_ne!(streamed.digest().unwrap(), digest);
}
