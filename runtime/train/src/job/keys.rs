//! Which keys of LLaMA-Factory a job may use.

use super::tuning;

/// Keys that [`super::parse`] reads; those of [`super::tuning`] are listed there.
pub(super) const SUPPORTED: [&str; 39] = [
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "cutoff_len",
    "data_seed",
    "dataset",
    "dataset_dir",
    "default_system",
    "disable_gradient_checkpointing",
    "disable_shuffling",
    "do_train",
    "gradient_accumulation_steps",
    "include_num_input_tokens_seen",
    "learning_rate",
    "logging_steps",
    "lr_scheduler_type",
    "mask_history",
    "max_grad_norm",
    "max_samples",
    "max_steps",
    "model_name_or_path",
    "num_train_epochs",
    "optim",
    "output_dir",
    "overwrite_output_dir",
    "per_device_train_batch_size",
    "plot_loss",
    "report_to",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "seed",
    "stage",
    "template",
    "train_on_prompt",
    "use_cpu",
    "warmup_ratio",
    "warmup_steps",
    "weight_decay",
];

/// Keys about how the original's Python works: nothing here depends on them.
pub(super) const WITHOUT_EFFECT: [&str; 19] = [
    "cache_dir",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "ddp_timeout",
    "double_quantization",
    "flash_attn",
    "include_effective_tokens_per_second",
    "logging_first_step",
    "low_cpu_mem_usage",
    "overwrite_cache",
    "per_device_eval_batch_size",
    "preprocessing_batch_size",
    "preprocessing_num_workers",
    "remove_unused_columns",
    "save_only_model",
    "save_safetensors",
    "trust_remote_code",
    "use_fast_tokenizer",
    "logging_dir",
];

/// Keys that change what is computed, that this program refuses unless they are off, and why.
pub(super) const REFUSED: [(&str, &str); 58] = [
    ("additional_target", "only LoRA matrices are trained"),
    ("buffer_size", STREAMING),
    ("create_new_adapter", "one adapter is trained at a time"),
    ("deepspeed", DEVICES),
    ("do_eval", EVALUATION),
    ("do_predict", EVALUATION),
    ("dpo_label_smoothing", STAGE),
    ("early_stopping_steps", EVALUATION),
    ("enable_liger_kernel", "it needs Python kernels"),
    ("enable_thinking", "reasoning templates are not there yet"),
    ("eval_dataset", EVALUATION),
    ("eval_steps", EVALUATION),
    ("eval_strategy", EVALUATION),
    ("export_dir", "merging is done by the export command"),
    ("fp8", "only fp32, bf16 and fp16 are there"),
    ("freeze_extra_modules", FREEZE),
    ("freeze_trainable_layers", FREEZE),
    ("freeze_trainable_modules", FREEZE),
    ("fsdp", DEVICES),
    ("group_by_length", "examples are not sorted by length"),
    ("image_max_pixels", "only text models are trained"),
    ("interleave_probs", "datasets follow one another"),
    ("kto_chosen_weight", STAGE),
    ("kto_rejected_weight", STAGE),
    ("label_smoothing_factor", "the loss is plain cross-entropy"),
    ("loraplus_lr_ratio", LORA),
    (
        "mixture_of_depths",
        "the model's layers are used as they are",
    ),
    ("mix_strategy", "datasets follow one another (`concat`)"),
    ("neat_packing", PACKING),
    ("neftune_noise_alpha", "no noise is added to embeddings"),
    ("new_special_tokens_config", VOCABULARY),
    ("packing", PACKING),
    ("pissa_init", LORA),
    ("pref_beta", STAGE),
    ("pref_ftx", STAGE),
    ("pref_loss", STAGE),
    ("pure_bf16", "only mixed bf16 is there (`bf16: true`)"),
    ("quantization_bit", "quantised training is not there yet"),
    ("ray_num_workers", DEVICES),
    ("ref_model", STAGE),
    ("resize_vocab", VOCABULARY),
    ("resume_from_checkpoint", "resuming is not there yet"),
    ("reward_model", STAGE),
    ("rope_scaling", "positions are used as the model has them"),
    ("shift_attn", "attention is used as the model has it"),
    ("simpo_gamma", STAGE),
    ("streaming", STREAMING),
    ("tokenized_path", "datasets are tokenized at each start"),
    ("train_from_scratch", "a model's weights are always loaded"),
    ("use_adam_mini", OPTIMIZER),
    ("use_apollo", OPTIMIZER),
    ("use_badam", OPTIMIZER),
    ("use_dora", LORA),
    ("use_galore", OPTIMIZER),
    ("use_llama_pro", FREEZE),
    ("use_rslora", LORA),
    ("use_unsloth", "it needs Python kernels"),
    ("val_size", EVALUATION),
];

const DEVICES: &str = "one device is used";
const EVALUATION: &str = "evaluation during training is not there yet";
const FREEZE: &str = "only `lora` and `full` are there";
const LORA: &str = "only plain LoRA is there";
const OPTIMIZER: &str = "only AdamW is there";
const PACKING: &str = "each example is a row of its own";
const STAGE: &str = "only supervised fine-tuning (`stage: sft`) is there";
const STREAMING: &str = "datasets are read whole";
const VOCABULARY: &str = "the vocabulary stays as it is";

/// Returns the known key that is most like `key`.
pub(super) fn nearest(key: &str) -> &'static str {
    let refused = REFUSED.iter().map(|(key, _)| *key);
    let known = SUPPORTED.into_iter().chain(tuning::KEYS);
    let known = known.chain(WITHOUT_EFFECT).chain(refused);
    known
        .min_by_key(|candidate| distance(key, candidate))
        .unwrap_or(SUPPORTED[0])
}

/// Edits between two words (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(KEY_LIMIT).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// Characters of a foreign key that are compared.
const KEY_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_key() {
        for (typed, meant) in [
            ("lora_rnak", "lora_rank"),
            ("learning_rates", "learning_rate"),
            ("cutof_len", "cutoff_len"),
        ] {
            assert_eq!(nearest(typed), meant);
        }
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
    }
}
