//! A GGUF file's tokenizer as `tokenizer.json` and `tokenizer_config.json`.
//!
//! GGUF keeps tokens, merges and the *name* of the rule that splits text before merging; the rule itself is
//! knowledge of the reader. A name that is not in the table here is refused, because a wrong split gives a model
//! tokens that it was not trained on, silently. Vocabularies with scores instead of merges are those of [`pieces`].

use serde_json::{Map, Value as Json, json};

use super::{Gguf, Value, pieces};
use crate::BackendError;

const QWEN_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Types of tokens. The last two are matched in text as a whole.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// What kind each token is.
pub(super) struct Kinds(Vec<i64>);

impl Kinds {
    /// The kinds that a file names; where it names none, all `count` tokens are normal ones.
    pub(super) fn of(file: &Gguf, count: usize) -> Self {
        let kinds = match file.setting("tokenizer.ggml.token_type") {
            Some(Value::List(kinds)) if kinds.len() == count => kinds.as_slice(),
            _ => &[],
        };
        let kinds = kinds.iter().map(|kind| match kind {
            Value::Integer(kind) => *kind,
            _ => NORMAL,
        });
        Self(kinds.collect())
    }

    /// Whether a token is a piece of text like others.
    pub(super) fn is_normal(&self, id: usize) -> bool {
        self.0.get(id).is_none_or(|kind| *kind == NORMAL)
    }

    /// The same, with the first three for what is unknown, begin and end where the file names no kinds.
    pub(super) fn or_usual(mut self) -> Self {
        if self.0.is_empty() {
            self.0.extend([UNKNOWN, CONTROL, CONTROL]);
        }
        self
    }

    /// The token for what no other token has.
    pub(super) fn unknown(&self) -> Option<usize> {
        self.0.iter().position(|kind| *kind == UNKNOWN)
    }

    /// Tokens that are matched in text as a whole, as `tokenizer.json` lists them.
    pub(super) fn added(&self, tokens: &[&str]) -> Vec<Json> {
        let pairs = tokens.iter().zip(&self.0).enumerate();
        let added = pairs.filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED));
        let entry = |(id, (token, kind)): (usize, (&&str, &i64))| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == CONTROL
            })
        };
        added.map(entry).collect()
    }
}

/// Every token with its id.
pub(super) fn vocabulary(file: &Gguf, tokens: &[&str]) -> Result<Map<String, Json>, BackendError> {
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
    Ok(vocabulary)
}

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
    match file.text("tokenizer.ggml.model")? {
        "gpt2" => {}
        PIECES => return pieces::tokenizer(file, named(file, "bos_token")?),
        _ => return Err(refused("tokenizer.ggml.model")),
    }
    let (normalizer, splitter, whole_words) = split_rule(file.text("tokenizer.ggml.pre")?)
        .ok_or_else(|| refused("tokenizer.ggml.pre"))?;
    let tokens = file.texts("tokenizer.ggml.tokens")?;
    let merges = file.texts("tokenizer.ggml.merges")?;
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": Kinds::of(file, tokens.len()).added(&tokens),
        "normalizer": normalizer, "pre_tokenizer": splitter, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": whole_words, "vocab": vocabulary(file, &tokens)?, "merges": merges
        }
    }))
}

/// The name of vocabularies with scores.
const PIECES: &str = "llama";

/// Tokens that a file may name, and by which setting.
const NAMED: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
];

/// The token with this name in `tokenizer_config.json`, and its id.
fn named<'f>(file: &'f Gguf, name: &str) -> Result<Option<(&'f str, i64)>, BackendError> {
    let known = NAMED.iter().find(|(known, _)| *known == name);
    let key = known.map_or("", |(_, key)| key);
    let usual = pieces::USUAL_IDS.iter().find(|(usual, _)| *usual == name);
    let id = match (file.setting(key), usual) {
        (Some(_), _) => file.integer(key)?,
        (None, Some((_, id))) if file.text("tokenizer.ggml.model")? == PIECES => *id,
        (None, _) => return Ok(None),
    };
    let tokens = file.texts("tokenizer.ggml.tokens")?;
    let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
    let token = token.ok_or_else(|| {
        BackendError::malformed(
            file.path(),
            format!("`{key}` = {id}"),
            format!("one of {} tokens", tokens.len()),
        )
    })?;
    Ok(Some((*token, id)))
}

/// Builds the content of `tokenizer_config.json`.
pub(super) fn settings(file: &Gguf, positions: i64) -> Result<Json, BackendError> {
    let mut config = json!({
        "clean_up_tokenization_spaces": false, "model_max_length": positions,
        "tokenizer_class": "PreTrainedTokenizerFast"
    });
    for (name, _) in NAMED {
        if let Some((token, _)) = named(file, name)? {
            config[name] = token.into();
        }
    }
    if config["pad_token"].is_null() {
        config["pad_token"] = config["eos_token"].clone();
    }
    if file.text("tokenizer.ggml.model")? == PIECES {
        config["add_bos_token"] = pieces::adds_begin(file).into();
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
