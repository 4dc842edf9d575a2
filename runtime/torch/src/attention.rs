//! Causal attention of the segments of a pass, with grouped key heads and an optional window.
//!
//! Queries are `[tokens, heads, width]`, keys and values `[tokens, key heads, width]`. The query heads that share a key
//! head form a side of their own, so that keys are spread by a stride of zero and never copied.

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::BackendError;

/// One segment's part, kept for the backward pass: the inputs, and the result that libtorch can differentiate.
#[derive(Debug)]
pub(crate) struct Span {
    inputs: [Tensor; 3],
    result: Tensor,
}

/// Attention of every segment. Returns `[tokens, heads * width]`, and where `keep`, what [`backward`] needs.
pub(crate) fn forward(
    inputs: [&Tensor; 3],
    segments: &[i64],
    window: Option<i64>,
    keep: bool,
) -> Result<(Tensor, Vec<Span>), BackendError> {
    let mut spans = Vec::new();
    let mut parts = Vec::with_capacity(segments.len());
    let mut start = 0;
    for &length in segments {
        let inputs = cut(inputs, start, length)?;
        start += length;
        if !keep {
            let result = attend([&inputs[0], &inputs[1], &inputs[2]], window, true)?;
            parts.push(rows(&result)?);
            continue;
        }
        let span = tch::with_grad(|| {
            let [q, k, v] = inputs.map(|part| part.f_detach()?.f_set_requires_grad(true));
            let inputs = [q?, k?, v?];
            let result = attend([&inputs[0], &inputs[1], &inputs[2]], window, true)?;
            Ok::<_, BackendError>(Span { inputs, result })
        })?;
        parts.push(rows(&span.result.f_detach()?)?);
        spans.push(span);
    }
    Ok((joined(parts)?, spans))
}

/// One segment of queries, keys and values.
pub(crate) fn cut(
    inputs: [&Tensor; 3],
    start: i64,
    length: i64,
) -> Result<[Tensor; 3], BackendError> {
    let [q, k, v] = inputs.map(|all| all.f_narrow(0, start, length));
    Ok([q?, k?, v?])
}

/// The result of the forward pass once more, from what was kept.
pub(crate) fn result(spans: &[Span]) -> Result<Tensor, BackendError> {
    let parts = spans.iter().map(|span| rows(&span.result.f_detach()?));
    joined(parts.collect::<Result<_, BackendError>>()?)
}

/// Gradients of queries, keys and values, in their shapes, from that of the result.
pub(crate) fn backward(spans: &[Span], out: &Tensor) -> Result<[Tensor; 3], BackendError> {
    let mut parts: [Vec<Tensor>; 3] = Default::default();
    let mut start = 0;
    for span in spans {
        let size = span.inputs[0].size();
        let (tokens, key_heads) = (size[0], span.inputs[1].size()[1]);
        let shape = [tokens, key_heads, size[1] / key_heads, size[2]];
        let own = out
            .f_narrow(0, start, tokens)?
            .f_view(shape)?
            .f_permute([1, 2, 0, 3])?;
        start += tokens;
        let gradients = tch::with_grad(|| {
            // The gradient of this sum is `own` for the result, which is how one hands libtorch a gradient.
            let sum = span.result.f_mul(&own)?.f_sum(span.result.kind())?;
            Tensor::f_run_backward(&[sum], &span.inputs, false, false)
        })?;
        for (all, part) in parts.iter_mut().zip(gradients) {
            all.push(part);
        }
    }
    let [q, k, v] = parts;
    Ok([joined(q)?, joined(k)?, joined(v)?])
}

