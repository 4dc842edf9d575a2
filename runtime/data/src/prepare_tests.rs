//! Micro-batches as the original fed them to the model, id by id.

use std::fs;

use report::{Event, Recorder, Silent};
use serde::Deserialize;

use super::*;
use crate::batch::Batch;
use crate::example::Example;
use crate::template::Template;
use crate::testing::{golden, golden_tokenizer};

/// A micro-batch as the original fed it to the model.
#[derive(Deserialize)]
struct Recorded {
    input_ids: Vec<Vec<i64>>,
    labels: Vec<Vec<i64>>,
    #[serde(alias = "segment_ids")]
    attention_mask: Vec<Vec<i64>>,
    position_ids: Option<Vec<Vec<i64>>>,
    kl_input_ids: Option<Vec<Vec<i64>>>,
    kl_labels: Option<Vec<Vec<i64>>>,
    kto_tags: Option<Vec<bool>>,
}

const SFT: [&str; 3] = ["golden_alpaca", "golden_sharegpt", "golden_openai"];

/// Without a cache and without a word.
fn prepare(
    request: &Request<'_>,
    tokenizer: &Tokenizer,
    settings: &EncodeSettings<'_>,
) -> Result<Prepared, DataError> {
    super::prepare(request, tokenizer, settings, &Cache::default(), &Silent)
}

fn settings(cutoff_len: usize, train_on_prompt: bool) -> EncodeSettings<'static> {
    EncodeSettings {
        train_on_prompt,
        ..EncodeSettings::of(Template::named("qwen").unwrap(), cutoff_len)
    }
}

fn tokenizer() -> Tokenizer {
    let mut tokenizer = golden_tokenizer();
    let template = Template::named("qwen").unwrap();
    tokenizer.adapt_to(template).unwrap();
    tokenizer
}

/// Compares the micro-batches of all epochs that `run` recorded.
fn compare(run: &str, items: &[Item], in_batch: usize) {
    let path = golden().join("traces").join(run).join("batches.json");
    let recorded: Vec<Recorded> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let pad = tokenizer().padding_id();
    let chunks = items.chunks(in_batch).cycle();
    for (index, (chunk, expected)) in chunks.zip(&recorded).enumerate() {
        let items: Vec<&Item> = chunk.iter().collect();
        let batch = Batch::of(&items, pad);
        let at = format!("{run}, micro-batch {index}");
        assert_eq!(batch.rows, expected.input_ids.len(), "{at}");
        assert_eq!(batch.input_ids, expected.input_ids.concat(), "{at}");
        assert_eq!(batch.labels, expected.labels.concat(), "{at}");
        assert_eq!(
            batch.attention_mask,
            expected.attention_mask.concat(),
            "{at}"
        );
        if let Some(positions) = &expected.position_ids {
            assert_eq!(batch.positions, positions.concat(), "{at}");
        }
        if let Some(tags) = &expected.kto_tags {
            assert_eq!(&batch.desirable, tags, "{at}");
            let mismatched = batch.mismatched.unwrap();
            let (ids, labels) = (&expected.kl_input_ids, &expected.kl_labels);
            assert_eq!(Some(mismatched.input_ids), ids.as_ref().map(|i| i.concat()));
            assert_eq!(Some(mismatched.labels), labels.as_ref().map(|l| l.concat()));
        }
    }
}

#[test]
fn supervised_micro_batches_are_the_originals_id_by_id() {
    let names = SFT.map(str::to_owned);
    let data = golden().join("data");
    let request = Request::of(&data, &names);
    let items = |settings: &EncodeSettings<'_>| {
        let prepared = prepare(&request, &tokenizer(), settings).unwrap();
        assert_eq!(prepared.dropped, []);
        prepared.items
    };
    let whole = items(&settings(192, false));
    for run in ["sft_lora", "sft_full"] {
        compare(run, &whole, 2);
    }
    let mut masked = settings(192, false);
    masked.mask_history = true;
    compare("sft_mask_history", &items(&masked), 2);
    compare("sft_lora_train_on_prompt", &items(&settings(192, true)), 2);
}

#[test]
fn packed_rows_are_the_originals_id_by_id() {
    let names = SFT.map(str::to_owned);
    let data = golden().join("data");
    for (run, packing) in [
        ("sft_lora_packing", Packing::Plain),
        ("sft_lora_neat_packing", Packing::Neat),
    ] {
        let mut request = Request::of(&data, &names);
        request.packing = packing;
        let prepared = prepare(&request, &tokenizer(), &settings(191, false)).unwrap();
        compare(run, &prepared.items, 2);
    }
}

