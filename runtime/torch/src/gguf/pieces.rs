//! `SentencePiece` vocabularies (`tokenizer.ggml.model` = `llama`): pieces with scores, and bytes for what no piece has.
//!
//! Of two neighbours that are a piece together, those with the highest score are joined first. A `tokenizer.json` keeps such
//! an order as a list of merges, which is made here as transformers makes it of the model's own `tokenizer.model`.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::tokenizer::{Kinds, vocabulary};
use super::{Gguf, Value};
use crate::BackendError;

/// What stands for a blank in a piece.
const BLANK: &str = "▁";

/// Bytes of the longest piece: every part of a piece is looked up, so their number grows with its square.
const LONGEST: usize = 256;

/// Ids of begin, end and unknown token where a file names none, as llama.cpp has them.
pub(super) const USUAL_IDS: [(&str, i64); 3] =
    [("bos_token", 1), ("eos_token", 2), ("unk_token", 0)];

/// Whether texts begin with the begin token: yes unless the file says otherwise.
pub(super) fn adds_begin(file: &Gguf) -> bool {
    !matches!(
        file.setting("tokenizer.ggml.add_bos_token"),
        Some(Value::Truth(false))
    )
}

/// Builds the content of `tokenizer.json`; `begin` is the begin token.
pub(super) fn tokenizer(file: &Gguf, begin: Option<(&str, i64)>) -> Result<Json, BackendError> {
    let tokens = file.texts("tokenizer.ggml.tokens")?;
    let kinds = Kinds::of(file, tokens.len()).or_usual();
    let merges = merges(file, &tokens, &kinds)?;
    let unknown = kinds.unknown().and_then(|id| tokens.get(id).copied());
    let leads = !matches!(
        file.setting("tokenizer.ggml.add_space_prefix"),
        Some(Value::Truth(false))
    );
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let mut normalizers = vec![replace(" ", BLANK)];
    let mut decoders = vec![
        replace(BLANK, " "),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if leads {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": BLANK}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": kinds.added(&tokens),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": begin.filter(|_| adds_begin(file)).map(opening),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary(file, &tokens)?, "merges": merges
        }
    }))
}

/// The rule that puts the begin token before a text.
fn opening((begin, id): (&str, i64)) -> Json {
    let token = json!({"SpecialToken": {"id": begin, "type_id": 0}});
    let text = |id: &str, kind: u8| json!({"Sequence": {"id": id, "type_id": kind}});
    let second = json!({"SpecialToken": {"id": begin, "type_id": 1}});
    let mut named = Map::new();
    named.insert(
        begin.to_owned(),
        json!({"id": begin, "ids": [id], "tokens": [begin]}),
    );
    json!({
        "type": "TemplateProcessing", "single": [token, text("A", 0)],
        "pair": [token, text("A", 0), second, text("B", 1)], "special_tokens": named
    })
}

/// Every way to join two pieces into one, the likeliest first.
fn merges(file: &Gguf, tokens: &[&str], kinds: &Kinds) -> Result<Vec<[String; 2]>, BackendError> {
    let scores = scores(file, tokens.len())?;
    let ids: HashMap<&str, usize> = tokens.iter().copied().zip(0..).collect();
    let mut joins = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if !kinds.is_normal(id) {
            continue;
        }
        if token.len() > LONGEST {
            return Err(BackendError::malformed(
                file.path(),
                format!("the token {id} of {} bytes", token.len()),
                format!("tokens of at most {LONGEST} bytes"),
            ));
        }
        let parts = token.char_indices().skip(1).enumerate();
        let mut ways: Vec<_> = parts
            .filter_map(|(before, (at, _))| {
                let (left, right) = token.split_at(at);
                let both = (ids.get(left).copied()?, ids.get(right).copied()?);
                Some((both, before + 1))
            })
            .collect();
        ways.sort_unstable();
        let length = token.chars().count();
        joins.extend(
            ways.into_iter()
                .map(|(both, left)| (scores[id], left, length - left, both)),
        );
    }
    // Of equal scores the longest left part first, then the longest right one; else as they were found.
    joins.sort_by(|a, b| {
        let by_score = b.0.total_cmp(&a.0);
        by_score.then(Reverse((a.1, a.2)).cmp(&Reverse((b.1, b.2))))
    });
    let pair = |(_, _, _, (left, right)): (f64, usize, usize, (usize, usize))| {
        [tokens[left].to_owned(), tokens[right].to_owned()]
    };
    Ok(joins.into_iter().map(pair).collect())
}

