//! Job files as people write them.

use train_data::{HeldOut, Mix, Packing, Stage, Streaming, ToolFormat};

use super::super::{Every, FineTuning, Objective, PreferenceLoss, Resume, When};
use super::*;
use crate::schedule::Scheduler;

const LEAST: &str =
    "model_name_or_path: m\ndataset: a, b\ntemplate: qwen\noutput_dir: o\nreport_to: none\n";

fn parse(more: &str, overrides: &[&str]) -> Result<Job, JobError> {
    let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
    Job::parse("job.yaml", &format!("{LEAST}{more}"), &overrides)
}

#[test]
fn the_golden_jobs_are_understood() {
    let text = include_str!("../../../../tests/golden/configs/sft_lora.yaml");
    let job = Job::parse("sft_lora.yaml", text, &[]).unwrap();
    assert_eq!(job.data.names.len(), 3);
    assert_eq!(
        (job.data.cutoff_len, job.max_steps, job.saving.when),
        (192, Some(20), When::Never)
    );
    let half = Scheduler::Cosine { cycles: 0.5 };
    assert_eq!((job.scheduler, job.warmup_steps), (half, 2));
    let FineTuning::Lora(lora) = &job.fine_tuning else {
        panic!("not LoRA");
    };
    assert_eq!((lora.rank, &lora.targets), (8, &None));
    let text = include_str!("../../../../tests/golden/configs/sft_full.yaml");
    let job = Job::parse("sft_full.yaml", text, &[]).unwrap();
    assert_eq!(job.fine_tuning, FineTuning::Full);
}

#[test]
fn defaults_are_the_originals() {
    let job = parse("", &[]).unwrap();
    assert_eq!(
        (job.batch_size, job.data.cutoff_len, job.seed),
        (8, 2048, 42)
    );
    assert_eq!(
        (job.logging_steps, job.saving.when),
        (Every::Steps(500), When::Steps(Every::Steps(500)))
    );
    assert!((job.learning_rate - 5e-5).abs() < 1e-12 && (job.epochs - 3.0).abs() < 1e-12);
    assert_eq!(
        (job.scheduler, job.gradient_checkpointing),
        (Scheduler::Linear, true)
    );
    assert_eq!(job.data.names, ["a", "b"]);
    assert_eq!(
        (job.data.packing, job.resume),
        (Packing::Off, Resume::IfThere)
    );
}

#[test]
fn json_and_overrides_are_read_too() {
    let text = r#"{"model_name_or_path": "m", "dataset": "a", "template": "qwen",
        "output_dir": "o"}"#;
    let overrides = [
        "learning_rate=1e-4",
        "--lora_rank=4",
        "lora_target=q_proj,v_proj",
    ];
    let overrides = overrides.map(str::to_owned);
    let job = Job::parse("job.json", text, &overrides).unwrap();
    assert!((job.learning_rate - 1e-4).abs() < 1e-12);
    let FineTuning::Lora(lora) = job.fine_tuning else {
        panic!("not LoRA");
    };
    assert_eq!((lora.rank, lora.alpha as u64), (4, 8));
    assert_eq!(lora.targets.unwrap(), ["q_proj", "v_proj"]);
}

