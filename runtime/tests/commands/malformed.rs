//! Models, adapters and checkpoints that are damaged or lie: each is an error with its own code, and nothing is written.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, golden};

/// Runs the program and returns the code of its error.
fn code(bench: &Bench, words: &[&str]) -> String {
    let output = bench.run(&[&["--json"], words].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{words:?}: {said}");
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    // Not by a panic or a signal.
    assert!(output.status.code().is_some_and(|code| code < 10), "{said}");
    let code = last["code"].as_str().or(last["error"]["code"].as_str());
    code.unwrap_or_else(|| panic!("no code in {last}"))
        .to_owned()
}

fn train(bench: &Bench, more: &[&str]) -> String {
    let code = code(bench, &[&["train", "job.yaml"], more].concat());
    assert!(!bench.path("out").exists(), "{code} left an output folder");
    code
}

fn change(bench: &Bench, file: &str, act: impl FnOnce(&mut Value)) {
    let text = fs::read(bench.path(file)).unwrap();
    let mut value = serde_json::from_slice(&text).unwrap();
    act(&mut value);
    bench.write(file, value.to_string());
}

/// Puts `number` in the place of the first one of a tensor.
fn poison(bench: &Bench, file: &str, tensor: &str, number: f32) {
    let mut bytes = fs::read(bench.path(file)).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let from = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let at = 8 + length + from;
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bench.write(file, bytes);
}

#[test]
fn weights_that_lie_are_refused() {
    let whole = fs::read(golden("model/model.safetensors")).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let with = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        edit(&mut bytes);
        bytes
    };
    let text = |from: &str, to: &str| {
        let old = String::from_utf8(whole[8..8 + header].to_vec()).unwrap();
        let new = old.replacen(from, to, 1);
        assert_ne!(old, new, "{from} is not there");
        let mut bytes = (new.len() as u64).to_le_bytes().to_vec();
        bytes.extend(new.as_bytes());
        bytes.extend(&whole[8 + header..]);
        bytes
    };
    for (case, bytes, wanted) in [
        ("empty", Vec::new(), "torch.malformed"),
        ("cut in the header", whole[..40].to_vec(), "torch.malformed"),
        (
            "cut in the data",
            whole[..whole.len() / 2].to_vec(),
            "torch.malformed",
        ),
        (
            "a header beyond any file",
            with(&|b| b[..8].copy_from_slice(&u64::MAX.to_le_bytes())),
            "torch.malformed",
        ),
        (
            "a header of 99 megabytes in a small file",
            with(&|b| b[..8].copy_from_slice(&99_000_000_u64.to_le_bytes())),
            "torch.malformed",
        ),
        ("no JSON", with(&|b| b[8] = b'x'), "torch.malformed"),
        (
            "sides whose product overflows",
            text("[768,64]", "[4611686018427387904,64]"),
            "torch.malformed",
        ),
        (
            "a negative side",
            text("[768,64]", "[-768,64]"),
            "torch.malformed",
        ),
        (
            "other sides, as many bytes",
            text("[768,64]", "[64,768]"),
            "torch.wrong-shape",
        ),
        (
            "numbers of eight bits in the bytes of others",
            text("\"F32\"", "\"F8_E4M3\""),
            "torch.malformed",
        ),
        (
            "whole numbers",
            text("\"F32\"", "\"I32\""),
            "torch.unsupported-type",
        ),
        (
            "a tensor of another name",
            text("model.embed_tokens.weight", "model.embed_token.weight"),
            "torch.missing-tensor",
        ),
    ] {
        let bench = Bench::new();
        bench.write("model/model.safetensors", bytes);
        assert_eq!(train(&bench, &[]), wanted, "{case}");
    }
}

#[test]
fn an_index_leads_nowhere_but_to_its_own_folder() {
    let index = |name: &str| json!({"weight_map": {"model.embed_tokens.weight": name}}).to_string();
    for (case, text, wanted) in [
        (
            "a shard that is missing",
            index("model-00001-of-00002.safetensors"),
            "torch.unreadable",
        ),
        (
            "a folder above",
            index("../model/part.safetensors"),
            "torch.malformed",
        ),
        ("two dots alone", index(".."), "torch.malformed"),
        ("from the root", index("/etc/passwd"), "torch.malformed"),
        ("no name", index(""), "torch.malformed"),
        ("no map", "{}".to_owned(), "torch.malformed"),
        ("no JSON", "[".to_owned(), "torch.malformed"),
        (
            "a tensor that its shard lacks",
            json!({"weight_map": {"model.none": "part.safetensors"}}).to_string(),
            "torch.missing-tensor",
        ),
    ] {
        let bench = Bench::new();
        // A whole file would count more than the index.
        let part = bench.path("model/part.safetensors");
        fs::rename(bench.path("model/model.safetensors"), part).unwrap();
        bench.write("model/model.safetensors.index.json", text);
        assert_eq!(train(&bench, &[]), wanted, "{case}");
    }
}

