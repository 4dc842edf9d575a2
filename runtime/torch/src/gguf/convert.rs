//! A GGUF file turned into a model folder, once, and kept.
//!
//! ```text
//! <cache>/converted/<SHA-256 of the GGUF file>/
//!     model.safetensors  config.json  tokenizer.json  tokenizer_config.json
//!     origin.json        source digest, converter, version, digests of the four
//! ```
//!
//! The folder is written beside its place, flushed and renamed. [`crate::cache`] says when one is used again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use report::{Event, Sink, Step};

use super::layout::{self, Piece};
use super::{Gguf, tokenizer};
use crate::ModelConfig;
use crate::cache::{Cache, FileOrigin, ORIGIN, Origin, Standing, digest};
use crate::{BackendError, output, stream};

/// Raised when the same file would convert to other bytes.
const CONVERTER_VERSION: u32 = 2;

const WEIGHTS: &str = "model.safetensors";

/// What a conversion holds, sorted.
const FILES: [&str; 4] = [
    "config.json",
    WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Returns the folder made from `path`, making it first if the cache has none that is whole.
pub(crate) fn convert(path: &Path, cache: &Path, sink: &dyn Sink) -> Result<PathBuf, BackendError> {
    let cache = Cache(cache);
    let (source, size) = cache.source(path)?;
    let folder = cache.folder(&source);
    match cache.standing(&source, CONVERTER_VERSION, &FILES) {
        Standing::Whole => return Ok(folder),
        Standing::Absent => {}
        Standing::Damaged(name) => sink.emit(&Event::Warned {
            code: "torch.cache-damaged".to_owned(),
            args: vec![("path".to_owned(), folder.join(name).display().to_string())],
        }),
    }
    let step = Step::start(
        sink,
        "step.convert-gguf",
        path.display().to_string(),
        Some(size),
        "bytes",
    );
    let home = folder.parent().unwrap_or(&folder);
    fs::create_dir_all(home).map_err(BackendError::writing(home))?;
    output::sweep(&folder);
    let fresh = output::beside(&folder);
    remove(&fresh)?;
    fs::create_dir(&fresh).map_err(BackendError::writing(&fresh))?;
    let made = fill(path, &source, &fresh, &step).and_then(|()| {
        // Another process may have been faster: its folder is as good.
        if cache.standing(&source, CONVERTER_VERSION, &FILES) == Standing::Whole {
            return remove(&fresh);
        }
        place(&fresh, &folder)
    });
    if made.is_err() {
        // Best effort: the first error is the one to tell.
        let _ = fs::remove_dir_all(&fresh);
    }
    made?;
    step.finish();
    Ok(folder)
}

/// Moves the finished folder in place and makes the move last.
fn place(fresh: &Path, folder: &Path) -> Result<(), BackendError> {
    remove(folder)?;
    fs::rename(fresh, folder).map_err(BackendError::writing(folder))?;
    let home = folder.parent().unwrap_or(folder);
    File::open(home)
        .and_then(|home| home.sync_all())
        .map_err(BackendError::writing(home))
}

fn remove(folder: &Path) -> Result<(), BackendError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(BackendError::writing(folder)(e)),
        _ => Ok(()),
    }
}

fn fill(path: &Path, source: &str, folder: &Path, step: &Step<'_>) -> Result<(), BackendError> {
    let file = Gguf::open(path)?;
    let config = layout::config(&file)?;
    // Its counts decide how much is read: they are checked as those of a folder are.
    ModelConfig::from_json(path, &config)?;
    output::json(&folder.join("config.json"), &config)?;
    output::json(
        &folder.join("tokenizer.json"),
        &tokenizer::tokenizer(&file)?,
    )?;
    let positions = config["max_position_embeddings"].as_i64().unwrap_or(2048);
    let settings = tokenizer::settings(&file, positions)?;
    output::json(&folder.join("tokenizer_config.json"), &settings)?;
    let pieces = layout::pieces(&file, &config)?;
    let weights = weights(&file, &pieces, &folder.join(WEIGHTS), step)?;
    let mut made = BTreeMap::from([(WEIGHTS.to_owned(), weights)]);
    for name in FILES.into_iter().filter(|name| *name != WEIGHTS) {
        let (digest, size) = digest(&folder.join(name))?;
        made.insert(name.to_owned(), FileOrigin { digest, size });
    }
    let origin = Origin {
        format: 1,
        source: source.to_owned(),
        converter: "ferry-runtime gguf".to_owned(),
        version: CONVERTER_VERSION,
        files: made,
    };
    let origin = serde_json::to_value(&origin).expect("strings and numbers always become JSON");
    output::json(&folder.join(ORIGIN), &origin)?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(BackendError::writing(folder))
}

