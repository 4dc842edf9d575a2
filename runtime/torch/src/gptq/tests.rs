//! Whole models, rounded, written and read again.

use std::fs;
use std::path::{Path, PathBuf};

use report::{Diagnose as _, Event, Recorder, Silent};
use serde_json::{Value, json};
use tch::{Kind, Tensor};
use train_data::{Tokenizer, calibration};

use crate::export::{Calibration, ExportOptions, Exported};
use crate::model::{Model, Pass};
use crate::settings::{LoraSettings, Method, Quantization};
use crate::source::{ModelFiles, open};
use crate::{AdamSettings, BackendError, LibtorchTrainer};

fn golden(rest: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(rest)
}

fn files(folder: &Path) -> ModelFiles {
    open(folder, Path::new("unused"), &Silent).unwrap()
}

/// Texts like those that the model was made for.
fn texts(count: usize, seed: u64) -> Vec<Vec<i64>> {
    let tokenizer = Tokenizer::from_folder(&golden("model")).unwrap();
    let path = golden("data/golden_pt.jsonl");
    let drawn = calibration(&path, &tokenizer, (count, 16), seed).unwrap();
    let wide = |ids: Vec<u32>| ids.into_iter().map(i64::from).collect();
    drawn.into_iter().map(wide).collect()
}

fn export(
    files: &ModelFiles,
    bits: u32,
    texts: &[Vec<i64>],
    folder: &Path,
) -> Result<Exported, BackendError> {
    let options = ExportOptions {
        base: "golden",
        adapters: &[],
        numbers: None,
        quantization: Quantization::None,
        calibration: Some(Calibration {
            bits,
            texts,
            origin: &json!({"texts": texts.len()}),
        }),
        shard_size: 60_000,
    };
    files.export(&options, folder, &Silent)
}

/// The mean loss of a model on texts.
fn loss(model: &Model, texts: &[Vec<i64>]) -> f64 {
    let each = texts.iter().map(|text| {
        let logits = tch::no_grad(|| model.logits(&Pass::of_text(text), false).unwrap());
        let next = Tensor::from_slice(&text[1..]);
        let seen = logits.narrow(0, 0, next.size()[0]);
        seen.cross_entropy_for_logits(&next).double_value(&[])
    });
    each.sum::<f64>() / texts.len() as f64
}

#[test]
fn a_rounded_model_is_read_again_and_says_nearly_the_same() {
    let place = tempfile::tempdir().unwrap();
    let (given, asked) = (texts(24, 1), texts(24, 2));
    let whole = loss(&files(&golden("model")).load().unwrap(), &asked);
    let mut sizes = Vec::new();
    for (bits, near) in [(8, 0.01), (4, 0.2), (3, 0.6), (2, 3.0)] {
        let folder = place.path().join(bits.to_string());
        let exported = export(&files(&golden("model")), bits, &given, &folder).unwrap();
        assert_eq!((exported.bits, exported.numbers), (Some(bits), "float16"));
        assert!(exported.files.len() > 1, "{:?}", exported.files);
        sizes.push(exported.bytes);
        let model = files(&folder).load().unwrap();
        assert!(model.is_packed());
        let gap = (loss(&model, &asked) - whole).abs();
        assert!(gap < near, "{bits} bits: {whole} and {gap} more");
        let said = |name: &str| -> Value {
            serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
        };
        let config = said("config.json");
        assert_eq!(config["quantization_config"], said("quantize_config.json"));
        assert_eq!(config["quantization_config"]["bits"], bits);
        assert_eq!(config["dtype"], "float16");
        assert_eq!(said("export.json")["calibration"]["texts"], 24);
    }
    assert!(sizes.windows(2).all(|pair| pair[1] < pair[0]), "{sizes:?}");
}

#[test]
fn the_same_texts_give_the_same_bytes_and_progress_is_told() {
    let place = tempfile::tempdir().unwrap();
    let given = texts(4, 1);
    let told = Recorder::default();
    let bytes = |name: &str| {
        let folder = place.path().join(name);
        let options = ExportOptions {
            base: "golden",
            adapters: &[],
            numbers: None,
            quantization: Quantization::None,
            calibration: Some(Calibration {
                bits: 4,
                texts: &given,
                origin: &Value::Null,
            }),
            shard_size: u64::MAX,
        };
        files(&golden("model"))
            .export(&options, &folder, &told)
            .unwrap();
        fs::read(folder.join("model.safetensors")).unwrap()
    };
    assert!(bytes("one") == bytes("two"));
    let passed = told.events().into_iter().filter_map(|event| match event {
        Event::Progress { step, done, .. } if step == "step.calibrate" => Some(done),
        _ => None,
    });
    // Four layers, four times, four texts.
    assert_eq!(passed.max(), Some(64));
}

#[test]
fn an_adapter_is_trained_on_it_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("four");
    export(&files(&golden("model")), 4, &texts(4, 1), &folder).unwrap();
    let train = |method: Method| {
        let adam = AdamSettings::default();
        LibtorchTrainer::new(files(&folder), "four", method.into(), adam, 1)
    };
    let lora = train(Method::Lora {
        settings: LoraSettings::of_rank(2),
        merge_first: Vec::new(),
        start_from: None,
    });
    lora.unwrap();
    assert_eq!(
        train(Method::Full).unwrap_err().code(),
        "torch.not-on-packed"
    );
    let twice = export(
        &files(&folder),
        8,
        &texts(4, 1),
        &place.path().join("twice"),
    );
    assert_eq!(twice.unwrap_err().code(), "torch.not-on-packed");
}

