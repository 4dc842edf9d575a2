//! What is trained: adapters, all weights, some layers, experts.

use std::path::Path;

use report::Silent;
use tch::Tensor;
use torch_backend::{
    AdamSettings, FreezeSettings, Holding, LibtorchTrainer, LoraSettings, Method, Tuning, open,
};
use train::Trainer as _;

use crate::replay::{
    Replay, assert_adapter, assert_final, assert_greedy, batches, fresh, golden, json, largest_gap,
    lora, replay, source,
};

#[test]
fn lora_follows_the_trace_and_ends_at_the_same_adapter() {
    let mut trainer = replay(Replay::exact("sft_lora", lora()));
    let folder = tempfile::tempdir().unwrap();
    let saved = assert_adapter("sft_lora", &mut trainer, folder.path());
    let expected =
        Tensor::read_safetensors(golden("traces/sft_lora/final_trainable.safetensors")).unwrap();
    assert_eq!(saved.len(), expected.len());
    for (name, tensor) in &saved {
        let (_, wanted) = expected
            .iter()
            .find(|(key, _)| key.replace(".default.", ".") == *name)
            .unwrap_or_else(|| panic!("{name}"));
        let gap = largest_gap(tensor, wanted);
        assert!(gap < 1e-4, "{name} off by {gap}");
    }

    let mut again = source().load().unwrap();
    again.load_adapter(folder.path(), 0.0).unwrap();
    assert_greedy(&again, "sft_lora");
    again.merge().unwrap();
    assert_greedy(&again, "sft_lora");
}

#[test]
fn recomputed_activations_change_no_bit() {
    let run = |recompute: bool| {
        let holding = Holding {
            recompute,
            ..Holding::default()
        };
        let adam = AdamSettings::default();
        let settings = LoraSettings {
            dropout: 0.3,
            ..LoraSettings::of_rank(4)
        };
        let method = Method::Lora {
            settings,
            merge_first: Vec::new(),
            start_from: None,
        };
        let mut trainer =
            LibtorchTrainer::new(source(), "model", Tuning { method, holding }, adam, 7).unwrap();
        let batches = batches("sft_lora");
        let steps = batches.chunks(2).take(3);
        let reports = steps.map(|part| trainer.step(part, 1e-3).unwrap());
        reports.map(|r| (r.loss, r.grad_norm)).collect::<Vec<_>>()
    };
    let (kept, recomputed) = (run(false), run(true));
    assert_eq!(kept, recomputed);
    assert!(kept[0] != kept[1]);
}

/// Two steps, or one, a checkpoint, and another one in a trainer that was made anew: the same bits.
fn goes_on_to_the_same_bits(name: &str, method: &Method) {
    let made = || {
        let adam = AdamSettings {
            weight_decay: 0.01,
            ..AdamSettings::default()
        };
        LibtorchTrainer::new(source(), "model", method.clone().into(), adam, 5).unwrap()
    };
    let batches = batches("sft_lora");
    let mut steps = batches.chunks(2);
    let (first, second) = (steps.next().unwrap(), steps.next().unwrap());
    let (folder, ends) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut whole = made();
    whole.step(first, 1e-3).unwrap();
    whole.save(folder.path()).unwrap();
    whole.save_state(folder.path()).unwrap();
    let expected = whole.step(second, 1e-3).unwrap();
    let mut resumed = made();
    resumed.load(folder.path(), true).unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        panic!("{name}: {error}: {cause:?}")
    });
    assert_eq!(resumed.step(second, 1e-3).unwrap(), expected, "{name}");
    let weights = |trainer: &mut LibtorchTrainer, to: &str| {
        let to = ends.path().join(to);
        std::fs::create_dir(&to).unwrap();
        trainer.save(&to).unwrap();
        let file = ["adapter_model.safetensors", "model.safetensors"].map(|name| to.join(name));
        std::fs::read(file.iter().find(|file| file.exists()).unwrap()).unwrap()
    };
    assert!(
        weights(&mut whole, "whole") == weights(&mut resumed, "resumed"),
        "{name}"
    );
}