#[test]
fn plain_texts_are_the_originals_id_by_id() {
    let names = ["golden_pt".to_owned()];
    let data = golden().join("data");
    let mut request = Request::of(&data, &names);
    request.stage = Stage::Pretrain;
    request.packing = Packing::Plain;
    let prepared = prepare(&request, &tokenizer(), &settings(64, false)).unwrap();
    compare("pt_lora", &prepared.items, 2);
}

#[test]
fn comparisons_are_the_originals_id_by_id() {
    let names = ["golden_dpo".to_owned()];
    let data = golden().join("data");
    let mut request = Request::of(&data, &names);
    request.stage = Stage::Pairwise;
    let prepared = prepare(&request, &tokenizer(), &settings(192, false)).unwrap();
    for run in ["dpo_lora", "rm_lora"] {
        compare(run, &prepared.items, 2);
    }
}

#[test]
fn judgements_get_the_answer_before_them() {
    let names = ["golden_kto".to_owned()];
    let data = golden().join("data");
    let mut request = Request::of(&data, &names);
    request.stage = Stage::Feedback;
    let prepared = prepare(&request, &tokenizer(), &settings(192, false)).unwrap();
    let parts = |item: &Item| match item {
        Item::Judged {
            example,
            mismatched,
            desirable,
        } => (answer_of(example), answer_of(mismatched), *desirable),
        other => panic!("{other:?}"),
    };
    compare("kto_lora", &prepared.items, 2);
    let all: Vec<_> = prepared.items.iter().map(parts).collect();
    assert!(all.iter().any(|(_, _, good)| *good) && all.iter().any(|(_, _, good)| !*good));
    for (index, (_, mismatched, _)) in all.iter().enumerate() {
        let before = &all[(index + all.len() - 1) % all.len()].0;
        assert_eq!(mismatched, before, "{index}");
    }
}

fn answer_of(example: &Example) -> Vec<i64> {
    let labels = example.labels.iter().copied();
    labels.filter(|label| *label >= 0).collect()
}

#[test]
fn what_teaches_nothing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let info = r#"{"d": {"file_name": "d.json"}}"#;
    fs::write(folder.path().join("dataset_info.json"), info).unwrap();
    let long = "one two three four five six seven ".repeat(4);
    let data = serde_json::json!([
        {"instruction": "a", "output": "b"},
        {"instruction": long, "output": ""},
        {"instruction": "c"},
        {"instruction": "a", "output": long},
    ]);
    fs::write(folder.path().join("d.json"), data.to_string()).unwrap();
    let names = ["d".to_owned()];
    let mut request = Request::of(folder.path(), &names);
    let mut settings = settings(1000, false);
    settings.template = Template::named("empty").unwrap();
    let run = |request: &Request<'_>, settings: &EncodeSettings<'_>| {
        let prepared = prepare(request, &tokenizer(), settings).unwrap();
        let codes: Vec<(usize, &str)> = prepared
            .dropped
            .iter()
            .map(|d| (d.origin.record, d.fault.code()))
            .collect();
        (prepared.items.len(), codes)
    };
    let (count, codes) = run(&request, &settings);
    assert_eq!(count, 3);
    assert_eq!(
        codes,
        [(3, "data.dropped-no-answer"), (2, "data.no-labels")]
    );
    request.held_out = HeldOut::Part(0.5);
    let prepared = prepare(&request, &tokenizer(), &settings).unwrap();
    // One of the two that are held out is left out, too.
    assert_eq!((prepared.items.len(), prepared.eval_items.len()), (2, 1));
    let again = prepare(&request, &tokenizer(), &settings).unwrap();
    assert_eq!(prepared.eval_items, again.eval_items);
}

#[test]
fn what_is_held_out_is_counted_as_asked() {
    for (held, all, expected) in [
        (HeldOut::Nothing, 10, 0),
        (HeldOut::Count(3), 10, 3),
        (HeldOut::Count(30), 10, 10),
        (HeldOut::Part(0.1), 11, 2),
        (HeldOut::Part(1.0), 10, 10),
    ] {
        assert_eq!(held.of(all), expected, "{held:?}");
    }
}

fn texts(items: &[Item], tokenizer: &Tokenizer) -> Vec<String> {
    let text = |item: &Item| match item {
        Item::Single(example) => tokenizer.decode(&example.input_ids, true).unwrap(),
        other => panic!("{other:?}"),
    };
    items.iter().map(text).collect()
}

/// A dataset of `count` texts `<name> <number>`; one of them is broken where `broken` says so.
fn write(folder: &Path, name: &str, count: usize, broken: Option<usize>) {
    let records = (0..count).map(|index| {
        if broken == Some(index) {
            serde_json::json!({"instruction": "x"})
        } else {
            serde_json::json!({"instruction": format!("{name} {index}"), "output": ""})
        }
    });
    let records: Vec<_> = records.collect();
    let text = serde_json::to_string(&records).unwrap();
    fs::write(folder.join(format!("{name}.json")), text).unwrap();
}

