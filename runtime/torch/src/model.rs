//! The Llama and Qwen2 decoder.
//!
//! ```text
//! tokens -> embedding -> [ norm -> q k v -> rotate -> attention -> o -> +  norm -> gate*up -> down -> + ] x layers -> norm -> output
//! ```
//!
//! A pass computes no padding: the rows of a batch are laid end to end as segments, linear layers see one long list of
//! tokens, and only attention looks at one segment at a time. The output layer, a fifth of a small model, runs
//! at the wanted positions only.

use tch::Tensor;

use crate::BackendError;
use crate::config::ModelConfig;
use crate::files::TensorFiles;
use crate::lora::{Linear, LoraSettings, chosen};

/// What one pass through the model computes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pass {
    /// The tokens of all segments, end to end.
    pub tokens: Vec<i64>,
    /// How many tokens each segment has.
    pub segments: Vec<i64>,
    /// Positions in `tokens` whose logits are wanted.
    pub wanted: Vec<i64>,
    /// Place of each token in its text; empty: counted from zero in each segment.
    pub positions: Vec<i64>,
}

impl Pass {
    /// One segment, all positions wanted.
    pub fn of_text(tokens: &[i64]) -> Self {
        Self {
            tokens: tokens.to_vec(),
            segments: vec![tokens.len() as i64],
            wanted: (0..tokens.len() as i64).collect(),
            positions: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Block {
    attention_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    feed_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn linears(&self) -> [&Linear; 7] {
        let Self {
            query,
            key,
            value,
            output,
            gate,
            up,
            down,
            ..
        } = self;
        [query, key, value, output, gate, up, down]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 7] {
        let Self {
            query,
            key,
            value,
            output,
            gate,
            up,
            down,
            ..
        } = self;
        [query, key, value, output, gate, up, down]
    }
}

#[derive(Debug)]
struct Norm {
    name: String,
    weight: Tensor,
}

impl Norm {
    fn forward(&self, x: &Tensor, epsilon: f64) -> Result<Tensor, BackendError> {
        Ok(x.f_rms_norm(self.weight.size(), Some(&self.weight), epsilon)?)
    }
}

/// Keys and values of the tokens seen so far, per layer.
pub(crate) struct Memory(Vec<Option<(Tensor, Tensor)>>);

impl Memory {
    pub(crate) fn empty(model: &Model) -> Self {
        Self(model.blocks.iter().map(|_| None).collect())
    }

    fn length(&self) -> i64 {
        self.0
            .first()
            .and_then(Option::as_ref)
            .map_or(0, |(keys, _)| keys.size()[2])
    }
}

/// Rotary angles of the tokens of a pass.
struct Angles {
    cos: Tensor,
    sin: Tensor,
}

/// A model in memory, in `f32`.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    /// Absent where the embedding serves as the output layer.
    output: Option<Tensor>,
}

/// Names in the files.
const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm";
const OUTPUT: &str = "lm_head.weight";

impl Model {
    /// Reads the weights that `config` describes.
    pub(crate) fn load(config: ModelConfig, files: &mut TensorFiles) -> Result<Self, BackendError> {
        let (hidden, feed) = (config.hidden, config.feed_forward);
        let queries = config.heads * config.head_width;
        let keys = config.key_heads * config.head_width;
        let mut blocks = Vec::new();
        for number in 0..config.layers {
            let at = |rest: &str| format!("model.layers.{number}.{rest}");
            let mut linear = |rest: &str, rows, columns, bias: bool| {
                read_linear(files, at(rest), rows, columns, bias)
            };
            let bias = config.qkv_bias;
            let query = linear("self_attn.q_proj", queries, hidden, bias)?;
            let key = linear("self_attn.k_proj", keys, hidden, bias)?;
            let value = linear("self_attn.v_proj", keys, hidden, bias)?;
            let output = linear("self_attn.o_proj", hidden, queries, config.output_bias)?;
            let gate = linear("mlp.gate_proj", feed, hidden, false)?;
            let up = linear("mlp.up_proj", feed, hidden, false)?;
            let down = linear("mlp.down_proj", hidden, feed, false)?;
            blocks.push(Block {
                attention_norm: read_norm(files, at("input_layernorm"), hidden)?,
                query,
                key,
                value,
                output,
                feed_norm: read_norm(files, at("post_attention_layernorm"), hidden)?,
                gate,
                up,
                down,
            });
        }
        let table = [config.vocabulary, hidden];
        Ok(Self {
            embedding: files.read(EMBEDDING, &table)?,
            norm: read_norm(files, FINAL_NORM.to_owned(), hidden)?,
            output: if config.tied {
                None
            } else {
                Some(files.read(OUTPUT, &table)?)
            },
            blocks,
            config,
        })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Every linear layer but the output layer, in file order.
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears)
    }

    /// The same, to change them.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut)
    }

