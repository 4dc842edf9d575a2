//! Exams and losses: the original's choices and figures, and what stops them.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, golden, with_golden_data};

const JOB: &str = "model_name_or_path: model\ntemplate: qwen\ntask: tiny_validation\ntask_dir: evaluation\n\
                   batch_size: 3\nsave_dir: saved\n";

/// A bench with the exam that LLaMA-Factory sat.
fn exam() -> Bench {
    let bench = Bench::new();
    bench.write("job.yaml", JOB);
    bench.copy(&golden("exam/tiny"), "evaluation/tiny");
    bench
}

fn fails(bench: &Bench, settings: &[&str], code: &str) {
    let mut arguments = vec!["--json", "eval", "job.yaml"];
    arguments.extend(settings);
    let output = bench.run(&arguments);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{settings:?}: {said}");
    assert!(said.contains(code), "{settings:?}: {said}");
}

#[test]
fn choices_are_the_originals() {
    for (name, settings) in [
        ("zh3", ["lang=zh", "n_shot=3", "batch_size=3"]),
        ("zh3", ["lang=zh", "n_shot=3", "batch_size=50"]),
        ("en0", ["lang=en", "n_shot=0", "batch_size=3"]),
    ] {
        let bench = exam();
        let mut arguments = vec!["eval", "job.yaml"];
        arguments.extend(settings);
        let output = bench.run(&arguments);
        assert!(output.status.success(), "{output:?}");
        let report = String::from_utf8(output.stdout).unwrap();
        let wanted =
            |kind: &str| fs::read_to_string(golden(&format!("exam/wanted/{name}.{kind}"))).unwrap();
        let found = |file: &str| fs::read_to_string(bench.path(&format!("saved/{file}"))).unwrap();
        assert_eq!(found("results.json"), wanted("json"), "{settings:?}");
        assert_eq!(found("results.log"), wanted("log"), "{settings:?}");
        assert_eq!(report.trim_end(), wanted("log"), "it is shown, too");
    }
}

#[test]
fn an_exam_that_cannot_be_sat_says_why() {
    let bench = exam();
    fails(&bench, &["task=tiny"], "job.value");
    fails(&bench, &["task=other_test"], "data.read");
    bench.write("saved/thesis.txt", "ten years of work");
    fails(&bench, &[], "runtime.save-taken");
    assert_eq!(fs::read_dir(bench.path("saved")).unwrap().count(), 1);
    bench.write(
        "evaluation/tiny/val/sums_val.csv",
        "id,question,A,B,C,D\n0,q,1\n",
    );
    fails(&bench, &["save_dir=new"], "data.shape");
    fs::remove_file(bench.path("evaluation/tiny/val/sums_val.csv")).unwrap();
    fails(&bench, &["save_dir=new"], "sums_val.csv");
    assert!(!bench.path("new").exists());
}

#[test]
fn losses_are_the_originals() {
    let bench = with_golden_data();
    // `eval_loss` of LLaMA-Factory's `do_eval` on the same.
    for (stage, data, cutoff, loss) in [
        ("pt", "golden_pt", 64, 4.015_469_551_086_426),
        ("sft", "golden_sharegpt", 512, 1.264_312_028_884_887_7),
    ] {
        let job = format!(
            "model_name_or_path: model\nstage: {stage}\ndo_eval: true\neval_dataset: {data}\ntemplate: qwen\n\
             cutoff_len: {cutoff}\nmax_samples: 9\noutput_dir: out\nper_device_eval_batch_size: 2\n"
        );
        bench.write("job.yaml", job);
        let output = bench.run(&["--json", "eval", "job.yaml"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        let saved = fs::read(bench.path("out/eval_results.json")).unwrap();
        let saved: Value = serde_json::from_slice(&saved).unwrap();
        let figure = |name: &str| saved[name].as_f64().unwrap();
        assert!(
            (figure("eval_loss") - loss).abs() < 1e-5,
            "{stage}: {saved}"
        );
        assert!((figure("eval_perplexity") - figure("eval_loss").exp()).abs() < 1e-9);
        assert!(figure("eval_tokens") > 0.0 && figure("eval_token_loss") > 0.0);
    }
    fails(&bench, &["stage=dpo"], "job.unsupported");
    fails(&bench, &["eval_dataset=golden_dpo"], "data.wrong-stage");
}
