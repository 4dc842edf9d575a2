//! A GGUF file's tokenizer as `tokenizer.json` and `tokenizer_config.json`.
//!
//! GGUF keeps tokens, merges and the *name* of the rule that splits text before merging; the rule itself is
//! knowledge of the reader. A name that is not in the table here is refused, because a wrong split gives a model
//! tokens that it was not trained on, silently.

use serde_json::{Map, Value as Json, json};

use super::{Gguf, Value};
use crate::BackendError;

const QWEN_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Token types that are matched in text as a whole.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// How text is split before merging: (normalizer, pre-tokenizer, a whole word that is a token needs no merges).
fn split_rule(name: &str) -> Option<(Json, Json, bool)> {
    let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let split = |regex: &str| {
        let first = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [first, bytes(false)]})
    };
    Some(match name {
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            let both = json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]});
            (Json::Null, both, false)
        }
        "gpt-2" | "default" => (Json::Null, bytes(true), false),
        "qwen2" => (json!({"type": "NFC"}), split(QWEN_SPLIT), false),
        "llama-bpe" => (Json::Null, split(LLAMA3_SPLIT), true),
        _ => return None,
    })
}

/// Builds the content of `tokenizer.json`.
pub(super) fn tokenizer(file: &Gguf) -> Result<Json, BackendError> {
    let refused = |key: &str| -> BackendError {
        BackendError::UnsupportedSetting {
            path: file.path().to_owned(),
            name: key.to_owned(),
            value: file.text(key).unwrap_or("none").to_owned(),
        }
    };
    if file.text("tokenizer.ggml.model")? != "gpt2" {
        return Err(refused("tokenizer.ggml.model"));
    }
    let (normalizer, splitter, whole_words) = split_rule(file.text("tokenizer.ggml.pre")?)
        .ok_or_else(|| refused("tokenizer.ggml.pre"))?;
    let tokens = file.texts("tokenizer.ggml.tokens")?;
    let merges = file.texts("tokenizer.ggml.merges")?;
    let mut vocabulary = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        if vocabulary.insert((*token).to_owned(), id.into()).is_some() {
            return Err(BackendError::malformed(
                file.path(),
                format!("the token `{token}` twice"),
                "each token once",
            ));
        }
    }
    let types = match file.setting("tokenizer.ggml.token_type") {
        Some(Value::List(types)) if types.len() == tokens.len() => types.as_slice(),
        _ => &[],
    };
    let added: Vec<Json> = tokens
        .iter()
        .zip(types)
        .enumerate()
        .filter_map(|(id, (token, kind))| match kind {
            Value::Integer(kind @ (CONTROL | USER_DEFINED)) => Some(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == CONTROL
            })),
            _ => None,
        })
        .collect();
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": splitter, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": whole_words, "vocab": vocabulary, "merges": merges
        }
    }))
}

/// Builds the content of `tokenizer_config.json`.
pub(super) fn settings(file: &Gguf, positions: i64) -> Result<Json, BackendError> {
    let tokens = file.texts("tokenizer.ggml.tokens")?;
    let mut config = json!({
        "clean_up_tokenization_spaces": false, "model_max_length": positions,
        "tokenizer_class": "PreTrainedTokenizerFast"
    });
    for (name, key) in [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
        ("pad_token", "tokenizer.ggml.padding_token_id"),
        ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ] {
        if file.setting(key).is_some() {
            let id = file.integer(key)?;
            let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
            config[name] = (*token.ok_or_else(|| {
                BackendError::malformed(
                    file.path(),
                    format!("`{key}` = {id}"),
                    format!("one of {} tokens", tokens.len()),
                )
            })?)
            .into();
        }
    }
    if config["pad_token"].is_null() {
        config["pad_token"] = config["eos_token"].clone();
    }
    if file.setting("tokenizer.chat_template").is_some() {
        config["chat_template"] = file.text("tokenizer.chat_template")?.into();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_rule_that_is_not_known_is_not_guessed() {
        for (name, known) in [("smollm", true), ("qwen2", true), ("deepseek-v9", false)] {
            assert_eq!(split_rule(name).is_some(), known, "{name}");
        }
    }
}
