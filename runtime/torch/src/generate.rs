//! Texts from a model, one token at a time, with remembered keys and values.
//!
//! Several texts are continued at once: linear layers see one row a text, which costs little more than one row alone,
//! because the weights have to come from memory once for all of them. A text joins and leaves at any step.

use tch::{Device, Kind, Tensor};

use crate::BackendError;
use crate::model::{Memory, Model, Pass};
use crate::sampler::{Sampler, Sampling};

/// A text to continue.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    /// What stands there.
    pub prompt: Vec<i64>,
    /// The most tokens to add.
    pub limit: usize,
    /// Tokens that end the text.
    pub ends: Vec<i64>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// A token that a text got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Made {
    /// The number of the text.
    pub text: u64,
    /// The token.
    pub token: i64,
    /// Whether it was the last, and why.
    pub ended: Option<End>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// By a token that ends it.
    Token,
    /// By its limit, or that of the model.
    Limit,
}

/// Texts that are continued side by side.
pub struct Generator<'m> {
    model: &'m Model,
    rows: Vec<Row>,
    next: u64,
}

struct Row {
    text: u64,
    memory: Memory,
    /// Tokens that the model has not seen yet.
    fresh: Vec<i64>,
    left: usize,
    ends: Vec<i64>,
    sampler: Sampler,
}

impl<'m> Generator<'m> {
    /// No texts yet.
    pub fn new(model: &'m Model) -> Self {
        Self {
            model,
            rows: Vec::new(),
            next: 0,
        }
    }

    /// Takes a text and returns its number; it gets its first token at the next step.
    ///
    /// # Errors
    ///
    /// Where the prompt is empty, or leaves no place for another token.
    pub fn admit(&mut self, text: Continuation) -> Result<u64, BackendError> {
        let positions = self.model.config().positions;
        let length = text.prompt.len();
        if length == 0 || length as i64 >= positions {
            return Err(BackendError::TooLong {
                found: length,
                limit: positions,
            });
        }
        let number = self.next;
        self.next += 1;
        self.rows.push(Row {
            text: number,
            memory: Memory::empty(self.model),
            left: text.limit.clamp(1, positions as usize - length),
            sampler: Sampler::new(text.sampling, &text.prompt),
            fresh: text.prompt,
            ends: text.ends,
        });
        Ok(number)
    }

    /// Ends a text.
    pub fn dismiss(&mut self, text: u64) {
        self.rows.retain(|row| row.text != text);
    }

    /// How many texts are being continued.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Adds one token to every text, in the order in which they came; those that ended are dismissed.
    ///
    /// # Errors
    ///
    /// Where libtorch fails, or the model makes no numbers. What the texts remember is lost then.
    pub fn step(&mut self) -> Result<Vec<Made>, BackendError> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut logits = tch::no_grad(|| self.logits())?;
        let mut made = Vec::with_capacity(self.rows.len());
        let width = logits.len() / self.rows.len();
        for (row, logits) in self.rows.iter_mut().zip(logits.chunks_mut(width)) {
            let chosen = row.choose(logits);
            made.push(chosen.ok_or_else(|| self.model.no_number())?);
        }
        let ended = |row: &Row| made.iter().any(|m| m.text == row.text && m.ended.is_some());
        self.rows.retain(|row| !ended(row));
        Ok(made)
    }

    /// What speaks for each token after each text, one row after another.
    fn logits(&mut self) -> Result<Vec<f32>, BackendError> {
        let mut pass = Pass::default();
        for row in &self.rows {
            let (seen, length) = (row.memory.length(), row.fresh.len() as i64);
            pass.tokens.extend_from_slice(&row.fresh);
            pass.segments.push(length);
            pass.positions.extend(seen..seen + length);
            pass.wanted.push(pass.tokens.len() as i64 - 1);
        }
        let mut memories: Vec<&mut Memory> =
            self.rows.iter_mut().map(|row| &mut row.memory).collect();
        let logits = self.model.next_logits(&pass, &mut memories)?;
        let logits = logits.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        numbers(&logits)
    }
}

impl Row {
    /// Chooses the next token; none where the logits are no numbers.
    fn choose(&mut self, logits: &mut [f32]) -> Option<Made> {
        let token = self.sampler.choose(logits)? as i64;
        self.left -= 1;
        self.fresh = vec![token];
        let ended = if self.ends.contains(&token) {
            Some(End::Token)
        } else {
            (self.left == 0).then_some(End::Limit)
        };
        Some(Made {
            text: self.text,
            token,
            ended,
        })
    }
}

/// The numbers of a tensor in the processor's memory, row after row.
fn numbers(tensor: &Tensor) -> Result<Vec<f32>, BackendError> {
    let mut numbers = vec![0.0_f32; tensor.numel()];
    let count = numbers.len();
    tensor.f_contiguous()?.f_copy_data(&mut numbers, count)?;
    Ok(numbers)
}

/// Continues one text, and shows each token to `each`; stops early when that returns `false`.
///
/// The tokens returned include the one that ends the text, if it came; that one is not shown.
pub fn generate(
    model: &Model,
    text: Continuation,
    mut each: impl FnMut(i64) -> bool,
) -> Result<Vec<i64>, BackendError> {
    let mut generator = Generator::new(model);
    generator.admit(text)?;
    let mut tokens = Vec::new();
    while generator.count() > 0 {
        for made in generator.step()? {
            tokens.push(made.token);
            if made.ended != Some(End::Token) && !each(made.token) {
                return Ok(tokens);
            }
        }
    }
    Ok(tokens)
}