#[test]
fn what_is_held_out_is_what_the_original_holds_out() {
    let folder = tempfile::tempdir().unwrap();
    let info = r#"{"a": {"file_name": "a.json"}}"#;
    fs::write(folder.path().join("dataset_info.json"), info).unwrap();
    let names = ["a".to_owned()];
    let text = include_str!("../../../tests/golden/vectors/numpy.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut settings = settings(1000, false);
    settings.template = Template::named("empty").unwrap();
    let tokenizer = golden_tokenizer();
    let cases = vectors["splits"].as_array().unwrap();
    assert!(cases.len() > 3);
    for case in cases {
        let count = case["count"].as_u64().unwrap() as usize;
        write(folder.path(), "a", count, None);
        let mut request = Request::of(folder.path(), &names);
        request.seed = case["seed"].as_u64().unwrap();
        request.held_out = match case["test_size"].as_u64() {
            Some(held) => HeldOut::Count(held as usize),
            None => HeldOut::Part(case["test_size"].as_f64().unwrap()),
        };
        let prepared = prepare(&request, &tokenizer, &settings).unwrap();
        for (items, part) in [(&prepared.items, "train"), (&prepared.eval_items, "test")] {
            let order: Vec<u64> = serde_json::from_value(case[part].clone()).unwrap();
            let expected: Vec<String> = order.iter().map(|index| format!("a {index}")).collect();
            assert_eq!(texts(items, &tokenizer), expected, "{case}");
        }
    }
}

#[test]
fn a_broken_record_keeps_its_place_in_mixes_and_splits() {
    let folder = tempfile::tempdir().unwrap();
    let info = r#"{"a": {"file_name": "a.json"}, "b": {"file_name": "b.json"}}"#;
    fs::write(folder.path().join("dataset_info.json"), info).unwrap();
    write(folder.path(), "a", 4, Some(1));
    write(folder.path(), "b", 3, None);
    let names = ["a", "b"].map(str::to_owned);
    let mut request = Request::of(folder.path(), &names);
    let mut settings = settings(1000, false);
    settings.template = Template::named("empty").unwrap();
    let tokenizer = golden_tokenizer();
    for (mix, expected) in [
        (Mix::Concat, "a 0,a 2,a 3,b 0,b 1,b 2"),
        (Mix::Under(None), "a 0,b 0,b 1,a 2,b 2"),
        (Mix::Over(None), "a 0,b 0,b 1,a 2,b 2,a 3,b 0"),
    ] {
        request.mix = mix;
        let prepared = prepare(&request, &tokenizer, &settings).unwrap();
        assert_eq!(texts(&prepared.items, &tokenizer).join(","), expected);
        let left_out = prepared.dropped.iter().filter(|d| d.fault.leaves_out());
        assert_eq!(left_out.count(), 1);
    }
    let none = &[][..];
    request.names = &names[..1];
    request.eval_names = &names;
    request.eval_apart = true;
    let prepared = prepare(&request, &tokenizer, &settings).unwrap();
    let parts = [("a".to_owned(), 3), ("b".to_owned(), 3)];
    assert_eq!(prepared.eval_parts, parts);
    assert_eq!(texts(&prepared.eval_items, &tokenizer)[3], "b 0");
    request.eval_names = none;
    request.max_samples = Some(1);
    assert_eq!(
        prepare(&request, &tokenizer, &settings)
            .unwrap()
            .items
            .len(),
        1
    );
}

#[test]
fn a_second_start_reads_the_cache_unless_something_changed() {
    let folder = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let info = r#"{"a": {"file_name": "a.json"}}"#;
    fs::write(folder.path().join("dataset_info.json"), info).unwrap();
    write(folder.path(), "a", 2500, Some(7));
    let names = ["a".to_owned()];
    let mut request = Request::of(folder.path(), &names);
    let mut settings = settings(1000, false);
    let tokenizer = golden_tokenizer();
    let cache = Cache {
        folder: Some(kept.path().to_owned()),
        ..Cache::default()
    };
    let run = |request: &Request<'_>, settings: &EncodeSettings<'_>| {
        let told = Recorder::default();
        let prepared = super::prepare(request, &tokenizer, settings, &cache, &told).unwrap();
        let worked = told.events().iter().any(|event| match event {
            Event::Progress { done, .. } => *done > 0,
            _ => false,
        });
        (prepared, worked)
    };
    let (first, worked) = run(&request, &settings);
    assert!(worked);
    let (second, worked) = run(&request, &settings);
    assert!(!worked);
    assert_eq!(first, second);
    assert_eq!(first.dropped.len(), 1);
    settings.cutoff_len = 999;
    assert!(run(&request, &settings).1, "another setting");
    request.seed = 43;
    assert!(run(&request, &settings).1, "another seed");
    request.held_out = HeldOut::Count(3);
    assert!(run(&request, &settings).1, "another split");
    write(folder.path(), "a", 2500, Some(8));
    assert!(run(&request, &settings).1, "other data");
    assert!(!run(&request, &settings).1);
}

#[test]
fn a_long_text_loses_nothing_where_windows_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let info = r#"{"a": {"file_name": "a.json"}}"#;
    fs::write(folder.path().join("dataset_info.json"), info).unwrap();
    let long = "one two three four five six seven ".repeat(9);
    let data = serde_json::json!([
        {"instruction": "a", "output": long},
        {"instruction": long, "output": long},
        {"instruction": "b", "output": "c"},
    ]);
    fs::write(folder.path().join("a.json"), data.to_string()).unwrap();
    let names = ["a".to_owned()];
    let mut request = Request::of(folder.path(), &names);
    let mut settings = settings(40, false);
    settings.template = Template::named("empty").unwrap();
    let tokenizer = golden_tokenizer();
    let cut = prepare(&request, &tokenizer, &settings).unwrap();
    request.overlap = Some(8);
    let prepared = prepare(&request, &tokenizer, &settings).unwrap();
    assert_eq!(cut.items.len(), 3);
    assert!(prepared.items.len() > 5);
    let codes: Vec<_> = prepared
        .dropped
        .iter()
        .map(|d| (d.origin.record, d.fault.code()))
        .collect();
    assert_eq!(codes, [(2, "data.not-split")]);
    let learnt: usize = prepared.items.iter().map(Item::labels).sum();
    let short = cut.items[1].labels() + cut.items[2].labels();
    assert_eq!(learnt - short, tokenizer.encode(&long).unwrap().len());
}