#[test]
fn absurd_numbers_of_a_configuration_are_refused() {
    for (name, value) in [
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(1_u64 << 60)),
        ("num_key_value_heads", json!(3)),
        ("num_hidden_layers", json!(1_u64 << 60)),
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(-1)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1e300)),
        ("intermediate_size", json!("many")),
        ("vocab_size", json!(1_u64 << 60)),
        (
            "rope_parameters",
            json!({"rope_theta": -1.0, "rope_type": "default"}),
        ),
    ] {
        let bench = Bench::new();
        change(&bench, "model/config.json", |config| {
            config[name] = value.clone()
        });
        for command in ["check", "train"] {
            let code = code(&bench, &[command, "job.yaml"]);
            assert!(
                code.ends_with(".malformed"),
                "{command} {name} {value}: {code}"
            );
        }
        assert!(!bench.path("out").exists());
    }
    let bench = Bench::new();
    change(&bench, "model/config.json", |config| {
        config["model_type"] = "gpt9".into()
    });
    assert_eq!(train(&bench, &[]), "torch.unknown-architecture");
    // The shape that a configuration tells must be that of the weights.
    let bench = Bench::new();
    change(&bench, "model/config.json", |config| {
        config["intermediate_size"] = 191.into()
    });
    assert_eq!(train(&bench, &[]), "torch.wrong-shape");
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let tensor = "model.layers.1.mlp.up_proj.weight";
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bench = Bench::new();
        poison(&bench, "model/model.safetensors", tensor, number);
        for more in [
            &[][..],
            &["quantization_bit=4"],
            &["finetuning_type=full"],
            &["bf16=true"],
        ] {
            let full = more.contains(&"finetuning_type=full");
            let job = crate::bench::JOB;
            let job = if full {
                job.replace("lora_rank: 4\n", "")
            } else {
                job.to_owned()
            };
            bench.write("job.yaml", job);
            assert_eq!(train(&bench, more), "torch.broken-weight", "{more:?}");
        }
        let said = bench.screen(&["train", "job.yaml"]);
        assert!(said.contains(tensor), "{said}");
        let chat = [
            "chat",
            "--model",
            "model",
            "--template",
            "qwen",
            "--prompt",
            "a",
        ];
        assert_eq!(code(&bench, &chat), "torch.broken-weight");
        bench.write(
            "export.yaml",
            "model_name_or_path: model\nexport_dir: merged\n",
        );
        assert_eq!(code(&bench, &["export", "export.yaml"]), "torch.not-finite");
        assert!(!bench.path("merged").exists());
    }
}