fn scores(file: &Gguf, count: usize) -> Result<Vec<f64>, BackendError> {
    const KEY: &str = "tokenizer.ggml.scores";
    let expected = format!("`{KEY}`: {count} numbers, one a token");
    let Some(Value::List(list)) = file.setting(KEY) else {
        return Err(BackendError::malformed(
            file.path(),
            format!("no list `{KEY}`"),
            expected,
        ));
    };
    let numbers = list.iter().map(|score| match score {
        Value::Number(score) if !score.is_nan() => Some(*score),
        _ => None,
    });
    let numbers: Option<Vec<f64>> = numbers.collect();
    let numbers = numbers.filter(|numbers| numbers.len() == count);
    numbers.ok_or_else(|| {
        let found = format!("`{KEY}`: {} values", list.len());
        BackendError::malformed(file.path(), found, expected)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use train_data::{TextStream, Tokenizer};

    use super::super::tests::{file, setting, string, texts};
    use super::super::tokenizer;
    use super::*;

    /// A vocabulary that `sentencepiece` learnt, and what it and transformers' converter make of texts; see
    /// `tests/golden/make/words.py`.
    const VECTORS: &str = include_str!("../../../../tests/golden/vectors/pieces.json");

    fn vectors() -> Json {
        serde_json::from_str(VECTORS).unwrap()
    }

    fn list(kind: u32, values: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.concat());
        bytes
    }

    fn settings(vectors: &Json, more: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let all = |name: &str| vectors[name].as_array().unwrap().clone();
        let tokens = all("pieces");
        let tokens: Vec<&str> = tokens.iter().map(|t| t.as_str().unwrap()).collect();
        let scores = all("scores")
            .into_iter()
            .map(|s| s.as_f64().unwrap() as f32);
        let scores: Vec<_> = scores.map(f32::to_le_bytes).collect();
        let types = all("types").into_iter().map(|t| t.as_i64().unwrap() as i32);
        let types: Vec<_> = types.map(i32::to_le_bytes).collect();
        let mut settings = vec![
            setting("tokenizer.ggml.model", 8, &string("llama")),
            setting("tokenizer.ggml.tokens", 9, &texts(&tokens)),
            setting("tokenizer.ggml.scores", 9, &list(6, &scores)),
            setting("tokenizer.ggml.token_type", 9, &list(5, &types)),
        ];
        settings.extend_from_slice(more);
        settings
    }

    /// The tokenizer that a file with these settings brings.
    fn made(settings: &[Vec<u8>], folder: &Path) -> Result<Tokenizer, BackendError> {
        let path = folder.join("m.gguf");
        fs::write(&path, file(settings, &[])).unwrap();
        let file = Gguf::open(&path)?;
        for (name, content) in [
            ("tokenizer.json", tokenizer::tokenizer(&file)?),
            ("tokenizer_config.json", tokenizer::settings(&file, 64)?),
        ] {
            fs::write(folder.join(name), content.to_string()).unwrap();
        }
        Ok(Tokenizer::from_folder(folder).unwrap())
    }

    #[test]
    fn texts_become_the_ids_of_sentencepiece_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let vectors = vectors();
        let tokenizer = made(&settings(&vectors, &[]), folder.path()).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
            assert_eq!(
                tokenizer.decode(&ids, true).unwrap(),
                case["decoded"],
                "{text:?}"
            );
            let mut stream = TextStream::new(&tokenizer);
            let pieces = ids.iter().map(|id| stream.push(*id).unwrap());
            let mut whole: String = pieces.collect();
            whole.push_str(&stream.finish().unwrap());
            assert_eq!(whole, case["decoded"].as_str().unwrap());
        }
        // Tokens that mark something stay whole in a text, as transformers has it.
        for case in vectors["marked"].as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        }
        assert_eq!(tokenizer.begin_token(), Some("<s>"));
        assert_eq!(tokenizer.end_token(), "</s>");
        assert!(tokenizer.adds_begin());
    }

    #[test]
    fn a_file_may_ask_for_no_blank_and_no_begin() {
        let folder = tempfile::tempdir().unwrap();
        let vectors = vectors();
        let more = [
            setting("tokenizer.ggml.add_space_prefix", 7, &[0]),
            setting("tokenizer.ggml.add_bos_token", 7, &[0]),
        ];
        let tokenizer = made(&settings(&vectors, &more), folder.path()).unwrap();
        let usual = made(&settings(&vectors, &[]), folder.path()).unwrap();
        assert!(!tokenizer.adds_begin());
        assert_eq!(
            tokenizer.encode(" the").unwrap(),
            usual.encode("the").unwrap()
        );
        assert_eq!(
            tokenizer
                .decode(&tokenizer.encode(" a b").unwrap(), true)
                .unwrap(),
            " a b"
        );
    }

    #[test]
    fn scores_that_are_none_and_pieces_without_end_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = ["<unk>", "<s>", "</s>", "a"];
        let kept = |scores: &[f32], last: &str| {
            let mut tokens = tokens.to_vec();
            tokens[3] = last;
            let scores: Vec<_> = scores.iter().map(|score| score.to_le_bytes()).collect();
            let settings = [
                setting("tokenizer.ggml.model", 8, &string("llama")),
                setting("tokenizer.ggml.tokens", 9, &texts(&tokens)),
                setting("tokenizer.ggml.scores", 9, &list(6, &scores)),
            ];
            made(&settings, folder.path()).map(|_| ())
        };
        kept(&[0.0; 4], "a").unwrap();
        let long = "a".repeat(LONGEST + 1);
        for (scores, last) in [
            (&[0.0; 3][..], "a"),
            (&[0.0, 0.0, 0.0, f32::NAN], "a"),
            (&[0.0; 4], long.as_str()),
            (&[0.0; 4], "<s>"),
        ] {
            let error = kept(scores, last).unwrap_err();
            assert_eq!(report::Diagnose::code(&error), "torch.malformed", "{error}");
        }
    }
}
