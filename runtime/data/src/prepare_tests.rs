//! Micro-batches as the original fed them to the model, id by id.

use std::fs;

use serde::Deserialize;

use super::*;
use crate::batch::Batch;
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

fn request<'a>(folder: &'a Path, names: &'a [String]) -> Request<'a> {
    Request {
        folder,
        names,
        eval_names: &[],
        max_samples: None,
        stage: Stage::Supervised,
        packing: Packing::Off,
        chunk: 1000,
        held_out: HeldOut::Nothing,
        text_end: None,
    }
}

fn settings(cutoff_len: usize, train_on_prompt: bool) -> EncodeSettings<'static> {
    EncodeSettings {
        template: Template::named("qwen").unwrap(),
        default_system: None,
        cutoff_len,
        train_on_prompt,
        mask_history: false,
        enable_thinking: true,
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
    let request = request(&data, &names);
    let prepare = |settings: &EncodeSettings<'_>| {
        let prepared = prepare(&request, &tokenizer(), settings, 42).unwrap();
        assert_eq!(prepared.dropped, []);
        prepared.items
    };
    let items = prepare(&settings(192, false));
    for run in ["sft_lora", "sft_full"] {
        compare(run, &items, 2);
    }
    let mut masked = settings(192, false);
    masked.mask_history = true;
    compare("sft_mask_history", &prepare(&masked), 2);
    compare(
        "sft_lora_train_on_prompt",
        &prepare(&settings(192, true)),
        2,
    );
}

#[test]
fn packed_rows_are_the_originals_id_by_id() {
    let names = SFT.map(str::to_owned);
    let data = golden().join("data");
    for (run, packing) in [
        ("sft_lora_packing", Packing::Plain),
        ("sft_lora_neat_packing", Packing::Neat),
    ] {
        let mut request = request(&data, &names);
        request.packing = packing;
        let prepared = prepare(&request, &tokenizer(), &settings(191, false), 42).unwrap();
        compare(run, &prepared.items, 2);
    }
}

#[test]
fn plain_texts_are_the_originals_id_by_id() {
    let names = ["golden_pt".to_owned()];
    let data = golden().join("data");
    let mut request = request(&data, &names);
    request.stage = Stage::Pretrain;
    request.packing = Packing::Plain;
    let prepared = prepare(&request, &tokenizer(), &settings(64, false), 42).unwrap();
    compare("pt_lora", &prepared.items, 2);
}

#[test]
fn comparisons_are_the_originals_id_by_id() {
    let names = ["golden_dpo".to_owned()];
    let data = golden().join("data");
    let mut request = request(&data, &names);
    request.stage = Stage::Pairwise;
    let prepared = prepare(&request, &tokenizer(), &settings(192, false), 42).unwrap();
    for run in ["dpo_lora", "rm_lora"] {
        compare(run, &prepared.items, 2);
    }
}

#[test]
fn judgements_get_the_answer_before_them() {
    let names = ["golden_kto".to_owned()];
    let data = golden().join("data");
    let mut request = request(&data, &names);
    request.stage = Stage::Feedback;
    let prepared = prepare(&request, &tokenizer(), &settings(192, false), 42).unwrap();
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
    let mut request = request(folder.path(), &names);
    let mut settings = settings(1000, false);
    settings.template = Template::named("empty").unwrap();
    let run = |request: &Request<'_>, settings: &EncodeSettings<'_>| {
        let prepared = prepare(request, &tokenizer(), settings, 42).unwrap();
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
    let prepared = prepare(&request, &tokenizer(), &settings, 42).unwrap();
    assert_eq!((prepared.items.len(), prepared.eval_items.len()), (1, 2));
    let again = prepare(&request, &tokenizer(), &settings, 42).unwrap();
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
