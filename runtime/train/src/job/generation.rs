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
    /// Texts that are searched side by side for the likeliest one; one: there is no search.
    pub beams: usize,
    /// The power of their length that the likelihoods of such texts are divided by.
    pub length_penalty: f64,
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
            beams: 1,
            length_penalty: 1.0,
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

/// Each takes as much memory for what it has seen as a text alone.
const MOST_BEAMS: usize = 64;

pub(super) fn generation(fields: &Fields) -> Result<Generation, JobError> {
    let usual = Generation::default();
    let above_zero = |key: &str, usual: f64, most: f64| {
        let number = fields.number(key, usual, most)?;
        let expected = format!("a number above 0, up to {most}");
        (number > 0.0)
            .then_some(number)
            .ok_or_else(|| fields.wrong(key, &expected))
    };
    if fields.whole("eval_num_beams", 1)?.unwrap_or(1) > 1 {
        let reason = "LLaMA-Factory 0.9.5 does not follow it where it predicts; set `num_beams`";
        return Err(fields.unsupported("eval_num_beams", reason));
    }
    let beams = fields.whole("num_beams", 1)?.unwrap_or(1) as usize;
    if beams > MOST_BEAMS {
        let expected = format!("a whole number from 1 to {MOST_BEAMS}");
        return Err(fields.wrong("num_beams", &expected));
    }
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
        beams,
        length_penalty: signed_number(fields, "length_penalty")?.unwrap_or(usual.length_penalty),
        length,
        skip_special_tokens: fields.text_of_flag("skip_special_tokens")?.unwrap_or(true),
    })
}

fn signed_number(fields: &Fields, key: &str) -> Result<Option<f64>, JobError> {
    let Some(text) = fields.text(key)? else {
        return Ok(None);
    };
    let number = text.trim().parse().ok();
    let number = number.filter(|number: &f64| number.abs() <= MOST);
    number
        .map(Some)
        .ok_or_else(|| fields.wrong(key, &format!("a number from -{MOST} to {MOST}")))
}