#[test]
fn a_wrong_job_names_line_key_and_reason() {
    for (more, expected) in [
        (
            "lora_rnak: 4",
            "line 6: unknown key `lora_rnak`; the nearest known key is `lora_rank`",
        ),
        (
            "seed: 1\nstreaming: true",
            "line 7: `streaming: true` is not supported: set `max_steps`",
        ),
        (
            "packing: false\nlora_rank: zero",
            "line 7: `lora_rank` must be a whole number from 1",
        ),
        ("lora_rank: 0", "must be a whole number"),
        (
            "learning_rate: -1",
            "`learning_rate` must be a number from 0",
        ),
        (
            "learning_rate: .nan",
            "line 6: `learning_rate` must be a number",
        ),
        ("stage: ppo", "`stage: ppo` is not supported"),
        (
            "stage: dpo\npref_loss: kto_pair",
            "one of sigmoid, hinge, ipo",
        ),
        (
            "stage: dpo\npref_loss: ipo\ndpo_label_smoothing: 0.1",
            "cannot be used with `pref_loss`",
        ),
        ("stage: kto\npref_beta: 0", "a number above 0"),
        (
            "stage: dpo\nmask_history: true",
            "cannot be used with `stage: dpo`",
        ),
        ("bf16: true\nfp16: true", "`fp16` must be false"),
        ("plot_loss: 7", "`plot_loss` must be true or false"),
        ("do_train: false", "use a model as it is"),
        ("save_strategy: often", "only `steps`, `epoch` and `no`"),
        (
            "my_own_little_switch_here: 1",
            "line 6: unknown key `my_own",
        ),
        (
            "val_size: 0.1\neval_dataset: c",
            "cannot be used with `eval_dataset`",
        ),
        ("val_size: 2.5", "a part below one, or a whole number"),
        ("eval_strategy: steps", "set `val_size` or `eval_dataset`"),
        ("early_stopping_steps: 2", "set `eval_strategy`"),
        (
            "mask_history: true\ntrain_on_prompt: true",
            "line 6: `mask_history` cannot be used with `train_on_prompt`",
        ),
        (
            "stage: pt\nneat_packing: true",
            "cannot be used with `stage: pt`",
        ),
        (
            "val_size: 1\nload_best_model_at_end: true",
            "each checkpoint needs an evaluation",
        ),
        ("metric_for_best_model: bleu", "least `eval_loss`"),
        ("a: [", "not a YAML or JSON job"),
    ] {
        let error = parse(more, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{more}: {error}");
    }
    let error = Job::parse("job.yaml", "", &[]).unwrap_err().to_string();
    assert!(error.contains("`dataset` is missing"), "{error}");
    let error = parse("", &["loose"]).unwrap_err().to_string();
    assert!(error.contains("key=value"), "{error}");
    let error = parse("", &["lora_rank=x"]).unwrap_err().to_string();
    assert!(error.contains("argument `lora_rank=x`"), "{error}");
}

#[test]
fn what_is_read_and_when_comes_as_asked() {
    let job = parse(
        "packing: true\ncutoff_len: 100\nval_size: 0.25\neval_strategy: steps\n",
        &[],
    );
    let job = job.unwrap();
    assert_eq!(
        (job.data.packing, job.data.cutoff_len),
        (Packing::Plain, 99)
    );
    assert_eq!(job.evaluation.held_out, HeldOut::Part(0.25));
    // As in the original: as often as log lines.
    assert_eq!(job.evaluation.when, When::Steps(Every::Steps(500)));
    let job = parse("stage: pt\nval_size: 12\nsave_strategy: epoch\n", &[]).unwrap();
    assert_eq!(
        (job.data.stage, job.data.packing),
        (Stage::Pretrain, Packing::Plain)
    );
    assert_eq!(job.data.cutoff_len, 2048);
    assert_eq!(job.evaluation.held_out, HeldOut::Count(12));
    assert_eq!(job.saving.when, When::Epochs);
    let job = parse(
        "neat_packing: true\nresume_from_checkpoint: a/checkpoint-5\n",
        &[],
    )
    .unwrap();
    assert_eq!(job.data.packing, Packing::Neat);
    assert_eq!(job.resume, Resume::From("a/checkpoint-5".into()));
    for (text, asked) in [
        ("", false),
        ("gradient_checkpointing: true", true),
        ("disable_gradient_checkpointing: false", true),
        ("disable_gradient_checkpointing: true", false),
    ] {
        assert_eq!(
            parse(text, &[]).unwrap().recomputation_asked,
            asked,
            "{text}"
        );
    }
}

#[test]
fn steps_may_be_parts_of_the_run() {
    let job = parse(
        "val_size: 1\neval_strategy: steps\neval_steps: 0.1\nsave_steps: 0.2\nlogging_steps: 2.5e-2\n\
         load_best_model_at_end: true\nsave_total_limit: 0\n",
        &[],
    )
    .unwrap();
    assert_eq!(job.logging_steps.of(41), 2);
    assert_eq!(job.evaluation.when, When::Steps(Every::Part(0.1)));
    assert_eq!(job.saving.when, When::Steps(Every::Part(0.2)));
    assert_eq!(job.saving.limit, None);
    let error = parse("save_steps: 1.5", &[]).unwrap_err().to_string();
    assert!(error.contains("`save_steps` must be"), "{error}");
    for (more, steps, part) in [
        ("warmup_steps: 7", 7, 0.0),
        ("warmup_steps: 0.5", 0, 0.5),
        ("warmup_steps: 7\nwarmup_ratio: 0.1", 0, 0.1),
        ("warmup_steps: 7\nwarmup_ratio: null", 7, 0.0),
    ] {
        let job = parse(more, &[]).unwrap();
        let right = job.warmup_steps == steps && (job.warmup_ratio - part).abs() < 1e-12;
        assert!(right, "{more}");
    }
}

#[test]
fn every_fault_of_the_keys_is_told_at_once() {
    let text = format!("{LEAST}lora_rnak: 4\ncompute_accuracy: true\ndeepspeed: null\n");
    let faults = Job::key_faults("job.yaml", &text, &[]).unwrap();
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("lora_rank")));
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("compute_accuracy"))
    );
}