    /// Adds fresh LoRA corrections, which change no output until they are trained. Returns the names chosen.
    pub fn add_lora(&mut self, settings: &LoraSettings) -> Result<Vec<String>, BackendError> {
        let layers: Vec<&Linear> = self.linears().collect();
        let names = chosen(settings, &layers)?;
        for layer in self.linears_mut() {
            if names.iter().any(|name| name == layer.short_name()) {
                layer.correct(settings)?;
            }
        }
        Ok(names)
    }

    /// The model's own tensors under their names in the files.
    pub(crate) fn own_tensors(&self) -> Vec<(String, &Tensor)> {
        let mut all = vec![(EMBEDDING.to_owned(), &self.embedding)];
        for block in &self.blocks {
            for layer in block.linears() {
                all.push((format!("{}.weight", layer.name), &layer.weight));
                if let Some(bias) = &layer.bias {
                    all.push((format!("{}.bias", layer.name), bias));
                }
            }
            for norm in [&block.attention_norm, &block.feed_norm] {
                all.push((format!("{}.weight", norm.name), &norm.weight));
            }
        }
        all.push((format!("{}.weight", self.norm.name), &self.norm.weight));
        all.extend(self.output.iter().map(|w| (OUTPUT.to_owned(), w)));
        all
    }

    /// The adapter's tensors under the names that PEFT gives them.
    pub(crate) fn adapter_tensors(&self) -> Vec<(String, &Tensor)> {
        self.linears()
            .filter_map(|layer| layer.correction.as_ref().map(|c| (&layer.name, c)))
            .flat_map(|(name, c)| {
                [("A", &c.a), ("B", &c.b)]
                    .map(|(part, t)| (format!("base_model.model.{name}.lora_{part}.weight"), t))
            })
            .collect()
    }

    /// Logits at the wanted positions: one row each.
    pub fn logits(&self, pass: &Pass, training: bool) -> Result<Tensor, BackendError> {
        let last = self.hidden(pass, None, training)?;
        let wanted = Tensor::from_slice(&pass.wanted);
        self.head(&last.f_index_select(0, &wanted)?)
    }

    /// Logits after the last of `tokens`, which follow what `memory` holds.
    pub(crate) fn next_logits(
        &self,
        tokens: &[i64],
        memory: &mut Memory,
    ) -> Result<Tensor, BackendError> {
        let pass = Pass::of_text(tokens);
        let last = self.hidden(&pass, Some(memory), false)?;
        self.head(&last.f_narrow(0, tokens.len() as i64 - 1, 1)?)
    }

    fn head(&self, rows: &Tensor) -> Result<Tensor, BackendError> {
        let weight = self.output.as_ref().unwrap_or(&self.embedding);
        Ok(rows.f_linear(weight, None::<&Tensor>)?)
    }

    fn hidden(
        &self,
        pass: &Pass,
        mut memory: Option<&mut Memory>,
        training: bool,
    ) -> Result<Tensor, BackendError> {
        self.check(pass)?;
        let seen = memory.as_ref().map_or(0, |m| m.length());
        let angles = self.angles(pass, seen)?;
        let epsilon = self.config.norm_epsilon;
        let tokens = Tensor::from_slice(&pass.tokens);
        let mut x = Tensor::f_embedding(&self.embedding, &tokens, -1, false, false)?;
        for (number, block) in self.blocks.iter().enumerate() {
            let normed = block.attention_norm.forward(&x, epsilon)?;
            let slot = memory.as_mut().map(|m| &mut m.0[number]);
            let mixed = self.attention(block, &normed, &angles, pass, slot, training)?;
            x = x.f_add(&block.output.forward(&mixed, training)?)?;
            let normed = block.feed_norm.forward(&x, epsilon)?;
            let gate = block.gate.forward(&normed, training)?.f_silu()?;
            let wide = gate.f_mul(&block.up.forward(&normed, training)?)?;
            x = x.f_add(&block.down.forward(&wide, training)?)?;
        }
        self.norm.forward(&x, epsilon)
    }