#[test]
fn what_cannot_be_rounded_is_refused_before_anything_is_written() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("out");
    let refused = |model: &str, texts: &[Vec<i64>], code: &str| {
        let error = export(&files(&golden(model)), 4, texts, &folder).unwrap_err();
        assert_eq!(error.code(), code, "{model}: {error}");
        assert!(!folder.exists());
    };
    refused("families/linear", &[vec![1, 2, 3]], "torch.unpackable");
    refused(
        "families/qwen3_moe",
        &[vec![1, 2, 3]],
        "torch.no-packed-experts",
    );
    refused("model", &[vec![1, 2, 5000]], "torch.bad-batch");
    refused("model", &[vec![1, 2], vec![3]], "torch.bad-batch");
    refused("model", &[vec![1; 4097]], "torch.too-long");
    let broken = place.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for entry in fs::read_dir(golden("model")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, broken.join(path.file_name().unwrap())).unwrap();
    }
    let path = broken.join("model.safetensors");
    let name = "model.layers.1.mlp.up_proj.weight";
    let tensors = Tensor::read_safetensors(&path).unwrap().into_iter();
    let tensors = tensors.map(|(found, mut tensor)| {
        if found == name {
            let _same = tensor.get(0).fill_(f64::NAN);
            tensor = tensor.to_kind(Kind::Float);
        }
        (found, tensor)
    });
    let tensors: Vec<_> = tensors.collect();
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let error = export(&files(&broken), 4, &texts(2, 1), &folder).unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    assert!(!folder.exists());
}

/// Writes other bytes over the tensors of an export whose names end so, and says how the model then loads.
fn with_changed(
    folder: &Path,
    end: &str,
    change: impl Fn(&mut [i32]),
) -> Result<Model, BackendError> {
    let path = folder.join("model.safetensors");
    let right = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(right[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&right[8..8 + length]).unwrap();
    let mut wrong = right.clone();
    for (_, tensor) in header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.ends_with(end))
    {
        let at = |side: usize| tensor["data_offsets"][side].as_u64().unwrap() as usize;
        let range = 8 + length + at(0)..8 + length + at(1);
        let words = right[range.clone()].chunks(4);
        let words = words.map(|word| i32::from_le_bytes(word.try_into().unwrap()));
        let mut words: Vec<i32> = words.collect();
        change(&mut words);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        wrong[range].copy_from_slice(&bytes);
    }
    fs::write(&path, wrong).unwrap();
    let model = files(folder).load();
    fs::write(&path, right).unwrap();
    model
}

#[test]
fn other_versions_are_read_and_files_that_lie_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("four");
    let options = ExportOptions {
        base: "golden",
        adapters: &[],
        numbers: None,
        quantization: Quantization::None,
        calibration: Some(Calibration {
            bits: 4,
            texts: &texts(4, 1),
            origin: &Value::Null,
        }),
        shard_size: u64::MAX,
    };
    files(&golden("model"))
        .export(&options, &folder, &Silent)
        .unwrap();
    let matrix = "model.layers.0.mlp.down_proj";
    let logits = |model: &Model| {
        let pass = Pass::of_text(&[5, 17, 300, 9]);
        tch::no_grad(|| model.logits(&pass, false).unwrap())
    };
    let right = logits(&files(&folder).load().unwrap());
    let unchanged = |_: &mut [i32]| {};
    let text = fs::read_to_string(folder.join("config.json")).unwrap();
    let with_config = |from: &str, to: &str, load: &dyn Fn() -> Result<Model, BackendError>| {
        assert!(text.contains(from), "{from}: {text}");
        fs::write(folder.join("config.json"), text.replace(from, to)).unwrap();
        let model = load();
        fs::write(folder.join("config.json"), &text).unwrap();
        model
    };
    // In version 2 zeros are as they are: 8 instead of 7.
    let (first, second) = (
        "\"checkpoint_format\": \"gptq\"",
        "\"checkpoint_format\": \"gptq_v2\"",
    );
    let model = with_config(first, second, &|| {
        with_changed(&folder, ".qzeros", |words| {
            assert!(words.iter().all(|word| *word == 0x7777_7777));
            words.fill(0x8888_8888_u32.cast_signed());
        })
    });
    assert_eq!(logits(&model.unwrap()), right);

    let code = |model: Result<Model, BackendError>| model.unwrap_err().code();
    let name = |part: &str| format!("{matrix}.{part}");
    let far = with_changed(&folder, &name("g_idx"), |words| words[3] = 2);
    assert_eq!(code(far), "torch.malformed");
    let before = with_changed(&folder, &name("g_idx"), |words| words[3] = -1);
    assert_eq!(code(before), "torch.malformed");
    let endless = with_changed(&folder, &name("scales"), |words| words[0] = 0x7c00_7c00);
    assert_eq!(code(endless), "torch.malformed");
    for (from, to, wanted) in [
        ("\"bits\": 4", "\"bits\": 8", "torch.wrong-shape"),
        ("\"bits\": 4", "\"bits\": 5", "torch.unsupported-setting"),
        (
            "\"group_size\": 128",
            "\"group_size\": 0",
            "torch.unsupported-setting",
        ),
        (
            "\"quant_method\": \"gptq\"",
            "\"quant_method\": \"awq\"",
            "torch.unsupported-setting",
        ),
        (
            "\"pack_dtype\": \"int32\"",
            "\"pack_dtype\": \"int16\"",
            "torch.unsupported-setting",
        ),
    ] {
        let model = with_config(from, to, &|| {
            with_changed(&folder, &name("g_idx"), unchanged)
        });
        assert_eq!(code(model), wanted, "{to}");
    }
    // Columns that are grouped otherwise have other scales.
    let other = with_changed(&folder, &name("g_idx"), <[i32]>::reverse).unwrap();
    assert_ne!(logits(&other), right);
    assert_eq!(logits(&files(&folder).load().unwrap()), right);
}