#[test]
fn preferences_come_as_asked() {
    let job = parse("stage: dpo\npref_loss: simpo\nsimpo_gamma: 1.5\n", &[]).unwrap();
    assert_eq!(
        (job.data.stage, job.data.packing),
        (Stage::Pairwise, Packing::Off)
    );
    let Objective::Preference(settings) = job.objective else {
        panic!("{:?}", job.objective);
    };
    assert_eq!(settings.loss, PreferenceLoss::Simpo);
    assert!((settings.gamma - 1.5).abs() < 1e-12 && (settings.beta - 0.1).abs() < 1e-12);
    let job = parse("stage: kto\nkto_rejected_weight: 2\n", &[]).unwrap();
    assert_eq!(job.data.stage, Stage::Feedback);
    let Objective::Feedback(settings) = job.objective else {
        panic!("{:?}", job.objective);
    };
    assert!((settings.undesirable_weight - 2.0).abs() < 1e-12);
    let text = include_str!("../../../../tests/golden/configs/dpo_lora.yaml");
    let job = Job::parse("dpo_lora.yaml", text, &[]).unwrap();
    assert!(matches!(job.objective, Objective::Preference(_)));
}

#[test]
fn a_stage_that_looks_back_trains_nothing_but_its_adapter() {
    for key in ["pissa_init: true", "additional_target: embed_tokens"] {
        let (name, _) = key.split_once(':').unwrap();
        let error = parse(&format!("finetuning_type: lora\nstage: dpo\n{key}"), &[]).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        // ORPO looks at nothing but the model as it is.
        let orpo = format!("finetuning_type: lora\nstage: dpo\npref_loss: orpo\n{key}");
        assert!(parse(&orpo, &[]).is_ok(), "{key}");
    }
}

#[test]
fn what_data_cannot_be_is_told() {
    for (more, expected) in [
        (
            "streaming: true\nmax_steps: 5\nmax_samples: 3",
            "`streaming` cannot be used with `max_samples`",
        ),
        (
            "streaming: true\nmax_steps: 5\nval_size: 0.1",
            "`val_size` must be a whole number where `streaming` is on",
        ),
        ("mix_strategy: interleave_once", "LLaMA-Factory 0.9.5 fails"),
        ("mix_strategy: stir", "`concat`, `interleave_under`"),
        (
            "interleave_probs: 0.5,0.5",
            "cannot be used with `mix_strategy: concat`",
        ),
        (
            "mix_strategy: interleave_over\ninterleave_probs: 0.5,0.4",
            "which add up to one",
        ),
        (
            "mix_strategy: interleave_over\ninterleave_probs: 1.0,0",
            "numbers above zero",
        ),
        (
            "mix_strategy: interleave_over\ninterleave_probs: 0.5,0.3,0.2",
            "one number for each dataset",
        ),
        ("long_text_overlap: 1024", "below half of `cutoff_len`"),
        (
            "long_text_overlap: 8\ntrain_on_prompt: true",
            "cannot be used with `train_on_prompt`",
        ),
        (
            "stage: pt\nlong_text_overlap: 8\npacking: true",
            "cannot be used with `packing`",
        ),
        (
            "stage: dpo\nlong_text_overlap: 8",
            "cannot be used with `stage: dpo`",
        ),
        ("tool_format: glm4", "one of default, qwen, llama3, mistral"),
    ] {
        let error = parse(more, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{more}: {error}");
    }
}

#[test]
fn data_comes_as_asked() {
    let usual = parse("", &[]).unwrap().data;
    assert_eq!(
        (usual.mix, usual.overlap, usual.streaming),
        (Mix::Concat, None, None)
    );
    assert_eq!(
        (usual.tool_date.as_str(), usual.tool_format),
        ("26 Jul 2024", None)
    );
    let text = "mix_strategy: interleave_under\ninterleave_probs: 0.7, 0.3\n\
                streaming: true\nmax_steps: 9\nbuffer_size: 5\nval_size: 2\ntool_format: mistral\n";
    let job = parse(text, &[]).unwrap();
    assert_eq!(job.data.mix, Mix::Under(Some(vec![0.7, 0.3])));
    assert_eq!(job.data.streaming, Some(Streaming { buffer: 5 }));
    assert_eq!(job.evaluation.held_out, HeldOut::Count(2));
    assert_eq!(job.data.tool_format, Some(ToolFormat::Mistral));
    let text = "stage: pt\nlong_text_overlap: 100\ntokenized_path: t\noverwrite_cache: true\n";
    let data = parse(text, &[]).unwrap().data;
    // Windows keep texts apart, which plain texts otherwise are not.
    assert_eq!((data.overlap, data.packing), (Some(100), Packing::Off));
    assert_eq!(
        (data.tokenized, data.renews_cache),
        (Some("t".into()), true)
    );
    assert_eq!(
        parse("stage: pt", &[]).unwrap().data.packing,
        Packing::Plain
    );
    let each = parse("eval_dataset: a,b\neval_on_each_dataset: true", &[]).unwrap();
    assert!(each.evaluation.apart);
}