/// Attention of one segment; keys may be more than queries, which are then the last of them. Returns
/// `[key heads, group, tokens, width]`. Where not `causal`, every query sees every key.
pub(crate) fn attend(
    inputs: [&Tensor; 3],
    window: Option<i64>,
    causal: bool,
) -> Result<Tensor, BackendError> {
    let [q, k, v] = inputs;
    let (size, key_heads) = (q.size(), k.size()[1]);
    let (tokens, group) = (size[0], size[1] / key_heads);
    let seen = k.size()[0];
    let q = q
        .f_view([tokens, key_heads, group, size[2]])?
        .f_permute([1, 2, 0, 3])?;
    let spread = |t: &Tensor| {
        t.f_permute([1, 0, 2])?
            .f_unsqueeze(1)?
            .f_expand([key_heads, group, seen, size[2]], false)
    };
    let window = window.filter(|window| seen > *window);
    let mask = if window.is_some() || (causal && tokens != seen && tokens > 1) {
        let mask = mask(tokens, seen, window, q.kind())?;
        Some(Place::of(&q).put(&mask)?)
    } else {
        None
    };
    Ok(Tensor::f_scaled_dot_product_attention(
        &q,
        &spread(k)?,
        &spread(v)?,
        mask.as_ref(),
        0.0,
        causal && mask.is_none() && tokens == seen,
        None,
        false,
    )?)
}

/// Zero where a query looks back at most `window` keys, itself included, and minus infinity elsewhere.
fn mask(tokens: i64, seen: i64, window: Option<i64>, kind: Kind) -> Result<Tensor, BackendError> {
    let options = (Kind::Int64, tch::Device::Cpu);
    let queries = Tensor::f_arange_start(seen - tokens, seen, options)?.f_unsqueeze(1)?;
    let back = queries.f_sub(&Tensor::f_arange(seen, options)?)?;
    let mut hidden = back.f_lt(0)?;
    if let Some(window) = window {
        hidden = hidden.f_logical_or(&back.f_ge(window)?)?;
    }
    Ok(Tensor::f_zeros([tokens, seen], (kind, tch::Device::Cpu))?
        .f_masked_fill(&hidden, f64::NEG_INFINITY)?)
}

/// `[key heads, group, tokens, width]` to `[tokens, heads * width]`.
pub(crate) fn rows(result: &Tensor) -> Result<Tensor, BackendError> {
    let tokens = result.size()[2];
    Ok(result.f_permute([2, 0, 1, 3])?.f_reshape([tokens, -1])?)
}

/// The results of all segments, end to end.
pub(crate) fn joined(mut parts: Vec<Tensor>) -> Result<Tensor, BackendError> {
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Ok(Tensor::f_cat(&parts, 0)?),
    }
}

/// Sines and cosines of the rotary angles, `[tokens, 1, width]`.
#[derive(Debug)]
pub(crate) struct Angles {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

impl Angles {
    /// The angles of tokens at `positions`, each pair of which turns by a step a position.
    pub(crate) fn of(
        positions: &[f32],
        steps: &[f32],
        factor: f64,
        kind: Kind,
    ) -> Result<Self, BackendError> {
        let angles = Tensor::f_from_slice(positions)?.f_outer(&Tensor::f_from_slice(steps)?)?;
        let angles = Tensor::f_cat(&[&angles, &angles], 1)?.f_unsqueeze(1)?;
        let scaled = |t: Tensor| -> Result<Tensor, BackendError> {
            let t = if (factor - 1.0).abs() > 0.0 {
                t.f_mul_scalar(factor)?
            } else {
                t
            };
            Ok(t.f_to_kind(kind)?)
        };
        Ok(Self {
            cos: scaled(angles.f_cos()?)?,
            sin: scaled(angles.f_sin()?)?,
        })
    }

    /// The same in another place.
    pub(crate) fn at(self, place: Place) -> Result<Self, BackendError> {
        Ok(Self {
            cos: place.put(&self.cos)?,
            sin: place.put(&self.sin)?,
        })
    }

    /// Turns each pair (x[i], x[i + width/2]) by its angle.
    pub(crate) fn turn(&self, x: &Tensor) -> Result<Tensor, BackendError> {
        self.turned(x, false)
    }

    /// The gradient of `x` from that of its turn: a turn the other way.
    pub(crate) fn turn_back(&self, out: &Tensor) -> Result<Tensor, BackendError> {
        self.turned(out, true)
    }

