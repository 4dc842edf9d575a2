//! Jobs, data and models that cannot be used: what is said, and that nothing is left.

use std::fs;

use insta::assert_snapshot;

use crate::bench::{Bench, JOB};

#[test]
fn keys_that_are_wrong_are_all_named() {
    let bench = Bench::new();
    bench.job("lora_rnak: 8\ncompute_accuracy: true\nmy_own_little_switch: 1\n");
    assert_snapshot!(bench.screens(&["check", "job.yaml"]));
}

#[test]
fn values_that_are_wrong_are_named_with_their_line() {
    let bench = Bench::new();
    let mut screens = String::new();
    for more in [
        "lora_dropout: 2\n",
        "learning_rate: fast\n",
        "mask_history: true\ntrain_on_prompt: true\n",
        "eval_strategy: steps\n",
        "report_to: wandb\n",
        "optim: adafactor\n",
    ] {
        screens.push_str(&bench.job(more).screens(&["check", "job.yaml"]));
    }
    assert_snapshot!(screens);
}

#[test]
fn a_job_that_is_none_says_why() {
    let bench = Bench::new();
    let mut screens = bench.screens(&["check", "none.yaml"]);
    bench.write("job.yaml", "a: [1,\n");
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    bench.write("job.yaml", JOB.replace("output_dir: out\n", ""));
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    screens.push_str(&bench.screens(&["check", "job.yaml", "output_dir"]));
    bench.write(
        "job.yaml",
        "model_name_or_path: model\nadapter_name_or_path: a\nexport_dir: merged\n",
    );
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    bench.write(
        "job.yaml",
        r#"{"train_batch_size": "auto", "zero_optimization": {"stage": 3}}"#,
    );
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    assert_snapshot!(screens);
}

#[test]
fn a_list_of_datasets_that_cannot_be_used_says_why() {
    let bench = Bench::new();
    let mut screens = String::new();
    for info in [
        "{\"capitals\": {\n\"file_name\": }}",
        "[]",
        r#"{"towns": {"file_name": "towns.json"}}"#,
        r#"{"capitals": {"hf_hub_url": "a/b"}}"#,
        r#"{"capitals": {"file_name": "capitals.json", "ranking": true}}"#,
        r#"{"capitals": {"file_name": "none.json"}}"#,
    ] {
        bench.write("data/dataset_info.json", info);
        screens.push_str(&bench.screens(&["check", "job.yaml"]));
    }
    fs::remove_file(bench.path("data/dataset_info.json")).unwrap();
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    assert_snapshot!(screens);
}

#[test]
fn a_dataset_that_cannot_be_used_says_where() {
    let bench = Bench::new();
    let mut screens = String::new();
    for data in [
        "[{\"instruction\": \"a\",\n \"output\": \"b\"},\n {\"instruction\": \"a\" \"output\"}]",
        r#"[{"instruction": "a", "output": "b"}, {"instruction": 7, "output": "b"}]"#,
        r#"[{"instruction": "a"}]"#,
        "",
    ] {
        bench.write("data/capitals.json", data);
        screens.push_str(&bench.screens(&["check", "job.yaml"]));
    }
    assert_snapshot!(screens);
}

#[test]
fn a_template_that_is_none_is_not_guessed() {
    let bench = Bench::new();
    let mut screens = bench.screens(&["check", "job.yaml", "template=qwne"]);
    screens.push_str(&bench.screens(&["check", "job.yaml", "template=own"]));
    bench.write("job.yaml", JOB.replace("template: qwen\n", ""));
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    bench.write(
        "model/chat_template.jinja",
        "{{ raise_exception('no system role') }}",
    );
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    assert_snapshot!(screens);
}

#[test]
fn a_folder_with_other_work_is_not_taken() {
    let bench = Bench::new();
    bench.write("out/thesis.txt", "years of work");
    assert_snapshot!(bench.screens(&["check", "job.yaml"]));
    assert_eq!(fs::read_dir(bench.path("out")).unwrap().count(), 1);
}

#[test]
#[cfg(not(feature = "native"))]
fn a_model_that_is_none_says_why() {
    let bench = Bench::new();
    let mut screens = bench.screens(&["check", "job.yaml", "model_name_or_path=none"]);
    bench.write("model/tokenizer.json", "{}");
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    bench.write("model/config.json", r#"{"hidden_size": "wide"}"#);
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    fs::remove_file(bench.path("model/config.json")).unwrap();
    screens.push_str(&bench.screens(&["check", "job.yaml"]));
    assert_snapshot!(screens);
}

#[test]
#[cfg(not(feature = "native"))]
fn without_libtorch_it_says_what_is_missing() {
    let bench = Bench::new();
    let mut screens = bench.screens(&["train", "job.yaml"]);
    screens.push_str(&bench.screens(&["chat", "--model", "model"]));
    assert_snapshot!(screens);
}
