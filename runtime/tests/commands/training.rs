//! Runs that train: the original's numbers, the same run twice, and runs that are cut off.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Instant;

use serde_json::Value;

use crate::bench::{Bench, golden, result};

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

fn read(bench: &Bench, name: &str) -> Value {
    json(&fs::read(bench.path(name)).unwrap())
}

/// Trains and returns the result, or panics with what was said.
fn train(bench: &Bench, settings: &[&str]) -> Value {
    let mut arguments = vec!["--json", "train", "job.yaml", "output_dir=out"];
    arguments.extend(settings);
    result(&mut bench.command(&arguments))
}

/// The log points of a run that hold a loss.
fn points(bench: &Bench) -> Vec<Value> {
    let state = read(bench, "out/trainer_state.json");
    let points = state["log_history"].as_array().unwrap().clone();
    let points = points.into_iter();
    points.filter(|point| point.get("loss").is_some()).collect()
}

/// Runs the golden job `run` and compares every step with its trace.
fn follows_the_trace(run: &str) {
    follows_the_trace_with(&Bench::golden(run), run, &[]);
}

fn follows_the_trace_with(bench: &Bench, run: &str, settings: &[&str]) {
    follows_the_trace_within(bench, run, settings, 1e-4, 1e-3);
}

/// The same with other bounds on how far losses and gradient norms may be off.
fn follows_the_trace_within(bench: &Bench, run: &str, settings: &[&str], loss: f64, norm: f64) {
    train(bench, settings);
    let trace = json(&fs::read(golden(&format!("traces/{run}/trace.json"))).unwrap());
    let steps = trace["steps"].as_array().unwrap();
    let points = points(bench);
    assert_eq!(points.len(), steps.len(), "{run}");
    for (point, step) in points.iter().zip(steps) {
        for (name, within) in [
            ("loss", loss),
            ("grad_norm", norm),
            ("learning_rate", 1e-12),
        ] {
            let found = point[name].as_f64().unwrap();
            let wanted = step["logged"][name].as_f64().unwrap();
            let off = (found - wanted).abs();
            println!("{run} {} {name} {found} off {off:.1e}", step["step"]);
            assert!(
                off < within,
                "{run} step {}: {name} off by {off}",
                step["step"]
            );
        }
        let (found, wanted) = (point["epoch"].as_f64(), step["epoch"].as_f64());
        assert_eq!(found, wanted, "{run}");
        for (name, wanted) in step["logged"].as_object().unwrap() {
            if name.starts_with("rewards/") || name.starts_with("logps/") {
                let found = point[name].as_f64().unwrap_or(f64::NAN);
                let off = (found - wanted.as_f64().unwrap()).abs();
                assert!(off < 1e-3, "{run} step {}: {name} {found}", step["step"]);
            }
        }
    }
}

#[test]
fn lora_follows_the_trace() {
    follows_the_trace("sft_lora");
}

#[test]
fn narrow_numbers_follow_the_traces() {
    for (run, loss, norm) in [("sft_lora_bf16", 2e-2, 0.2), ("sft_qlora_nf4", 2e-3, 0.1)] {
        follows_the_trace_within(&Bench::golden(run), run, &[], loss, norm);
    }
}

#[test]
fn kinds_of_adapters_follow_the_traces() {
    for run in ["sft_rslora_loraplus", "sft_pissa", "sft_additional_target"] {
        follows_the_trace(run);
    }
}

