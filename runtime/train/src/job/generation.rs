//! How texts are generated, by the original's keys and defaults.

use super::error::JobError;
use super::fields::Fields;
use super::tuning::signed;

/// How texts are generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Tokens are drawn by chance; else the likeliest is taken.
    pub draws: bool,
    /// Below one sharpens the likelihoods, above one flattens them; zero takes the likeliest.
    pub temperature: f64,
    /// Only the likeliest tokens that have this likelihood together are drawn.
    pub top_p: f64,
    /// Only so many of the likeliest tokens are drawn; zero: any.
    pub top_k: usize,
    /// Above one, tokens that were there before get less likely.
    pub repetition_penalty: f64,
    /// Where a text ends at the latest.
    pub length: Length,
    /// Special tokens are left out of texts.
    pub skip_special_tokens: bool,
}

/// Where a text ends at the latest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Length {
    /// After so many tokens behind the prompt.
    New(usize),
    /// After so many tokens, those of the prompt included.
    Whole(usize),
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            draws: true,
            temperature: 0.95,
            top_p: 0.7,
            top_k: 50,
            repetition_penalty: 1.0,
            length: Length::New(1024),
            skip_special_tokens: true,
        }
    }
}

impl Generation {
    /// The most tokens behind a prompt of `prompt` tokens; at least one.
    pub fn limit(&self, prompt: usize) -> usize {
        match self.length {
            Length::New(most) => most,
            Length::Whole(most) => most.saturating_sub(prompt),
        }
        .max(1)
    }
}

/// No setting of likelihoods makes sense beyond.
const MOST: f64 = 1e3;

pub(super) fn generation(fields: &Fields) -> Result<Generation, JobError> {
    let usual = Generation::default();
    let above_zero = |key: &str, usual: f64, most: f64| {
        let number = fields.number(key, usual, most)?;
        let expected = format!("a number above 0, up to {most}");
        (number > 0.0)
            .then_some(number)
            .ok_or_else(|| fields.wrong(key, &expected))
    };
    for key in ["num_beams", "eval_num_beams"] {
        if fields.whole(key, 1)?.unwrap_or(1) > 1 {
            let reason = "texts are drawn or the likeliest token is taken; there is no beam search";
            return Err(fields.unsupported(key, reason));
        }
    }
    // It weighs beams against each other, so without beams it changes nothing, in the original too.
    signed_number(fields, "length_penalty")?;
    let new = signed(fields, "max_new_tokens")?.unwrap_or(1024);
    let length = match usize::try_from(new) {
        Ok(new) if new > 0 => Length::New(new),
        _ => Length::Whole(fields.whole("max_length", 1)?.unwrap_or(1024) as usize),
    };
    let top_k = signed(fields, "top_k")?.unwrap_or(usual.top_k as i64);
    Ok(Generation {
        draws: fields.text_of_flag("do_sample")?.unwrap_or(usual.draws),
        temperature: fields.number("temperature", usual.temperature, MOST)?,
        top_p: above_zero("top_p", usual.top_p, 1.0)?,
        // Other servers write minus one for any.
        top_k: usize::try_from(top_k).unwrap_or(0),
        repetition_penalty: above_zero("repetition_penalty", usual.repetition_penalty, MOST)?,
        length,
        skip_special_tokens: fields.text_of_flag("skip_special_tokens")?.unwrap_or(true),
    })
}

fn signed_number(fields: &Fields, key: &str) -> Result<(), JobError> {
    match fields.text(key)? {
        Some(text) if text.trim().parse::<f64>().is_err() => Err(fields.wrong(key, "a number")),
        _ => Ok(()),
    }
}