    fn turned(&self, x: &Tensor, back: bool) -> Result<Tensor, BackendError> {
        let half = x.size()[2] / 2;
        let (first, second) = (x.f_narrow(2, 0, half)?, x.f_narrow(2, half, half)?);
        let crossed = if back {
            Tensor::f_cat(&[&second, &first.f_neg()?], 2)?
        } else {
            Tensor::f_cat(&[&second.f_neg()?, &first], 2)?
        };
        Ok(x.f_mul(&self.cos)?.f_addcmul(&crossed, &self.sin)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    /// Attention as the textbook has it.
    fn plain(q: &Tensor, k: &Tensor, v: &Tensor, window: i64) -> Tensor {
        let (tokens, heads, width) = q.size3().unwrap();
        let group = heads / k.size()[1];
        let mut rows = Vec::new();
        for head in 0..heads {
            let (k, v) = (k.select(1, head / group), v.select(1, head / group));
            let scores = q.select(1, head).matmul(&k.transpose(0, 1)) / (width as f64).sqrt();
            let ones = Tensor::ones([tokens, tokens], (Kind::Bool, Device::Cpu));
            let seen = ones.tril(0).logical_and(&ones.triu(1 - window));
            let scores = scores.masked_fill(&seen.logical_not(), f64::NEG_INFINITY);
            rows.push(scores.softmax(-1, Kind::Float).matmul(&v));
        }
        Tensor::cat(&rows, 1)
    }

    #[test]
    fn segments_windows_and_groups_are_those_of_the_textbook() {
        tch::manual_seed(1);
        let (q, k, v) = (random(&[9, 4, 6]), random(&[9, 2, 6]), random(&[9, 2, 6]));
        for window in [None, Some(1), Some(3), Some(100)] {
            let (found, spans) = forward([&q, &k, &v], &[4, 5], window, true).unwrap();
            assert_eq!(found, result(&spans).unwrap());
            let (bare, none) = forward([&q, &k, &v], &[4, 5], window, false).unwrap();
            assert_eq!((bare, none.len()), (found.shallow_clone(), 0));
            let part = |from, count| {
                let cut = |t: &Tensor| t.narrow(0, from, count);
                plain(&cut(&q), &cut(&k), &cut(&v), window.unwrap_or(100))
            };
            let wanted = Tensor::cat(&[part(0, 4), part(4, 5)], 0);
            let gap = (&found - &wanted).abs().max().double_value(&[]);
            assert!(gap < 1e-5, "{window:?}: {gap}");
        }
    }

    #[test]
    fn queries_after_remembered_keys_see_the_same_as_all_at_once() {
        tch::manual_seed(2);
        let (q, k, v) = (random(&[7, 4, 6]), random(&[7, 2, 6]), random(&[7, 2, 6]));
        for window in [None, Some(3)] {
            let whole = rows(&attend([&q, &k, &v], window, true).unwrap()).unwrap();
            for count in [1, 3] {
                let last = q.narrow(0, 7 - count, count);
                let part = rows(&attend([&last, &k, &v], window, true).unwrap()).unwrap();
                let gap = (part - whole.narrow(0, 7 - count, count)).abs().max();
                assert!(gap.double_value(&[]) < 1e-5, "{window:?} {count}");
            }
        }
    }

    #[test]
    fn gradients_are_those_of_libtorch() {
        tch::manual_seed(3);
        let leaf = |shape: &[i64]| random(shape).set_requires_grad(true);
        let (q, k, v) = (leaf(&[5, 4, 6]), leaf(&[5, 2, 6]), leaf(&[5, 2, 6]));
        let out = random(&[5, 24]);
        let (whole, _) = forward([&q, &k, &v], &[2, 3], Some(2), false).unwrap();
        (whole * &out).sum(Kind::Float).backward();
        let found = tch::no_grad(|| {
            let (_, spans) = forward([&q, &k, &v], &[2, 3], Some(2), true).unwrap();
            backward(&spans, &out).unwrap()
        });
        for (found, leaf) in found.iter().zip([&q, &k, &v]) {
            let gap = (found - leaf.grad()).abs().max().double_value(&[]);
            assert!(gap < 1e-5, "{gap}");
        }
    }
}