#[test]
fn every_method_goes_on_from_a_checkpoint_to_the_same_bits() {
    let settings = LoraSettings {
        dropout: 0.2,
        ..LoraSettings::of_rank(4)
    };
    let of = |change: &dyn Fn(&mut LoraSettings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        fresh(settings)
    };
    for (name, method) in [
        ("lora", of(&|_| {})),
        ("dora", of(&|settings| settings.dora = true)),
        ("pissa", of(&|settings| settings.pissa = Some(None))),
        (
            "pissa, approximate",
            of(&|settings| settings.pissa = Some(Some(4))),
        ),
        (
            "whole modules",
            of(&|settings| {
                settings.whole_modules = vec!["embed_tokens".to_owned(), "norm".to_owned()]
            }),
        ),
        (
            "whole modules beside pissa",
            of(&|settings| {
                settings.pissa = Some(None);
                settings.whole_modules = vec!["lm_head".to_owned()];
            }),
        ),
        ("full", Method::Full),
        (
            "freeze",
            Method::Freeze(FreezeSettings {
                layers: -1,
                modules: vec!["self_attn".to_owned()],
                extra_modules: vec!["norm".to_owned()],
            }),
        ),
    ] {
        goes_on_to_the_same_bits(name, &method);
    }
}

#[test]
fn full_tuning_follows_the_trace_and_ends_at_the_same_weights() {
    let mut trainer = replay(Replay::exact("sft_full", Method::Full));
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path()).unwrap();
    let saved = Tensor::read_safetensors(folder.path().join("model.safetensors")).unwrap();
    let stats = json("traces/sft_full/final_stats.json");
    assert_eq!(saved.len(), stats.as_object().unwrap().len());
    assert_final("sft_full", &saved, 1e-4);
    // What was saved is a whole model.
    open(folder.path(), Path::new("unused"), &Silent)
        .unwrap()
        .load()
        .unwrap();
}

#[test]
fn freeze_tuning_follows_the_trace_and_leaves_the_rest_alone() {
    let method = Method::Freeze(FreezeSettings {
        layers: 2,
        modules: vec!["all".to_owned()],
        extra_modules: Vec::new(),
    });
    let mut trainer = replay(Replay::exact("sft_freeze", method));
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path()).unwrap();
    let saved = Tensor::read_safetensors(folder.path().join("model.safetensors")).unwrap();
    assert_final("sft_freeze", &saved, 1e-4);
    let before = Tensor::read_safetensors(golden("model/model.safetensors")).unwrap();
    assert_eq!(saved.len(), before.len());
    for (name, tensor) in &before {
        let (_, after) = saved.iter().find(|(saved, _)| saved == name).unwrap();
        let trained = name.contains("layers.2.") || name.contains("layers.3.");
        assert_eq!(after != tensor, trained, "{name}");
    }
}

#[test]
fn a_mixture_of_experts_follows_the_traces() {
    let of_moe = |run, method| Replay {
        model: golden("model_moe"),
        loss: 2e-5,
        ..Replay::exact(run, method)
    };
    let mut trainer = replay(of_moe("moe_lora", fresh(LoraSettings::of_rank(8))));
    let place = tempfile::tempdir().unwrap();
    let saved = assert_adapter("moe_lora", &mut trainer, place.path());
    assert_final("moe_lora", &saved, 1e-4);

    replay(of_moe("moe_full", Method::Full));

    let mut trainer = replay(of_moe(
        "moe_freeze",
        Method::Freeze(FreezeSettings {
            layers: 2,
            modules: vec!["all".to_owned()],
            extra_modules: Vec::new(),
        }),
    ));
    trainer.save(place.path()).unwrap();
    let saved = Tensor::read_safetensors(place.path().join("model.safetensors")).unwrap();
    let stats = json("traces/moe_freeze/final_stats.json");
    for (name, wanted) in stats.as_object().unwrap() {
        // The original keeps all experts of a layer in one tensor, and writes them one by one as we do.
        let (layer, both) = match name.split_once(".experts.") {
            Some((layer, "gate_up_proj")) => (layer, ["gate_proj", "up_proj"]),
            Some((layer, part)) => (layer, [part, part]),
            None => (name.as_str(), [""; 2]),
        };
        let fits = |saved: &str| match both {
            ["", _] => saved == name,
            parts => {
                let inside = saved.strip_prefix(&format!("{layer}.experts."));
                inside.is_some_and(|rest| {
                    parts.iter().any(|p| rest.ends_with(&format!("{p}.weight")))
                })
            }
        };
        let parts = saved.iter().filter(|(saved, _)| fits(saved));
        let square: f64 = parts
            .map(|(_, t)| t.square().sum(tch::Kind::Double).double_value(&[]))
            .sum();
        let off = square.sqrt() / wanted["l2"].as_f64().unwrap() - 1.0;
        assert!(off.abs() < 1e-4, "{name}: {off}");
    }
}
