//! The decoder of Llama, Mistral, Qwen2, Qwen3 and Qwen3-MoE.
//!
//! ```text
//! tokens -> embedding -> block x layers -> norm -> output
//! ```
//!
//! A pass computes no padding: the rows of a batch are laid end to end as segments, linear layers see one long list of
//! tokens, and only attention looks at one segment at a time. The output layer, a fifth of a small model, runs
//! at the wanted positions only.

use std::sync::atomic::{AtomicU64, Ordering};

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::attention::Angles;
use crate::balance::Balance;
use crate::block::{Around, Block, Remembered};
use crate::config::ModelConfig;
use crate::lora::{Linear, Mode};
use crate::norm::Norm;
use crate::owed::Owed;
use crate::settings::{Holding, Precision};
use crate::{BackendError, product};

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
    /// How long the texts are taken to be by a rule that stretches positions by that, such as with their padding; no less
    /// than the last position says.
    pub reach: i64,
}

impl Pass {
    /// One segment, all positions wanted.
    pub fn of_text(tokens: &[i64]) -> Self {
        Self {
            tokens: tokens.to_vec(),
            segments: vec![tokens.len() as i64],
            wanted: (0..tokens.len() as i64).collect(),
            positions: Vec::new(),
            reach: 0,
        }
    }
}

/// Keys and values of the tokens of one text seen so far, per layer.
pub(crate) struct Memory(Vec<Remembered>);

impl Memory {
    pub(crate) fn empty(model: &Model) -> Self {
        Self(model.blocks.iter().map(|_| None).collect())
    }

    /// The same memory for a text that goes on in another way: what is remembered is never changed, only added to.
    pub(crate) fn shared(&self) -> Self {
        let layers = self.0.iter().map(|layer| {
            let layer = layer.as_ref();
            layer.map(|(keys, values)| (keys.shallow_clone(), values.shallow_clone()))
        });
        Self(layers.collect())
    }

    /// Tokens seen so far.
    pub(crate) fn length(&self) -> i64 {
        self.0
            .first()
            .and_then(Option::as_ref)
            .map_or(0, |(keys, _)| keys.size()[0])
    }
}

/// What the embedding and the output layer are owed, where their gradients are not added up at once.
#[derive(Debug, Default)]
pub(crate) struct OwedTables {
    pub(crate) embedding: Option<Owed>,
    pub(crate) output: Option<Owed>,
}

/// A model in memory.
#[derive(Debug)]
pub struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) holding: Holding,
    pub(crate) embedding: Tensor,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Norm,
    /// Absent where the embedding serves as the output layer.
    pub(crate) output: Option<Tensor>,
    /// What its tables are owed.
    pub(crate) owed: OwedTables,
    /// Counts the passes that drop something, so that no two drop the same.
    noise: AtomicU64,
}