#[test]
fn stretched_positions_follow_the_traces() {
    follows_the_trace("sft_rope_linear");
    let bench = Bench::golden("sft_rope_yarn");
    follows_the_trace_with(&bench, "sft_rope_yarn", &[]);
    // A model that was trained whole keeps how its positions are stretched.
    let config = read(&bench, "out/config.json");
    assert_eq!(config["max_position_embeddings"], 12_288);
    let wanted = serde_json::json!({
        "rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 4096, "rope_theta": 10000.0,
    });
    assert_eq!(config["rope_parameters"], wanted);
    // Where texts are no longer than the model was made for it stays as it is, which is told.
    let bench = Bench::golden("sft_lora");
    let output = bench.run(&["--json", "check", "job.yaml", "rope_scaling=yarn"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("runtime.stretch-not-needed"), "{said}");
    follows_the_trace_with(&bench, "sft_lora", &["rope_scaling=yarn"]);
}

#[test]
fn a_models_own_rule_for_positions_follows_the_traces() {
    let rules = json(&fs::read(golden("ropes.json")).unwrap());
    for (rule, fields) in rules.as_object().unwrap() {
        let bench = Bench::golden("sft_ropes");
        let mut config = read(&bench, "model/config.json");
        for (name, value) in fields.as_object().unwrap() {
            config[name] = value.clone();
        }
        bench.write("model/config.json", config.to_string());
        follows_the_trace_with(&bench, &format!("sft_ropes-{rule}"), &[]);
    }
}

#[test]
fn experts_follow_the_traces() {
    for run in ["moe_lora", "moe_full", "moe_freeze"] {
        let bench = Bench::golden(run);
        bench.copy(&golden("model_moe"), "model_moe");
        follows_the_trace_with(&bench, run, &[]);
        // What comes out speaks: the whole model, or the model with its adapter, and the same exported.
        let ask = |words: &[&str]| {
            let mut chat = vec!["--json", "chat", "--template", "qwen", "--max-tokens", "8"];
            chat.extend(["--prompt", "What is the capital of France?"]);
            chat.extend(words);
            let output = bench.run(&chat);
            assert!(output.status.success(), "{run}: {output:?}");
            json(&output.stdout)["answer"].clone()
        };
        let (adapter, answer) = if run == "moe_lora" {
            let answer = ask(&["--model", "model_moe", "--adapter", "out"]);
            ("out", answer)
        } else {
            ("", ask(&["--model", "out"]))
        };
        let base = if adapter.is_empty() {
            "out"
        } else {
            "model_moe"
        };
        let job = format!(
            "model_name_or_path: {base}\nadapter_name_or_path: \"{adapter}\"\nexport_dir: merged\nexport_size: 1\n"
        );
        bench.write("export.yaml", job);
        let output = bench.run(&["export", "export.yaml"]);
        assert!(output.status.success(), "{run}: {output:?}");
        assert_eq!(ask(&["--model", "merged"]), answer, "{run}");
    }
}

#[test]
fn packed_rows_follow_the_trace() {
    follows_the_trace("sft_lora_packing");
}

#[test]
fn neatly_packed_rows_follow_the_trace() {
    follows_the_trace("sft_lora_neat_packing");
}

#[test]
fn prompts_that_are_learnt_follow_the_trace() {
    follows_the_trace("sft_lora_train_on_prompt");
}

#[test]
fn plain_texts_follow_the_trace() {
    follows_the_trace("pt_lora");
}

#[test]
fn comparisons_follow_the_trace() {
    for run in ["dpo_lora", "dpo_ld", "orpo_lora", "simpo_lora"] {
        follows_the_trace(run);
    }
}

#[test]
fn rewards_follow_the_trace() {
    let prepare = |bench: &Bench| {
        // The trace was made without dropout before the head, which nobody else can draw the same way.
        let mut config = read(bench, "model/config.json");
        config["summary_dropout_prob"] = 0.0.into();
        bench.write("model/config.json", config.to_string());
        for name in [
            "adapter_config.json",
            "adapter_model.safetensors",
            "value_head.safetensors",
        ] {
            let bytes = fs::read(golden(&format!("traces/rm_lora/start/{name}"))).unwrap();
            bench.write(&format!("start/{name}"), bytes);
        }
    };
    let bench = Bench::golden("rm_lora");
    prepare(&bench);
    let start = [
        "adapter_name_or_path=start",
        "save_strategy=steps",
        "save_steps=5",
    ];
    follows_the_trace_with(&bench, "rm_lora", &start);
    let before = losses(&bench);
    fs::remove_dir_all(bench.path("out/checkpoint-10")).unwrap();
    train(
        &bench,
        &[&start[..], &["overwrite_output_dir=false"]].concat(),
    );
    assert_eq!(losses(&bench), before);
    assert!(bench.path("out/value_head.safetensors").exists());
}

#[test]
fn judgements_follow_the_trace() {
    follows_the_trace("kto_lora");
}

#[test]
fn masked_history_follows_the_trace() {
    follows_the_trace("sft_mask_history");
}

#[test]
fn evaluation_follows_the_trace() {
    follows_the_trace("sft_eval");
    let bench = Bench::golden("sft_eval");
    train(&bench, &[]);
    let state = json(&fs::read(golden("traces/sft_eval/trainer_state.json")).unwrap());
    let evaluated = |state: &Value| -> Vec<(u64, f64)> {
        let points = state["log_history"].as_array().unwrap().iter();
        let losses = points.filter_map(|p| Some((p["step"].as_u64()?, p["eval_loss"].as_f64()?)));
        losses.collect()
    };
    let wanted = evaluated(&state);
    let found = evaluated(&read(&bench, "out/trainer_state.json"));
    assert_eq!(wanted.len(), 2);
    // Ours has one more: the evaluation at the end.
    for ((step, loss), (at, wanted)) in found.iter().zip(&wanted) {
        assert_eq!(step, at);
        assert!((loss - wanted).abs() < 1e-4, "step {step}: {loss} {wanted}");
    }
}

#[test]
fn every_way_to_compare_learns_and_goes_on_to_the_same_bits() {
    for (stage, dataset, more) in [
        ("dpo", "golden_dpo", vec!["pref_loss=ipo"]),
        (
            "dpo",
            "golden_dpo",
            vec!["pref_loss=hinge", "finetuning_type=full"],
        ),
        ("kto", "golden_kto", vec!["pref_ftx=0.1"]),
        // Its head drops a tenth of its inputs.
        ("rm", "golden_dpo", vec![]),
    ] {
        let (stage_key, dataset_key) = (format!("stage={stage}"), format!("dataset={dataset}"));
        let mut settings = vec![stage_key.as_str(), dataset_key.as_str()];
        settings.extend([
            "save_strategy=steps",
            "save_steps=10",
            "learning_rate=0.001",
        ]);
        settings.extend(&more);
        let bench = Bench::golden("dpo_lora");
        let mut arguments = settings.clone();
        let full = more.contains(&"finetuning_type=full");
        if full {
            // A full run takes no LoRA keys.
            let job = fs::read_to_string(bench.path("job.yaml")).unwrap();
            let lines = job.lines().filter(|line| !line.starts_with("lora_"));
            bench.write("job.yaml", lines.collect::<Vec<_>>().join("\n"));
        }
        train(&bench, &arguments);
        let all = points(&bench);
        let loss = |range: std::ops::Range<usize>| -> f64 {
            let part = &all[range];
            let sum: f64 = part.iter().map(|p| p["loss"].as_f64().unwrap()).sum();
            sum / part.len() as f64
        };
        assert!(
            loss(15..20) < loss(0..5),
            "{stage} {more:?}: nothing learnt"
        );
        let before = losses(&bench);
        fs::remove_dir_all(bench.path("out/checkpoint-20")).unwrap();
        arguments.push("overwrite_output_dir=false");
        train(&bench, &arguments);
        assert_eq!(losses(&bench), before, "{stage} {more:?}");
    }
}

#[test]
fn a_model_and_its_copy_before_training_say_the_same_at_first() {
    let bench = Bench::golden("dpo_lora");
    let job = fs::read_to_string(bench.path("job.yaml")).unwrap();
    let lines = job.lines().filter(|line| !line.starts_with("lora_"));
    bench.write("job.yaml", lines.collect::<Vec<_>>().join("\n"));
    train(
        &bench,
        &["finetuning_type=full", "bf16=true", "max_steps=3"],
    );
    let rewards = |point: &Value| point["rewards/chosen"].as_f64().unwrap();
    let all = points(&bench);
    // The first step is warmup's, at a rate of zero.
    assert!(
        rewards(&all[0]) == 0.0 && rewards(&all[2]) != 0.0,
        "{all:?}"
    );
}

/// A job with everything that chance decides: order of the examples, adapter, dropout.
const CHANCE: [&str; 6] = [
    "disable_shuffling=false",
    "lora_dropout=0.1",
    "warmup_steps=0",
    "learning_rate=0.001",
    "save_strategy=steps",
    "save_steps=5",
];

fn losses(bench: &Bench) -> Vec<Value> {
    let of = |point: &Value| serde_json::json!([point["step"], point["loss"], point["grad_norm"]]);
    points(bench).iter().map(of).collect()
}

fn same_run(one: &Bench, other: &Bench, weights: &str) {
    assert_eq!(losses(one), losses(other));
    let bytes = |bench: &Bench| fs::read(bench.path(&format!("out/{weights}"))).unwrap();
    assert!(bytes(one) == bytes(other), "the weights differ");
    let last = "out/checkpoint-20/optimizer.safetensors";
    let state = |bench: &Bench| fs::read(bench.path(last)).unwrap();
    assert!(state(one) == state(other), "the optimizers differ");
}

#[test]
fn the_same_job_twice_gives_the_same_bits() {
    let (one, other) = (Bench::golden("sft_lora"), Bench::golden("sft_lora"));
    train(&one, &CHANCE);
    train(&other, &CHANCE);
    same_run(&one, &other, "adapter_model.safetensors");
    let third = Bench::golden("sft_lora");
    let mut settings = CHANCE.to_vec();
    settings.push("seed=7");
    train(&third, &settings);
    assert_ne!(losses(&one), losses(&third), "the seed has no effect");
}

#[test]
fn ten_steps_and_ten_more_are_twenty() {
    for (run, weights) in [
        ("sft_lora", "adapter_model.safetensors"),
        ("sft_full", "model.safetensors"),
    ] {
        let whole = Bench::golden(run);
        let settings: Vec<&str> = if run == "sft_full" {
            let settings = CHANCE.iter().filter(|key| !key.starts_with("lora"));
            settings.copied().collect()
        } else {
            CHANCE.to_vec()
        };
        train(&whole, &settings);
        let halves = Bench::golden(run);
        // The schedule of twenty steps, left after ten as a kill would leave it.
        train(&halves, &settings);
        for late in ["checkpoint-15", "checkpoint-20"] {
            fs::remove_dir_all(halves.path(&format!("out/{late}"))).unwrap();
        }
        let mut resumed = settings.clone();
        resumed.push("overwrite_output_dir=false");
        let result = train(&halves, &resumed);
        assert_eq!(result["resumed_at"], 10, "{run}");
        same_run(&whole, &halves, weights);
    }
}

#[test]
fn a_run_that_is_killed_at_any_time_goes_on_to_the_same_end() {
    let whole = Bench::golden("sft_lora");
    let settings = ["save_strategy=steps", "save_steps=1", "save_total_limit=2"];
    let began = Instant::now();
    train(&whole, &settings);
    let took = began.elapsed();
    let cut = Bench::golden("sft_lora");
    let mut arguments = vec![
        "train",
        "job.yaml",
        "output_dir=out",
        "overwrite_output_dir=false",
    ];
    arguments.extend(settings);
    let mut kills = 0;
    for part in 1..=8_u32 {
        let mut child = cut
            .command(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(took * part / 9);
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        // Before its first checkpoint a run has nothing to go on from, and the folder is not taken twice.
        let made = fs::read_dir(cut.path("out")).map_or(0, |entries| {
            let names = entries.map(|entry| entry.unwrap().file_name());
            let names = names.map(|name| name.into_string().unwrap());
            names.filter(|name| name.starts_with("checkpoint-")).count()
        });
        if made == 0 {
            let _gone = fs::remove_dir_all(cut.path("out"));
        }
    }
    assert!(kills > 0, "every run ended before it was killed");
    train(
        &cut,
        &[
            "save_strategy=steps",
            "save_steps=1",
            "save_total_limit=2",
            "overwrite_output_dir=false",
        ],
    );
    assert_eq!(losses(&whole), losses(&cut));
    let bytes = |bench: &Bench| fs::read(bench.path("out/adapter_model.safetensors")).unwrap();
    assert!(bytes(&whole) == bytes(&cut), "the weights differ");
    let left = fs::read_dir(cut.path("out")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = left.filter(|name| name.starts_with('.')).collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn evaluation_ends_with_the_best_weights() {
    let bench = Bench::golden("sft_lora");
    let settings = [
        "val_size=0.1",
        "eval_strategy=steps",
        "eval_steps=4",
        "save_strategy=steps",
        "save_steps=4",
        "load_best_model_at_end=true",
        "plot_loss=true",
    ];
    let result = train(&bench, &settings);
    let log = fs::read_to_string(bench.path("out/trainer_log.jsonl")).unwrap();
    let evaluated: Vec<f64> = log
        .lines()
        .filter_map(|line| json(line.as_bytes())["eval_loss"].as_f64())
        .collect();
    // Five during the run, one at its end with the best weights.
    assert_eq!(evaluated.len(), 6, "{log}");
    assert!(evaluated[4] < evaluated[0], "{evaluated:?}");
    let least = evaluated[..5].iter().copied().fold(f64::INFINITY, f64::min);
    assert!((evaluated[5] - least).abs() < 1e-9, "{evaluated:?}");
    assert_eq!(result["eval_loss"], evaluated[5]);
    let best = result["best_step"].as_u64().unwrap();
    assert!((evaluated[best as usize / 4 - 1] - least).abs() < 1e-12);
    let bytes = |name: &str| fs::read(bench.path(name)).unwrap();
    assert!(
        bytes("out/adapter_model.safetensors")
            == bytes(&format!("out/checkpoint-{best}/adapter_model.safetensors"))
    );
    assert!(bench.path("out/training_eval_loss.png").exists());
}

#[test]
fn a_job_that_cannot_run_leaves_nothing() {
    for (setting, code) in [
        ("model_name_or_path=none", "runtime.no-such-model"),
        ("dataset=none", "data.unknown-dataset"),
        ("template=none", "data.unknown-template"),
        ("lora_target=query", "torch.no-such-target"),
        ("lora_rnak=8", "job.unknown-key"),
        ("resume_from_checkpoint=true", "train.no-checkpoint"),
        ("resume_from_checkpoint=model", "train.bad-checkpoint"),
    ] {
        let bench = Bench::new();
        let output = bench.run(&["--json", "train", "job.yaml", setting]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success(), "{setting}");
        assert!(
            said.contains(&format!("\"code\":\"{code}\"")),
            "{setting}: {said}"
        );
        assert!(
            !bench.path("out").exists(),
            "{setting} left an output folder"
        );
    }
    let bench = Bench::new();
    bench.write("model/model.safetensors", [7; 64]);
    let output = bench.run(&["--json", "train", "job.yaml"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\"code\":\"torch.malformed\""), "{said}");
    assert!(!bench.path("out").exists());
}

#[test]
fn a_chat_is_written_by_the_models_own_template() {
    let bench = Bench::new();
    let template = "{{ '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}\
        {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    bench.write("model/chat_template.jinja", template);
    let cases = json(&fs::read(golden("vectors/generate.json")).unwrap());
    for case in cases["base"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let (_, rest) = prompt.split_once("<|im_start|>user\n").unwrap();
        let (question, _) = rest.split_once("<|im_end|>").unwrap();
        let limit = case["new_ids"].as_array().unwrap().len().to_string();
        let chat = [
            "chat",
            "--model",
            "model",
            "--max-tokens",
            &limit,
            "--prompt",
            question,
        ];
        let own = bench.run(&chat);
        let mut named = chat.to_vec();
        named.extend(["--template", "qwen"]);
        let text = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
        let (own, named) = (text(own), text(bench.run(&named)));
        assert_eq!(own, named, "{question}");
        let json = bench.run(&[&["--json"], chat.as_slice()].concat());
        assert_eq!(
            serde_json::from_str::<Value>(&text(json)).unwrap()["answer"],
            own.trim_end_matches('\n'),
            "streamed and whole text differ"
        );
    }
    let said = bench.run(&[
        "chat",
        "--model",
        "model",
        "--template",
        "qwne",
        "--prompt",
        "a",
    ]);
    assert!(String::from_utf8(said.stderr).unwrap().contains("`qwen`"));
}