    fn attention(
        &self,
        block: &Block,
        x: &Tensor,
        angles: &Angles,
        pass: &Pass,
        slot: Option<&mut Option<(Tensor, Tensor)>>,
        training: bool,
    ) -> Result<Tensor, BackendError> {
        let width = self.config.head_width;
        let heads = |layer: &Linear| -> Result<Tensor, BackendError> {
            Ok(layer
                .forward(x, training)?
                .f_view([-1, layer.weight.size()[0] / width, width])?)
        };
        let queries = rotate(&heads(&block.query)?, angles)?;
        let keys = rotate(&heads(&block.key)?, angles)?;
        let values = heads(&block.value)?;
        if let Some(slot) = slot {
            let (mut keys, mut values) = (heads_first(&keys)?, heads_first(&values)?);
            let first = slot.is_none();
            if let Some((old_keys, old_values)) = slot.take() {
                keys = Tensor::f_cat(&[&old_keys, &keys], 2)?;
                values = Tensor::f_cat(&[&old_values, &values], 2)?;
            }
            // One token after a memory sees everything; several at once must not see each other's future.
            let mixed = self.attend(&heads_first(&queries)?, &keys, &values, first)?;
            *slot = Some((keys, values));
            return Ok(mixed);
        }
        let mut parts = Vec::with_capacity(pass.segments.len());
        let mut start = 0;
        for &length in &pass.segments {
            let part = |t: &Tensor| heads_first(&t.f_narrow(0, start, length)?);
            parts.push(self.attend(&part(&queries)?, &part(&keys)?, &part(&values)?, true)?);
            start += length;
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// Attention of one segment, `[1, heads, tokens, width]` in, `[tokens, heads * width]` out.
    fn attend(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        causal: bool,
    ) -> Result<Tensor, BackendError> {
        let (group, width) = (
            self.config.heads / self.config.key_heads,
            self.config.head_width,
        );
        let spread = |t: &Tensor| -> Result<Tensor, BackendError> {
            if group == 1 {
                return Ok(t.shallow_clone());
            }
            let size = t.size();
            Ok(t.f_unsqueeze(2)?
                .f_expand([1, size[1], group, size[2], width], false)?
                .f_reshape([1, size[1] * group, size[2], width])?)
        };
        let mixed = Tensor::f_scaled_dot_product_attention(
            queries,
            &spread(keys)?,
            &spread(values)?,
            None::<&Tensor>,
            0.0,
            causal,
            None,
            false,
        )?;
        Ok(mixed
            .f_squeeze_dim(0)?
            .f_transpose(0, 1)?
            .f_reshape([-1, self.config.heads * width])?)
    }

    fn angles(&self, pass: &Pass, seen: i64) -> Result<Angles, BackendError> {
        let half = self.config.head_width / 2;
        let steps: Vec<f32> = (0..half)
            .map(|i| {
                let exponent = i as f64 / half as f64;
                self.config.rope_base.powf(-exponent) as f32
            })
            .collect();
        let counted = pass.segments.iter().flat_map(|&length| 0..length);
        let positions: Vec<f32> = if pass.positions.is_empty() {
            counted.map(|at| (seen + at) as f32).collect()
        } else {
            pass.positions.iter().map(|at| *at as f32).collect()
        };
        let angles = Tensor::from_slice(&positions).f_outer(&Tensor::from_slice(&steps))?;
        let angles = Tensor::f_cat(&[&angles, &angles], 1)?.f_unsqueeze(1)?;
        Ok(Angles {
            cos: angles.f_cos()?,
            sin: angles.f_sin()?,
        })
    }

    fn check(&self, pass: &Pass) -> Result<(), BackendError> {
        let bad = |reason: &str| BackendError::BadBatch {
            reason: reason.to_owned(),
        };
        let count = pass.tokens.len() as i64;
        if pass.segments.iter().any(|&n| n < 1) || pass.segments.iter().sum::<i64>() != count {
            return Err(bad("its segments do not add up to its tokens"));
        }
        if !pass.positions.is_empty() && pass.positions.len() as i64 != count {
            return Err(bad("its positions do not match its tokens"));
        }
        if count == 0 || pass.wanted.iter().any(|at| !(0..count).contains(at)) {
            return Err(bad("it has no tokens, or asks for logits beyond them"));
        }
        let vocabulary = 0..self.config.vocabulary;
        match pass.tokens.iter().find(|token| !vocabulary.contains(token)) {
            Some(token) => Err(bad(&format!(
                "token {token} is not in the model's vocabulary of {}",
                self.config.vocabulary
            ))),
            None => Ok(()),
        }
    }
}

/// `[tokens, heads, width]` to `[1, heads, tokens, width]`.
fn heads_first(t: &Tensor) -> Result<Tensor, BackendError> {
    Ok(t.f_transpose(0, 1)?.f_unsqueeze(0)?)
}

/// Turns each pair (x[i], x[i + width/2]) by its angle.
fn rotate(x: &Tensor, angles: &Angles) -> Result<Tensor, BackendError> {
    let half = x.size()[2] / 2;
    let (first, second) = (x.f_narrow(2, 0, half)?, x.f_narrow(2, half, half)?);
    let turned = Tensor::f_cat(&[&second.f_neg()?, &first], 2)?;
    Ok(x.f_mul(&angles.cos)?.f_add(&turned.f_mul(&angles.sin)?)?)
}

fn read_linear(
    files: &mut TensorFiles,
    name: String,
    rows: i64,
    columns: i64,
    bias: bool,
) -> Result<Linear, BackendError> {
    Ok(Linear {
        weight: files.read(&format!("{name}.weight"), &[rows, columns])?,
        bias: if bias {
            Some(files.read(&format!("{name}.bias"), &[rows])?)
        } else {
            None
        },
        name,
        correction: None,
    })
}

fn read_norm(files: &mut TensorFiles, name: String, width: i64) -> Result<Norm, BackendError> {
    Ok(Norm {
        weight: files.read(&format!("{name}.weight"), &[width])?,
        name,
    })
}
