//! Text from a model, one token at a time, with remembered keys and values.

use tch::{Kind, Tensor};

use crate::BackendError;
use crate::load::is_finite;
use crate::model::{Memory, Model};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// The likeliest token.
    Greedy,
    /// A draw from the likeliest tokens.
    Draw {
        /// Below one sharpens the distribution, above one flattens it.
        temperature: f64,
        /// The smallest set of tokens with at least this probability together.
        top_p: f64,
    },
}

/// Continues `prompt` by at most `limit` tokens, and shows each to `each`; stops early when that returns `false`.
///
/// The tokens returned include the one that ends the text, if it came.
pub fn generate(
    model: &Model,
    prompt: &[i64],
    limit: usize,
    end: &[i64],
    sampling: Sampling,
    mut each: impl FnMut(i64) -> bool,
) -> Result<Vec<i64>, BackendError> {
    let positions = model.config().positions;
    if prompt.is_empty() || prompt.len() as i64 >= positions {
        return Err(BackendError::TooLong {
            found: prompt.len(),
            limit: positions,
        });
    }
    let limit = limit.min(positions as usize - prompt.len());
    tch::no_grad(|| {
        let mut memory = Memory::empty(model);
        let mut made = Vec::new();
        let mut fresh = prompt.to_vec();
        while made.len() < limit {
            let logits = model.next_logits(&fresh, &mut memory)?;
            if !is_finite(&logits)? {
                return Err(match model.broken_weight()? {
                    Some(tensor) => BackendError::BrokenWeight { tensor },
                    None => BackendError::NoNumber,
                });
            }
            let token = choose(&logits, sampling)?;
            made.push(token);
            if end.contains(&token) || !each(token) {
                break;
            }
            fresh = vec![token];
        }
        Ok(made)
    })
}

fn choose(logits: &Tensor, sampling: Sampling) -> Result<i64, BackendError> {
    let Sampling::Draw { temperature, top_p } = sampling else {
        return Ok(logits.f_argmax(-1, false)?.f_int64_value(&[0])?);
    };
    let likely = logits
        .f_div_scalar(temperature.max(1e-4))?
        .f_softmax(-1, Kind::Float)?;
    let (sorted, tokens) = likely.f_sort(-1, true)?;
    // A token stays while those before it have not reached top_p; so the likeliest always stays.
    let before = sorted.f_cumsum(-1, Kind::Float)?.f_sub(&sorted)?;
    let kept = sorted.f_mul(&before.f_lt(top_p.max(1e-6))?)?;
    let place = kept.f_multinomial(1, false)?;
    Ok(tokens.f_gather(-1, &place, false)?.f_int64_value(&[0, 0])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_draw_is_the_likeliest_token() {
        let logits = Tensor::from_slice(&[0.0_f32, 5.0, 1.0]).view([1, 3]);
        for _ in 0..20 {
            let narrow = Sampling::Draw {
                temperature: 1.0,
                top_p: 0.1,
            };
            assert_eq!(choose(&logits, narrow).unwrap(), 1);
        }
        assert_eq!(choose(&logits, Sampling::Greedy).unwrap(), 1);
    }
}