#[test]
fn a_number_of_records_is_drawn_where_a_dataset_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let list = r#"{"a": {"file_name": "a.json", "num_samples": 4, "folder": "x", "subset": "y"},
        "b": {"file_name": "b.json", "num_samples": 20, "split": "train"}, "c": {"file_name": "a.json"}}"#;
    fs::write(folder.path().join("dataset_info.json"), list).unwrap();
    for (name, count) in [("a", 10), ("b", 7)] {
        let records: Vec<String> = (0..count)
            .map(|n| format!(r#"{{"instruction": "{name}", "output": "{n}"}}"#))
            .collect();
        let text = format!("[{}]", records.join(","));
        fs::write(folder.path().join(format!("{name}.json")), text).unwrap();
    }
    let tokenizer = golden_tokenizer();
    let template = Template::named("empty").unwrap();
    let answers = |names: &[&str], change: &dyn Fn(&mut Request<'_>)| -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut request = Request::of(folder.path(), &names);
        change(&mut request);
        let settings = EncodeSettings::of(template, 100);
        let prepared = prepare(&request, &tokenizer, &settings).unwrap();
        let texts = prepared.items.iter().map(|item| match item {
            Item::Single(example) => tokenizer.decode(&example.input_ids[1..], true).unwrap(),
            other => panic!("{other:?}"),
        });
        texts.collect()
    };
    // What the original draws for one after the other.
    let text = include_str!("../../../tests/golden/vectors/samples.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    let case = cases.iter().find(|case| case["seed"] == 42).unwrap();
    let drawn = |number: usize| -> Vec<String> {
        let order = case["draws"][number]["order"].as_array().unwrap();
        order.iter().map(ToString::to_string).collect()
    };
    let both = answers(&["a", "b"], &|_| {});
    assert_eq!(both, [drawn(0), drawn(1)].concat());
    let few = answers(&["a"], &|request| request.max_samples = Some(3));
    assert_eq!(few, drawn(0)[..3]);
    assert_ne!(answers(&["a"], &|request| request.seed = 1), drawn(0));
    assert_eq!(
        answers(&["c"], &|_| {}).len(),
        10,
        "another entry takes all"
    );
}

#[test]
fn workers_share_records_as_in_the_original() {
    let lengths = |count: usize, size, workers| -> Vec<usize> {
        let records: Vec<usize> = (0..count).collect();
        let parts = chunks(&records, size, workers);
        assert_eq!(parts.concat(), records);
        parts.into_iter().map(<[usize]>::len).collect()
    };
    assert_eq!(lengths(7, 3, 1), [3, 3, 1]);
    // `Dataset.shard(num_shards=3, index, contiguous=True)` of 10: 4, 3 and 3.
    assert_eq!(lengths(10, 3, 3), [3, 1, 3, 3]);
    assert_eq!(lengths(2, 1000, 16), [1, 1]);
    assert_eq!(lengths(0, 3, 4), [0; 0]);
}
