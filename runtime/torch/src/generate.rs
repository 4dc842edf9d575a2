//! Texts from a model, one token at a time, with remembered keys and values.
//!
//! Several texts are continued at once: linear layers see one row a text, which costs little more than one row alone,
//! because the weights have to come from memory once for all of them. A text joins and leaves at any step.

use tch::{Device, Kind, Tensor};

use crate::BackendError;
use crate::beams::{Advance, Beams, Search};
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
    /// Several texts are compared, and the best is the one that is made; its tokens come all at once.
    pub beams: Option<Beams>,
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
    texts: Vec<Text>,
    next: u64,
}

struct Text {
    number: u64,
    way: Way,
}

/// How a text is continued.
enum Way {
    /// By one token after another.
    Alone(Box<Row>),
    /// As the best of several.
    Searched(Box<Search>),
}

struct Row {
    lane: Lane,
    left: usize,
    ends: Vec<i64>,
    sampler: Sampler,
}

/// What a pass is given of one text.
pub(crate) struct Lane {
    memory: Memory,
    /// Tokens that the model has not seen yet.
    pub(crate) fresh: Vec<i64>,
}

impl Lane {
    /// The text that goes on with `token`.
    pub(crate) fn followed(&self, token: i64) -> Self {
        Self {
            memory: self.memory.shared(),
            fresh: vec![token],
        }
    }
}

impl<'m> Generator<'m> {
    /// No texts yet.
    pub fn new(model: &'m Model) -> Self {
        Self {
            model,
            texts: Vec::new(),
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
        let left = text.limit.clamp(1, positions as usize - length);
        let lane = Lane {
            memory: Memory::empty(self.model),
            fresh: text.prompt,
        };
        let way = match text.beams.filter(|beams| beams.count > 1) {
            Some(beams) => {
                let search = Search::new(beams, lane, text.sampling, &text.ends, left);
                Way::Searched(Box::new(search))
            }
            None => Way::Alone(Box::new(Row {
                left,
                sampler: Sampler::new(text.sampling, &lane.fresh),
                lane,
                ends: text.ends,
            })),
        };
        self.texts.push(Text { number, way });
        Ok(number)
    }

    /// Ends a text.
    pub fn dismiss(&mut self, text: u64) {
        self.texts.retain(|other| other.number != text);
    }

    /// How many texts are being continued.
    pub fn count(&self) -> usize {
        self.texts.len()
    }

    /// Adds one token to every text, in the order in which they came; those that ended are dismissed. A text that is
    /// searched for gets all of its tokens when it is found.
    ///
    /// # Errors
    ///
    /// Where libtorch fails, or the model makes no numbers. What the texts remember is lost then.
    pub fn step(&mut self) -> Result<Vec<Made>, BackendError> {
        if self.texts.is_empty() {
            return Ok(Vec::new());
        }
        let (mut logits, width) = tch::no_grad(|| self.logits())?;
        let mut made = Vec::with_capacity(self.texts.len());
        let mut rest = logits.as_mut_slice();
        for text in &mut self.texts {
            let (rows, behind) = rest.split_at_mut(width * text.way.lanes().count());
            rest = behind;
            let tokens = text.way.advance(rows);
            let tokens = tokens.ok_or_else(|| self.model.no_number())?;
            made.extend(tokens.into_iter().map(|(token, ended)| Made {
                text: text.number,
                token,
                ended,
            }));
        }
        let ended = |text: &Text| {
            let mut its = made.iter().filter(|made| made.text == text.number);
            its.any(|made| made.ended.is_some())
        };
        self.texts.retain(|text| !ended(text));
        Ok(made)
    }

    /// What speaks for each token after each lane of each text, one row after another, and how long a row is.
    fn logits(&mut self) -> Result<(Vec<f32>, usize), BackendError> {
        let mut pass = Pass::default();
        let mut memories = Vec::new();
        for lane in self.texts.iter_mut().flat_map(|text| text.way.lanes()) {
            let (seen, length) = (lane.memory.length(), lane.fresh.len() as i64);
            pass.tokens.extend_from_slice(&lane.fresh);
            pass.segments.push(length);
            pass.positions.extend(seen..seen + length);
            pass.wanted.push(pass.tokens.len() as i64 - 1);
            memories.push(&mut lane.memory);
        }
        let logits = self.model.next_logits(&pass, &mut memories)?;
        let logits = numbers(&logits.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?)?;
        let width = logits.len() / memories.len().max(1);
        Ok((logits, width))
    }
}

impl Way {
    fn lanes(&mut self) -> Box<dyn Iterator<Item = &mut Lane> + '_> {
        match self {
            Self::Alone(row) => Box::new(std::iter::once(&mut row.lane)),
            Self::Searched(search) => Box::new(search.lanes()),
        }
    }

    /// Chooses the next tokens; none where the logits are no numbers.
    fn advance(&mut self, logits: &mut [f32]) -> Option<Vec<(i64, Option<End>)>> {
        match self {
            Self::Alone(row) => row.choose(logits).map(|made| vec![made]),
            Self::Searched(search) => {
                let Advance::Found(text) = search.advance(logits)? else {
                    return Some(Vec::new());
                };
                let end = if search.is_end(text.last().copied()) {
                    End::Token
                } else {
                    End::Limit
                };
                let last = text.len().saturating_sub(1);
                let tokens = text.into_iter().enumerate();
                let tokens = tokens.map(|(at, token)| (token, (at == last).then_some(end)));
                Some(tokens.collect())
            }
        }
    }
}

impl Row {
    /// Chooses the next token; none where the logits are no numbers.
    fn choose(&mut self, logits: &mut [f32]) -> Option<(i64, Option<End>)> {
        let token = self.sampler.choose(logits)? as i64;
        self.left -= 1;
        self.lane.fresh = vec![token];
        let ended = if self.ends.contains(&token) {
            Some(End::Token)
        } else {
            (self.left == 0).then_some(End::Limit)
        };
        Some((token, ended))
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
