//! `preview`: what the model will read.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::bench::{Bench, result};

/// The examples that are shown in JSON.
fn examples(bench: &Bench, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["--json", "preview", "job.yaml"], arguments].concat();
    let shown = result(&mut bench.command(&arguments));
    shown["examples"].as_array().unwrap().clone()
}

#[test]
fn the_first_examples_are_shown_as_the_model_reads_them() {
    let bench = Bench::new();
    assert_snapshot!(bench.screens(&["preview", "job.yaml", "--count", "1"]));
    assert_snapshot!(
        "in_json",
        bench.screen(&["--json", "preview", "job.yaml", "--skip", "1"])
    );
}

#[test]
fn what_is_evaluated_on_is_shown_apart_and_a_stream_in_its_order() {
    let bench = Bench::new();
    let inputs = |arguments: &[&str]| -> Vec<String> {
        let shown = examples(&bench, arguments);
        let texts = shown.iter().map(|example| example["labels"].as_str());
        texts.map(|text| text.unwrap().to_owned()).collect()
    };
    let train = inputs(&["val_size=0.5"]);
    let eval = inputs(&["val_size=0.5", "--eval"]);
    assert_eq!((train.len(), eval.len()), (1, 1));
    assert_ne!(train, eval);
    let streaming = ["streaming=true", "max_steps=1", "val_size=1"];
    let streamed = inputs(&streaming);
    let held = inputs(&[&streaming[..], &["--eval"]].concat());
    assert_eq!((streamed.len(), held.len()), (1, 1));
    assert_ne!(streamed, held);
    assert!(!bench.path("home/.cache").exists(), "nothing is kept");
}

#[test]
fn comparisons_judgements_and_packed_rows_have_the_originals_names() {
    let bench = Bench::new();
    let info = json!({
        "pairs": {"file_name": "pairs.json", "ranking": true},
        "judged": {"file_name": "judged.json", "columns": {"prompt": "q", "response": "r", "kto_tag": "good"}},
        "capitals": {"file_name": "capitals.json"},
    });
    bench.write("data/dataset_info.json", info.to_string());
    let pairs = json!([{"instruction": "a", "chosen": "b", "rejected": "c"}]);
    bench.write("data/pairs.json", pairs.to_string());
    let judged = json!([{"q": "a", "r": "b", "good": true}, {"q": "c", "r": "d", "good": false}]);
    bench.write("data/judged.json", judged.to_string());
    for (settings, names) in [
        (
            &["dataset=pairs", "stage=dpo"][..],
            &["chosen_input_ids", "chosen_labels", "rejected_label_ids"][..],
        ),
        (
            &["dataset=judged", "stage=kto"],
            &["input_ids", "kl_inputs", "kto_tags"],
        ),
        (
            &["neat_packing=true", "cutoff_len=128"],
            &["input_ids", "attention_mask", "position_ids"],
        ),
    ] {
        let shown = examples(&bench, settings);
        for name in names {
            assert!(!shown[0][name].is_null(), "{settings:?}: {name}");
        }
    }
    // The answer of a record that was called bad is learnt as such; the other one's stands in for the mismatch.
    let shown = examples(&bench, &["dataset=judged", "stage=kto"]);
    assert_eq!(
        (&shown[0]["kto_tags"], &shown[1]["kto_tags"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(shown[0]["kl_labels"], shown[1]["labels"]);
}

#[test]
fn data_does_not_write_to_the_terminal() {
    let bench = Bench::new();
    let data = json!([{"instruction": "\u{1b}[2J\u{1b}]0;x\u{7}", "output": "\u{9b}31m"}]);
    bench.write("data/capitals.json", data.to_string());
    let output = bench.run(&["preview", "job.yaml"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("[2J"), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{said:?}");
}
