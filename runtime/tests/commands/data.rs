//! Data through the program: parquet, streams, several datasets, and the second start.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, golden};

fn result(bench: &Bench, arguments: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(arguments);
    let output = bench.run(&all);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    last
}

/// A job over `lists`, datasets of so many records each.
fn bench_with(lists: &[(&str, usize)]) -> Bench {
    let bench = Bench::new();
    let mut info = serde_json::Map::new();
    for (name, count) in lists {
        let records: Vec<Value> = (0..*count)
            .map(|number| json!({"instruction": format!("{name} {number}?"), "output": format!("{number}.")}))
            .collect();
        bench.write(
            &format!("data/{name}.json"),
            Value::Array(records).to_string(),
        );
        info.insert(
            (*name).to_owned(),
            json!({"file_name": format!("{name}.json")}),
        );
    }
    bench.write("data/dataset_info.json", Value::Object(info).to_string());
    bench
}

/// The number of this name in a result, however it is wrapped.
fn number(result: &Value, name: &str) -> u64 {
    fn find(value: &Value, name: &str) -> Option<u64> {
        let fields = value.as_object()?;
        let own = fields.get(name).and_then(Value::as_u64);
        own.or_else(|| fields.values().find_map(|field| find(field, name)))
    }
    find(result, name).unwrap_or_else(|| panic!("{result} has no {name}"))
}

#[test]
fn datasets_are_counted_as_they_are_mixed_and_split() {
    let bench = bench_with(&[("a", 10), ("b", 4)]);
    for (settings, examples, eval) in [
        (&["val_size=0.25"][..], 10, 4),
        (&["mix_strategy=interleave_under"], 8, 0),
        (&["mix_strategy=interleave_over"], 20, 0),
        (&["max_samples=3", "val_size=2"], 4, 2),
        (&["eval_dataset=b,a", "eval_on_each_dataset=true"], 14, 14),
    ] {
        let mut arguments = vec!["check", "job.yaml", "dataset=a,b"];
        arguments.extend(settings);
        let result = result(&bench, &arguments);
        let counted = (
            number(&result, "examples"),
            number(&result, "eval_examples"),
        );
        assert_eq!(counted, (examples, eval), "{settings:?}");
    }
}

#[test]
fn parquet_files_and_folders_of_them_are_datasets() {
    let bench = Bench::new();
    for (number, name) in ["flat.snappy", "flat.zstd", "flat.gzip"].iter().enumerate() {
        let file = fs::read(golden(&format!("vectors/parquet/{name}.parquet"))).unwrap();
        bench.write(&format!("data/rows/{number}.parquet"), file);
    }
    bench.write(
        "data/dataset_info.json",
        r#"{"rows": {"file_name": "rows"}}"#,
    );
    let arguments = ["check", "job.yaml", "dataset=rows"];
    assert_eq!(number(&result(&bench, &arguments), "examples"), 60);
    let path = bench.path("data/rows/1.parquet");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let screens = bench.screens(&arguments);
    assert!(
        screens.contains("error[data.parquet]: `data/rows/1.parquet`"),
        "{screens}"
    );
    assert!(screens.contains("错误[data.parquet]"), "{screens}");
}

#[test]
fn a_stream_is_told_before_it_starts() {
    let bench = bench_with(&[("a", 30)]);
    let arguments = [
        "check",
        "job.yaml",
        "dataset=a",
        "streaming=true",
        "max_steps=5",
        "val_size=3",
    ];
    let screens = bench.screens(&arguments);
    assert!(
        screens.contains("read while training; 3 examples to evaluate on"),
        "{screens}"
    );
    assert!(screens.contains("边训练边读取；3 条用于评估"), "{screens}");
}

#[cfg(feature = "native")]
mod native {
    use super::*;

    fn losses(bench: &Bench) -> Vec<Value> {
        let text = fs::read_to_string(bench.path("out/trainer_log.jsonl")).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["loss"].clone())
            .filter(|loss| !loss.is_null())
            .collect()
    }

    #[test]
    fn a_second_start_reads_the_tokens_and_learns_the_same() {
        let bench = bench_with(&[("a", 12)]);
        let train = [
            "train",
            "job.yaml",
            "dataset=a",
            "overwrite_output_dir=true",
        ];
        result(&bench, &train);
        let first = losses(&bench);
        let kept = bench.path("home/.cache/ferry/tokens");
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 1);
        result(&bench, &train);
        assert_eq!(losses(&bench), first);
        // Carried elsewhere, where there is no data.
        let own = ["tokenized_path=own"];
        result(&bench, &[&train[..], &own].concat());
        fs::remove_file(bench.path("data/a.json")).unwrap();
        fs::remove_dir_all(kept).unwrap();
        result(&bench, &[&train[..], &own].concat());
        assert_eq!(losses(&bench), first);
        let other = bench.screen(&[&train[..], &own, &["cutoff_len=64"]].concat());
        assert!(other.contains("data.tokenized"), "{other}");
    }

    #[test]
    fn a_stream_is_trained_on_evaluated_and_gone_on_with() {
        let bench = bench_with(&[("a", 9), ("b", 4)]);
        let stream = [
            "train",
            "job.yaml",
            "dataset=a,b",
            "streaming=true",
            "buffer_size=4",
            "val_size=2",
            "save_steps=3",
            "eval_strategy=steps",
            "eval_steps=3",
            "logging_steps=1",
        ];
        result(&bench, &[&stream[..], &["max_steps=14"]].concat());
        let whole = losses(&bench);
        assert_eq!(whole.len(), 14);
        fs::remove_dir_all(bench.path("out")).unwrap();
        let six = ["max_steps=6", "lr_scheduler_type=constant"];
        result(&bench, &[&stream[..], &six].concat());
        let first = losses(&bench);
        let all = ["max_steps=14", "lr_scheduler_type=constant"];
        result(&bench, &[&stream[..], &all].concat());
        let resumed = losses(&bench);
        fs::remove_dir_all(bench.path("out")).unwrap();
        result(&bench, &[&stream[..], &all].concat());
        assert_eq!(losses(&bench), resumed);
        assert_eq!(resumed[..6], first[..6]);
    }

    #[test]
    fn each_dataset_is_evaluated_by_itself() {
        let bench = bench_with(&[("a", 4), ("b", 3)]);
        let settings = [
            "eval_dataset=a,b",
            "eval_on_each_dataset=true",
            "do_eval=true",
        ];
        result(
            &bench,
            &[&["train", "job.yaml", "dataset=a"], &settings[..]].concat(),
        );
        let results: Value =
            serde_json::from_str(&fs::read_to_string(bench.path("out/eval_results.json")).unwrap())
                .unwrap();
        let loss = |name: &str| results[name].as_f64().unwrap();
        let mean = (loss("eval_a_loss") * 4.0 + loss("eval_b_loss") * 3.0) / 7.0;
        assert!((mean - loss("eval_loss")).abs() < 1e-9, "{results}");
    }
}
