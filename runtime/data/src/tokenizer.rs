//! Text to token ids and back.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::source::small;
use crate::template::Template;

/// A model's tokenizer with its end, begin and padding tokens.
///
/// Text is encoded as it stands: no token is added before or after it, but special tokens written
/// in it become themselves, as in the original.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    origin: String,
    end: Special,
    begin: Option<Special>,
    /// None: the end token.
    padding: Option<u32>,
    adds_begin: bool,
    digest: [u8; 32],
    /// Special tokens beside the usual ones, by text.
    extra: Vec<String>,
    tidies: bool,
}

/// A token with its text.
#[derive(Clone, Debug)]
struct Special {
    id: u32,
    text: String,
}

/// What this program reads of `tokenizer_config.json`.
#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "eos_token")]
    end: Option<TokenName>,
    #[serde(default, rename = "bos_token")]
    begin: Option<TokenName>,
    #[serde(default, rename = "pad_token")]
    padding: Option<TokenName>,
    #[serde(default, rename = "add_bos_token")]
    adds_begin: Option<bool>,
    #[serde(default, rename = "additional_special_tokens")]
    additional: Value,
    #[serde(default, rename = "extra_special_tokens")]
    extra: Value,
    #[serde(default, rename = "clean_up_tokenization_spaces")]
    tidies: Option<bool>,
}

impl Config {
    /// Special tokens beside the usual ones. Where they are named one by one they are no list, and count for nothing here.
    fn extra(&self) -> Vec<String> {
        let listed = self.extra.as_array().or(self.additional.as_array());
        let texts = listed.into_iter().flatten().filter_map(|token| {
            let text = token.as_str().or_else(|| token["content"].as_str());
            text.map(str::to_owned)
        });
        texts.collect()
    }
}

/// A token's text, alone or with flags beside it.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenName {
    Text(String),
    Flagged { content: String },
}