/// Widens the pieces one after the other into a safetensors file, which is hashed and written meanwhile.
fn weights(
    file: &Gguf,
    pieces: &[Piece],
    path: &Path,
    step: &Step<'_>,
) -> Result<FileOrigin, BackendError> {
    let shapes = pieces
        .iter()
        .map(|piece| Ok((piece.to.as_str(), piece.shape(file)?)))
        .collect::<Result<Vec<_>, BackendError>>()?;
    let mut done = 0;
    stream::write(
        path,
        &shapes,
        pieces.iter().map(|piece| {
            let mut values = match piece.part {
                None => file.read(&piece.from)?,
                Some(part) => file.read_part(&piece.from, part)?,
            };
            if let Some(heads) = piece.heads {
                values = layout::in_halves(
                    &values,
                    file.shape(&piece.from)?,
                    heads,
                    file.path(),
                    &piece.from,
                )?;
            }
            done += piece.stored_bytes(file);
            step.progress(done);
            Ok(values)
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap as Map;

    use report::{Recorder, Silent};
    use tch::Tensor;

    use crate::gguf::tests::{Stored, file, setting, string, texts, tiny_llama};
    use crate::{Pass, open};

    #[test]
    fn a_damaged_conversion_is_made_anew_with_a_warning() {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("m.gguf");
        let cache = home.path().join("cache");
        fs::write(&source, tiny_llama()).unwrap();
        let folder = convert(&source, &cache, &Silent).unwrap();
        let weights = folder.join(WEIGHTS);
        let right = fs::read(&weights).unwrap();

        let again = Recorder::default();
        assert_eq!(convert(&source, &cache, &again).unwrap(), folder);
        assert_eq!(again.events(), [], "a whole conversion is used as it is");

        let mut wrong = right.clone();
        *wrong.last_mut().unwrap() ^= 1;
        for bytes in [wrong.as_slice(), &right[..right.len() / 2], &[]] {
            fs::write(&weights, bytes).unwrap();
            let seen = Recorder::default();
            convert(&source, &cache, &seen).unwrap();
            assert_eq!(fs::read(&weights).unwrap(), right);
            let warned = |event: &Event| matches!(event, Event::Warned { code, .. } if code == "torch.cache-damaged");
            assert!(seen.events().iter().any(warned), "{:?}", seen.events());
        }
    }

    #[test]
    fn a_conversion_that_fails_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("m.gguf");
        let cache = home.path().join("cache");
        let mut bytes = tiny_llama();
        let name = bytes.windows(11).position(|w| w == b"output_norm").unwrap();
        bytes[name] = b'x';
        fs::write(&source, bytes).unwrap();
        let error = convert(&source, &cache, &Silent).unwrap_err();
        assert_eq!(report::Diagnose::code(&error), "torch.missing-tensor");
        let left: Vec<_> = fs::read_dir(cache.join("converted")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// A mixture of experts as GGUF keeps it: all experts' gates in one tensor, all ups in another.
    fn mixture(folder: &Path) -> Vec<u8> {
        let weights = Tensor::read_safetensors(folder.join("fused.safetensors")).unwrap();
        let weights: Map<String, Tensor> = weights.into_iter().collect();
        let whole = |key: &str, value: u32| setting(key, 4, &value.to_le_bytes());
        let number = |key: &str, value: f32| setting(key, 6, &value.to_le_bytes());
        let tokens: Vec<String> = (0..32).map(|token| format!("t{token}")).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let settings = [
            setting("general.architecture", 8, &string("qwen3moe")),
            whole("qwen3moe.embedding_length", 16),
            whole("qwen3moe.feed_forward_length", 24),
            whole("qwen3moe.block_count", 2),
            whole("qwen3moe.attention.head_count", 4),
            whole("qwen3moe.attention.head_count_kv", 2),
            whole("qwen3moe.attention.key_length", 8),
            whole("qwen3moe.context_length", 64),
            whole("qwen3moe.expert_count", 6),
            whole("qwen3moe.expert_used_count", 2),
            whole("qwen3moe.expert_feed_forward_length", 12),
            number("qwen3moe.attention.layer_norm_rms_epsilon", 1e-6),
            number("qwen3moe.rope.freq_base", 10_000.0),
            setting("tokenizer.ggml.model", 8, &string("gpt2")),
            setting("tokenizer.ggml.pre", 8, &string("qwen2")),
            setting("tokenizer.ggml.tokens", 9, &texts(&tokens)),
            setting("tokenizer.ggml.merges", 9, &texts(&[])),
        ];
        let stored = |name: String, tensor: &Tensor| -> Stored {
            let sides = tensor.size().into_iter().rev().map(|side| side as u64);
            let values = Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap();
            (name, sides.collect(), values)
        };
        let mut tensors = vec![
            stored(
                "token_embd.weight".into(),
                &weights["model.embed_tokens.weight"],
            ),
            stored("output_norm.weight".into(), &weights["model.norm.weight"]),
        ];
        for layer in 0..2 {
            let at = |rest: &str| &weights[&format!("model.layers.{layer}.{rest}")];
            let mut add = |name: &str, tensor: &Tensor| {
                tensors.push(stored(format!("blk.{layer}.{name}.weight"), tensor));
            };
            for (name, rest) in [
                ("attn_norm", "input_layernorm"),
                ("attn_q", "self_attn.q_proj"),
                ("attn_k", "self_attn.k_proj"),
                ("attn_v", "self_attn.v_proj"),
                ("attn_output", "self_attn.o_proj"),
                ("attn_q_norm", "self_attn.q_norm"),
                ("attn_k_norm", "self_attn.k_norm"),
                ("ffn_norm", "post_attention_layernorm"),
                ("ffn_gate_inp", "mlp.gate"),
            ] {
                add(name, at(&format!("{rest}.weight")));
            }
            let both = at("mlp.experts.gate_up_proj");
            add("ffn_gate_exps", &both.narrow(1, 0, 12));
            add("ffn_up_exps", &both.narrow(1, 12, 12));
            add("ffn_down_exps", at("mlp.experts.down_proj"));
        }
        file(&settings, &tensors)
    }

    #[test]
    fn experts_are_taken_apart_into_the_same_model() {
        let golden = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/families/qwen3_moe"
        );
        let golden = Path::new(golden);
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("m.gguf");
        let whole = mixture(golden);
        fs::write(&source, &whole).unwrap();
        let logits = |path: &Path| {
            let files = open(path, &home.path().join("cache"), &Silent).unwrap();
            let pass = Pass::of_text(&[3, 14, 15, 9, 26, 5]);
            tch::no_grad(|| files.load().unwrap().logits(&pass, false).unwrap())
        };
        assert_eq!(logits(&source), logits(golden));

        // As many layers as no file can have end at once, not in memory for their names.
        let key = b"qwen3moe.block_count";
        let at = whole.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 4;
        let mut lying = whole;
        lying[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        fs::write(&source, &lying).unwrap();
        let error = convert(&source, &home.path().join("cache"), &Silent).unwrap_err();
        assert_eq!(report::Diagnose::code(&error), "torch.malformed");
    }
}