impl Model {
    pub(crate) fn of_parts(
        config: ModelConfig,
        holding: Holding,
        embedding: Tensor,
        blocks: Vec<Block>,
        norm: Norm,
        output: Option<Tensor>,
    ) -> Self {
        Self {
            config,
            holding,
            embedding,
            blocks,
            norm,
            output,
            owed: OwedTables::default(),
            noise: AtomicU64::new(0),
        }
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

    /// Whether any matrix is packed into four bits.
    pub(crate) fn is_packed(&self) -> bool {
        self.linears().any(|layer| layer.weight.is_packed())
    }

    /// Whether the output layer has weights of its own although `config.json` says that it is the embedding.
    pub(crate) fn is_untied(&self) -> bool {
        self.config.tied && self.output.is_some()
    }

    /// The matrix of the output layer, `[vocabulary, hidden]`.
    pub(crate) fn output_matrix(&self) -> &Tensor {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// The number format of the products.
    pub(crate) fn kind(&self) -> Kind {
        match self.holding.precision {
            Precision::Float32 => Kind::Float,
            Precision::Bfloat16 | Precision::PureBfloat16 => Kind::BFloat16,
            Precision::Float16 => Kind::Half,
        }
    }

    /// Where it is computed.
    pub(crate) fn place(&self) -> Place {
        self.holding.place
    }

    /// Decides what dropout drops from the next pass on. A run that is resumed sets what the first would have had.
    pub(crate) fn set_noise(&self, noise: u64) {
        self.noise.store(noise, Ordering::Relaxed);
    }

    pub(crate) fn mode(&self, training: bool) -> Mode {
        let noise = training.then(|| self.noise.fetch_add(1, Ordering::Relaxed));
        Mode {
            kind: self.kind(),
            noise,
            bare: false,
        }
    }

    /// Logits at the wanted positions, one row each, in `f32`. Libtorch can differentiate them, at about twice the memory
    /// of [`Self::learn`].
    pub fn logits(&self, pass: &Pass, training: bool) -> Result<Tensor, BackendError> {
        self.logits_in(pass, self.mode(training))
    }

    /// The same without the adapter: what the base model says.
    pub fn base_logits(&self, pass: &Pass) -> Result<Tensor, BackendError> {
        let mode = Mode {
            bare: true,
            ..self.mode(false)
        };
        self.logits_in(pass, mode)
    }

    /// The logits, and the loss of how evenly experts are used, where the model has one.
    pub(crate) fn logits_and_balance(&self, pass: &Pass) -> Result<(Tensor, f64), BackendError> {
        self.check(pass)?;
        let mut around = self.around(pass, self.mode(false))?;
        around.balance = self.balance();
        let last = self.hidden_within(pass, None, &around)?;
        let uneven = around.balance.as_ref().map_or(Ok(0.0), Balance::settle)?;
        let wanted = self.place().of_slice(&pass.wanted)?;
        Ok((self.head(&last.f_index_select(0, &wanted)?)?, uneven))
    }

    /// What gathers the use of experts in a pass, where a loss asks for that.
    pub(crate) fn balance(&self) -> Option<Balance> {
        let weight = self.config.mixture.as_ref()?.balance?;
        Some(Balance::new(weight))
    }

    fn logits_in(&self, pass: &Pass, mode: Mode) -> Result<Tensor, BackendError> {
        let last = self.hidden_in(pass, None, mode)?;
        let wanted = self.place().of_slice(&pass.wanted)?;
        self.head(&last.f_index_select(0, &wanted)?)
    }

    /// Logits at the wanted positions of a pass, each segment of which follows what the memory in its place holds.
    pub(crate) fn next_logits(
        &self,
        pass: &Pass,
        memories: &mut [&mut Memory],
    ) -> Result<Tensor, BackendError> {
        let last = self.hidden(pass, Some(memories), false)?;
        let wanted = self.place().of_slice(&pass.wanted)?;
        let logits = self.head(&last.f_index_select(0, &wanted)?)?;
        // A few rows: what is drawn from them is drawn alike for every device.
        Ok(Place::PROCESSOR.put(&logits)?)
    }

    /// Logits of rows that the last norm has passed, in `f32`.
    pub fn head(&self, rows: &Tensor) -> Result<Tensor, BackendError> {
        let logits = product::forth(&rows.f_to_kind(self.kind())?, self.output_matrix(), None)?;
        Ok(logits.f_to_kind(Kind::Float)?)
    }

    /// What the last norm gives for every token, `[tokens, hidden]`.
    pub(crate) fn hidden(
        &self,
        pass: &Pass,
        memories: Option<&mut [&mut Memory]>,
        training: bool,
    ) -> Result<Tensor, BackendError> {
        self.hidden_in(pass, memories, self.mode(training))
    }

    fn hidden_in(
        &self,
        pass: &Pass,
        memories: Option<&mut [&mut Memory]>,
        mode: Mode,
    ) -> Result<Tensor, BackendError> {
        self.check(pass)?;
        let around = self.around(pass, mode)?;
        self.hidden_within(pass, memories, &around)
    }

    fn hidden_within(
        &self,
        pass: &Pass,
        mut memories: Option<&mut [&mut Memory]>,
        around: &Around,
    ) -> Result<Tensor, BackendError> {
        let tokens = self.place().of_slice(&pass.tokens)?;
        let mut x = self.embedded(&tokens)?;
        for (number, block) in self.blocks.iter().enumerate() {
            let mut slots: Option<Vec<&mut Remembered>> = memories
                .as_mut()
                .map(|all| all.iter_mut().map(|m| &mut m.0[number]).collect());
            x = block.forward(x, around, slots.as_deref_mut(), false)?.0;
        }
        self.norm.forward(&x)
    }

    /// What the first layer gets of these tokens.
    pub(crate) fn embedded(&self, tokens: &Tensor) -> Result<Tensor, BackendError> {
        let rows = Tensor::f_embedding(&self.embedding, tokens, -1, false, false)?;
        if self.holding.narrow {
            return Ok(rows.f_to_kind(self.kind())?);
        }
        Ok(rows)
    }

    /// What all layers of a pass share.
    pub(crate) fn around<'a>(
        &self,
        pass: &'a Pass,
        mode: Mode,
    ) -> Result<Around<'a>, BackendError> {
        let counted = pass.segments.iter().flat_map(|&length| 0..length);
        let positions: Vec<f32> = if pass.positions.is_empty() {
            counted.map(|at| at as f32).collect()
        } else {
            pass.positions.iter().map(|at| *at as f32).collect()
        };
        let longest = positions.iter().copied().fold(0.0, f32::max) as i64 + 1;
        let longest = longest.max(pass.reach);
        let (steps, factor) =
            self.config
                .rope
                .steps(self.config.head_width, self.config.rope_base, longest);
        Ok(Around {
            angles: Angles::of(&positions, &steps, factor, mode.kind)?.at(self.place())?,
            segments: &pass.segments,
            mode,
            balance: None,
        })
    }

    /// Checks that a pass can be computed.
    pub(crate) fn check(&self, pass: &Pass) -> Result<(), BackendError> {
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