#[test]
fn adapters_that_lie_are_refused() {
    let whole = fs::read(golden("adapter_init/adapter_model.safetensors")).unwrap();
    let config = fs::read(golden("adapter_init/adapter_config.json")).unwrap();
    let a = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight";
    let set = |name: &'static str, value: Value| {
        move |bench: &Bench| change(bench, "adapter/adapter_config.json", |c| c[name] = value)
    };
    type Edit = Box<dyn FnOnce(&Bench)>;
    let cases: Vec<(&str, Edit, &str)> = vec![
        (
            "cut",
            Box::new({
                let half = whole[..whole.len() / 2].to_vec();
                move |bench| bench.write("adapter/adapter_model.safetensors", half)
            }),
            "torch.malformed",
        ),
        (
            "of another rank",
            Box::new(set("r", json!(4))),
            "torch.wrong-shape",
        ),
        ("of rank 0", Box::new(set("r", json!(0))), "torch.malformed"),
        (
            "of a huge rank",
            Box::new(set("r", json!(1_u64 << 60))),
            "torch.malformed",
        ),
        (
            "of another kind",
            Box::new(set("peft_type", json!("IA3"))),
            "torch.malformed",
        ),
        (
            "of infinite strength",
            Box::new(set("lora_alpha", json!("inf"))),
            "torch.malformed",
        ),
        (
            "with what is not there",
            Box::new(set("rank_pattern", json!({"q_proj": 2}))),
            "torch.unsupported-setting",
        ),
        (
            "no number",
            Box::new(move |bench| poison(bench, "adapter/adapter_model.safetensors", a, f32::NAN)),
            "torch.malformed",
        ),
        (
            "for another model",
            Box::new(|bench| {
                change(bench, "model/config.json", |c| {
                    c["num_hidden_layers"] = 3.into();
                    c["layer_types"] =
                        json!(["full_attention", "full_attention", "full_attention"]);
                });
            }),
            "torch.malformed",
        ),
        (
            "no JSON",
            Box::new(|bench| bench.write("adapter/adapter_config.json", "{")),
            "torch.malformed",
        ),
        (
            "nothing there",
            Box::new(|bench| {
                fs::remove_file(bench.path("adapter/adapter_model.safetensors")).unwrap()
            }),
            "torch.unreadable",
        ),
    ];
    for (case, edit, wanted) in cases {
        let bench = Bench::new();
        bench.write("adapter/adapter_model.safetensors", &whole);
        bench.write("adapter/adapter_config.json", &config);
        edit(&bench);
        let found = train(&bench, &["adapter_name_or_path=adapter"]);
        assert_eq!(found, wanted, "{case}");
        let job = "model_name_or_path: model\nadapter_name_or_path: adapter\nexport_dir: merged\n";
        bench.write("export.yaml", job);
        assert_eq!(code(&bench, &["export", "export.yaml"]), wanted, "{case}");
        assert!(!bench.path("merged").exists(), "{case}");
    }
}

#[test]
fn checkpoints_that_are_damaged_are_not_gone_on_from_and_not_written_over() {
    let bench = Bench::new();
    let settings = [
        "train",
        "job.yaml",
        "save_strategy=steps",
        "save_steps=1",
        "max_steps=2",
    ];
    assert!(bench.run(&settings).status.success());
    let place = "out/checkpoint-2";
    let files = [
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "ferry_state.json",
    ];
    let whole = files.map(|name| fs::read(bench.path(&format!("{place}/{name}"))).unwrap());
    let mean = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight.mean";
    for (name, right) in files.iter().zip(&whole) {
        let file = format!("{place}/{name}");
        let mut broken = vec![right[..right.len() / 2].to_vec(), Vec::new()];
        if *name == "optimizer.safetensors" {
            poison(&bench, &file, mean, f32::NAN);
            broken.push(fs::read(bench.path(&file)).unwrap());
        }
        for bytes in broken {
            bench.write(&file, &bytes);
            let mut again = settings.to_vec();
            again.push("max_steps=4");
            let code = code(&bench, &again);
            assert!(
                ["train.bad-checkpoint", "train.backend"].contains(&code.as_str()),
                "{name}: {code}"
            );
            assert_eq!(fs::read(bench.path(&file)).unwrap(), bytes, "{name}");
            assert!(!bench.path("out/checkpoint-3").exists());
        }
        bench.write(&file, right);
    }
    let mut again = settings.to_vec();
    again.push("max_steps=4");
    assert!(bench.run(&again).status.success());
}

#[test]
fn a_run_that_diverges_keeps_its_last_checkpoint() {
    let bench = Bench::new();
    let settings = ["train", "job.yaml", "save_strategy=steps", "save_steps=2"];
    let first = bench.run(&[&settings[..], &["max_steps=2"]].concat());
    assert!(first.status.success());
    let checkpoint = "out/checkpoint-2/adapter_model.safetensors";
    let kept = fs::read(bench.path(checkpoint)).unwrap();
    // A weight that is a number, and too large to compute with.
    let model = fs::read(bench.path("model/model.safetensors")).unwrap();
    poison(&bench, "model/model.safetensors", "model.norm.weight", 3e38);
    let more = [&settings[..], &["max_steps=4"]].concat();
    assert_eq!(code(&bench, &more), "train.diverged");
    assert_eq!(fs::read(bench.path(checkpoint)).unwrap(), kept);
    assert!(!bench.path("out/checkpoint-4").exists());
    // With the model as it was, the run goes on.
    bench.write("model/model.safetensors", model);
    let again = bench.run(&more);
    assert!(again.status.success(), "{again:?}");
    assert!(bench.path("out/checkpoint-4").exists());
}