impl TokenName {
    fn text(self) -> String {
        match self {
            Self::Text(content) | Self::Flagged { content } => content,
        }
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` and `tokenizer_config.json` of a model folder.
    pub fn from_folder(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join("tokenizer.json");
        let bytes = small(&path, LARGEST)?;
        let origin = path.display().to_string();
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|source| DataError::Tokenizer {
                origin: origin.clone(),
                source,
            })?;
        // Lengths are the business of `cutoff_len`, never of a setting left in the file.
        inner.with_padding(None);
        let cut = inner.with_truncation(None).map(|_| ());
        cut.map_err(|source| DataError::Tokenizer {
            origin: origin.clone(),
            source,
        })?;
        let path = folder.join("tokenizer_config.json");
        let config = small(&path, LARGEST)?;
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(&bytes));
        digest.update(&config);
        let config: Config = serde_json::from_slice(&config).map_err(|source| DataError::Json {
            line: source.line(),
            column: source.column(),
            path,
            source,
        })?;
        let extra = config.extra();
        // LLaMA-Factory's choice where a tokenizer names no end token.
        let end = config
            .end
            .map_or_else(|| "<|endoftext|>".to_owned(), TokenName::text);
        let padding = config.padding.map(TokenName::text);
        let begin = config.begin.map(TokenName::text);
        let made = Self::assemble(inner, origin, &end, padding.as_deref(), begin.as_deref())?;
        Ok(Self {
            adds_begin: config.adds_begin.unwrap_or(false),
            digest: digest.finalize().into(),
            tidies: config.tidies.unwrap_or(false),
            extra,
            ..made
        })
    }

    fn assemble(
        inner: tokenizers::Tokenizer,
        origin: String,
        end: &str,
        padding: Option<&str>,
        begin: Option<&str>,
    ) -> Result<Self, DataError> {
        let find = |token: &str, role| {
            let id = inner.token_to_id(token);
            let id = id.ok_or_else(|| DataError::TokenMissing {
                origin: origin.clone(),
                token: token.to_owned(),
                role,
            })?;
            Ok(Special {
                id,
                text: token.to_owned(),
            })
        };
        let end = find(end, "end-of-text")?;
        let padding = padding.map(|token| find(token, "padding")).transpose()?;
        let padding = padding.map(|token| token.id);
        let begin = begin.map(|token| find(token, "begin")).transpose()?;
        Ok(Self {
            inner,
            origin,
            end,
            begin,
            padding,
            adds_begin: false,
            digest: [0; 32],
            extra: Vec::new(),
            tidies: false,
        })
    }

    /// Takes the template's first stop word as end token where the template says so.
    pub fn adapt_to(&mut self, template: &Template) -> Result<(), DataError> {
        if let (true, Some(word)) = (template.replaces_end, template.stop_words.first()) {
            let id = self.id_of(word);
            let id = id.ok_or_else(|| DataError::TokenMissing {
                origin: self.origin.clone(),
                token: (*word).to_owned(),
                role: "end-of-text",
            })?;
            self.end = Special {
                id,
                text: (*word).to_owned(),
            };
        }
        Ok(())
    }

    /// A digest of all that it was made of.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Returns the ids of `text`, nothing added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|source| DataError::Tokenizer {
            origin: self.origin.clone(),
            source,
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns the ids of `text` with what the tokenizer's own rules put around one, such as the begin token.
    pub(crate) fn encode_alone(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.inner.encode_fast(text, true);
        let encoding = encoding.map_err(|source| DataError::Tokenizer {
            origin: self.origin.clone(),
            source,
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns the text of `ids`, with or without its special tokens.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, DataError> {
        let text = self.inner.decode(ids, skip_special);
        text.map_err(|source| DataError::Tokenizer {
            origin: self.origin.clone(),
            source,
        })
    }

    /// The text of `ids` as the original writes it beside a prediction: where the tokenizer's settings say so, without the
    /// blanks before some signs.
    pub fn decode_tidily(&self, ids: &[u32], skip_special: bool) -> Result<String, DataError> {
        let mut text = self.decode(ids, skip_special)?;
        if self.tidies {
            for (loose, tight) in LOOSE {
                text = text.replace(loose, tight);
            }
        }
        Ok(text)
    }

    /// Tokens at which a prediction ends: the end token, and every special token beside the usual ones. A template's stop
    /// words take the place of the latter, as they do in the original.
    pub fn prediction_ends(&self, template: &Template) -> Vec<u32> {
        let words = template.stop_words.iter();
        let words = words.skip(usize::from(template.replaces_end));
        let mut words: Vec<&str> = words.copied().collect();
        if words.is_empty() {
            words.extend(self.extra.iter().map(String::as_str));
        }
        let mut ends: Vec<u32> = words
            .into_iter()
            .filter_map(|word| self.id_of(word))
            .collect();
        ends.push(self.end_id());
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// Returns the id of one token.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that ends an answer.
    pub fn end_id(&self) -> u32 {
        self.end.id
    }

    /// The text of the token that ends an answer.
    pub fn end_token(&self) -> &str {
        &self.end.text
    }

    /// The token that opens a text, where the model has one.
    pub fn begin_id(&self) -> Option<u32> {
        self.begin.as_ref().map(|token| token.id)
    }

    /// The text of the token that opens a text, where the model has one.
    pub fn begin_token(&self) -> Option<&str> {
        self.begin.as_ref().map(|token| token.text.as_str())
    }

    /// Whether plain texts begin with the begin token (`add_bos_token`).
    pub fn adds_begin(&self) -> bool {
        self.adds_begin
    }

    /// What the tokenizer's own rules put before any text, such as the begin token.
    pub(crate) fn lead(&self) -> Result<String, DataError> {
        let fault = |source| DataError::Tokenizer {
            origin: self.origin.clone(),
            source,
        };
        let encoding = self.inner.encode("", true).map_err(fault)?;
        self.decode(encoding.get_ids(), false)
    }

    /// The token that fills up short rows; where none is named, the end token, also one that a template put in its place.
    pub fn padding_id(&self) -> u32 {
        self.padding.unwrap_or(self.end.id)
    }
}

/// Bytes of a tokenizer's file, of which real ones have up to forty million.
const LARGEST: u64 = 512 << 20;

/// What transformers' `clean_up_tokenization` replaces, in its order.
const LOOSE: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::golden_tokenizer;

    #[test]
    fn ids_and_texts_agree_with_the_originals() {
        let text = include_str!("../../../tests/golden/vectors/tokenizer.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        let tokenizer = golden_tokenizer();
        assert!(cases.len() > 2);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text}");
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), case["decoded"]);
        }
    }

    #[test]
    fn predictions_end_and_read_as_the_settings_say() {
        let folder = tempfile::tempdir().unwrap();
        let model = crate::testing::golden().join("model");
        fs::copy(
            model.join("tokenizer.json"),
            folder.path().join("tokenizer.json"),
        )
        .unwrap();
        let read = |more: &str| {
            let settings = format!(r#"{{"eos_token": "<|im_end|>"{more}}}"#);
            fs::write(folder.path().join("tokenizer_config.json"), settings).unwrap();
            Tokenizer::from_folder(folder.path()).unwrap()
        };
        let plain = read("");
        let id = |word: &str| plain.id_of(word).unwrap();
        let (end, start, text) = (id("<|im_end|>"), id("<|im_start|>"), id("<|endoftext|>"));
        let list = r#", "additional_special_tokens": ["<|im_start|>", {"content": "<|endoftext|>"}, "<none>"]"#;
        let named = r#", "extra_special_tokens": {"image_token": "<|im_start|>"}"#;
        for (more, template, wanted) in [
            ("", "qwen", vec![end]),
            (list, "qwen", vec![text, start, end]),
            (named, "qwen", vec![end]),
            (list, "chatml", vec![start, end]),
            (list, "yi", vec![end]),
        ] {
            let mut wanted = wanted;
            wanted.sort_unstable();
            let ends = read(more).prediction_ends(Template::named(template).unwrap());
            assert_eq!(ends, wanted, "{more} {template}");
        }
        let ids = plain.encode("it 's so .").unwrap();
        assert_eq!(plain.decode_tidily(&ids, true).unwrap(), "it 's so .");
        let tidy = read(r#", "clean_up_tokenization_spaces": true"#);
        assert_eq!(tidy.decode_tidily(&ids, true).unwrap(), "it's so.");
    }

    #[test]
    fn what_fills_up_is_the_end_token_that_the_template_puts() {
        let folder = tempfile::tempdir().unwrap();
        let model = crate::testing::golden().join("model");
        let name = "tokenizer.json";
        fs::copy(model.join(name), folder.path().join(name)).unwrap();
        for (settings, wanted) in [
            (r#"{"eos_token": "<|endoftext|>"}"#, "<|im_end|>"),
            (
                r#"{"eos_token": "<|endoftext|>", "pad_token": "<|im_start|>"}"#,
                "<|im_start|>",
            ),
        ] {
            fs::write(folder.path().join("tokenizer_config.json"), settings).unwrap();
            let mut tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
            tokenizer
                .adapt_to(Template::named("chatml").unwrap())
                .unwrap();
            assert_eq!(Some(tokenizer.padding_id()), tokenizer.id_of(wanted));
        }
    }

    #[test]
    fn a_folder_without_a_tokenizer_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Tokenizer::from_folder(folder.path()).err().unwrap();
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
        fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        let error = Tokenizer::from_folder(folder.path()).err().unwrap();
        assert!(matches!(error, DataError::Tokenizer { .. }), "{error}");
    }
}
