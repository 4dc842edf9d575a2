//! Which token comes next: penalties, the choice of candidates, and the draw. No libtorch here.
//!
//! The order of the rules is that of transformers: repetition, temperature, `top_k`, `top_p`. What is drawn depends on the
//! seed, the likelihoods and how many draws came before alone, not on the texts that are generated beside it.

use std::collections::HashMap;

use train::Generation;
use train_data::Chance;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Tokens are drawn by chance; else the likeliest is taken.
    pub draws: bool,
    /// Below one sharpens the likelihoods, above one flattens them; zero takes the likeliest.
    pub temperature: f64,
    /// Only so many of the likeliest tokens are drawn; zero: any.
    pub top_k: usize,
    /// Only the smallest set of tokens with at least this likelihood together is drawn.
    pub top_p: f64,
    /// Divides what speaks for a token of the prompt or the text.
    pub repetition_penalty: f64,
    /// Taken from what speaks for a token that the text has.
    pub presence_penalty: f64,
    /// Taken from it for each time that the text has it.
    pub frequency_penalty: f64,
    /// Decides what is drawn.
    pub seed: u64,
    /// Tells apart the texts that are drawn with one seed.
    pub stream: u64,
}

impl Sampling {
    /// The likeliest token each time.
    pub fn greedy() -> Self {
        Self {
            draws: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            stream: 0,
        }
    }

    /// As a job says; `seed` and `stream` decide what is drawn.
    pub fn of_job(generation: &Generation, seed: u64, stream: u64) -> Self {
        Self {
            draws: generation.draws,
            temperature: generation.temperature,
            top_k: generation.top_k,
            top_p: generation.top_p,
            repetition_penalty: generation.repetition_penalty,
            seed,
            stream,
            ..Self::greedy()
        }
    }

    fn penalises(&self) -> bool {
        let off = |value: f64, neutral: f64| (value - neutral).abs() < f64::EPSILON;
        !(off(self.repetition_penalty, 1.0)
            && off(self.presence_penalty, 0.0)
            && off(self.frequency_penalty, 0.0))
    }
}

/// Chooses the tokens of one text.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    chance: Chance,
    /// How often the text has each token of the prompt or the text.
    seen: HashMap<usize, u32>,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling, prompt: &[i64]) -> Self {
        let seen = if sampling.penalises() {
            prompt.iter().map(|token| (*token as usize, 0)).collect()
        } else {
            HashMap::new()
        };
        Self {
            chance: Chance::stream(sampling.seed, sampling.stream),
            sampling,
            seen,
        }
    }

    /// Chooses a token by its logits, which are changed on the way. Where none is a number, there is no choice.
    pub(crate) fn choose(&mut self, logits: &mut [f32]) -> Option<usize> {
        self.penalise(logits);
        let Sampling {
            draws, temperature, ..
        } = self.sampling;
        let chosen = if draws && temperature > 0.0 {
            self.draw(logits)?
        } else {
            likeliest(logits)?
        };
        self.note(chosen);
        Some(chosen)
    }

    /// Remembers that the text got a token.
    pub(crate) fn note(&mut self, token: usize) {
        if self.sampling.penalises() {
            *self.seen.entry(token).or_default() += 1;
        }
    }

    /// Changes the logarithms of likelihoods as the rules say, for a search that chooses by them; at least `least` tokens
    /// stay candidates.
    pub(crate) fn weigh(&self, likely: &mut [f32], least: usize) {
        self.penalise(likely);
        let Sampling {
            draws,
            temperature,
            top_k,
            top_p,
            ..
        } = self.sampling;
        if !draws || temperature <= 0.0 {
            return;
        }
        for likely in likely.iter_mut() {
            *likely = (f64::from(*likely) / temperature) as f32;
        }
        let mut candidates: Vec<usize> = (0..likely.len()).collect();
        let order = |a: &usize, b: &usize| likely[*b].total_cmp(&likely[*a]).then(a.cmp(b));
        candidates.sort_unstable_by(order);
        let mut kept = candidates.len();
        if top_k > 0 {
            kept = kept.min(top_k.max(least));
        }
        if top_p < 1.0 {
            let weight = |token: &usize| f64::from(likely[*token]).exp();
            let all: f64 = candidates[..kept].iter().map(weight).sum();
            let mut before = 0.0;
            let enough = candidates[..kept].iter().take_while(|token| {
                let stays = before < top_p * all;
                before += weight(token);
                stays
            });
            kept = enough.count().max(least).min(kept);
        }
        for token in &candidates[kept..] {
            likely[*token] = f32::NEG_INFINITY;
        }
    }

    fn penalise(&self, logits: &mut [f32]) {
        let Sampling {
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            ..
        } = self.sampling;
        let repetition = repetition_penalty as f32;
        for (token, count) in &self.seen {
            let Some(logit) = logits.get_mut(*token) else {
                continue;
            };
            if *logit < 0.0 {
                *logit *= repetition;
            } else {
                *logit /= repetition;
            }
            if *count > 0 {
                let less = presence_penalty + frequency_penalty * f64::from(*count);
                *logit -= less as f32;
            }
        }
    }

    fn draw(&mut self, logits: &[f32]) -> Option<usize> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            ..
        } = self.sampling;
        let best = f64::from(logits[likeliest(logits)?]);
        let weight = |token: usize| ((f64::from(logits[token]) - best) / temperature).exp();
        let mut candidates: Vec<usize> = (0..logits.len())
            .filter(|token| logits[*token] > f32::NEG_INFINITY)
            .collect();
        // Of equals the one that comes first, so that the order is the same each time.
        let order = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        if (1..candidates.len()).contains(&top_k) {
            candidates.select_nth_unstable_by(top_k - 1, order);
            candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            candidates.sort_unstable_by(order);
            let all: f64 = candidates.iter().map(|token| weight(*token)).sum();
            let mut before = 0.0;
            let kept = candidates.iter().take_while(|token| {
                let stays = before < top_p * all;
                before += weight(**token);
                stays
            });
            let kept = kept.count().max(1);
            candidates.truncate(kept);
        } else {
            candidates.sort_unstable();
        }
        let all: f64 = candidates.iter().map(|token| weight(*token)).sum();
        let mut left = self.chance.unit() * all;
        let drawn = candidates.iter().find(|token| {
            left -= weight(**token);
            left < 0.0
        });
        drawn.or(candidates.last()).copied()
    }
}

/// The first of the greatest; none where a logit is not a number, or infinite.
fn likeliest(logits: &[f32]) -> Option<usize> {
    let mut best = None;
    for (token, logit) in logits.iter().enumerate() {
        if logit.is_nan() || *logit == f32::INFINITY {
            return None;
        }
        if best.is_none_or(|best: usize| *logit > logits[best]) {
            best = Some(token);
        }
    }
    best.filter(|token| logits[*token].is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing() -> Sampling {
        Sampling {
            draws: true,
            seed: 7,
            ..Sampling::greedy()
        }
    }

    /// How often each of the tokens is drawn in a thousand tries.
    fn counts(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling, &[]);
        let mut counts = vec![0; logits.len()];
        for _ in 0..1000 {
            counts[sampler.choose(&mut logits.to_vec()).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_likelihoods() {
        // Likelihoods of one, two and five eighths.
        let logits = [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln()];
        let found = counts(drawing(), &logits);
        for (found, wanted) in found.iter().zip([125, 250, 625]) {
            assert!(found.abs_diff(wanted) < 50, "{found} {wanted}");
        }
        let sharp = Sampling {
            temperature: 0.5,
            ..drawing()
        };
        let found = counts(sharp, &logits);
        for (found, wanted) in found.iter().zip([33, 133, 833]) {
            assert!(found.abs_diff(wanted) < 40, "{found} {wanted}");
        }
    }

    #[test]
    fn only_candidates_are_drawn() {
        let logits = [0.0_f32, 1.0, 3.0, 2.0, f32::NEG_INFINITY];
        for (top_k, top_p, wanted) in [
            (1, 1.0, vec![2]),
            (2, 1.0, vec![2, 3]),
            (0, 0.1, vec![2]),
            (0, 0.7, vec![2, 3]),
            (9, 1.0, vec![0, 1, 2, 3]),
            (2, 0.5, vec![2]),
        ] {
            let sampling = Sampling {
                top_k,
                top_p,
                ..drawing()
            };
            let found = counts(sampling, &logits);
            let drawn: Vec<usize> = (0..5).filter(|token| found[*token] > 0).collect();
            assert_eq!(drawn, wanted, "{top_k} {top_p}");
        }
    }

    #[test]
    fn a_seed_draws_the_same_each_time_and_streams_differ() {
        let logits = [0.0_f32; 64];
        let drawn = |seed, stream| -> Vec<usize> {
            let sampling = Sampling {
                seed,
                stream,
                ..drawing()
            };
            let mut sampler = Sampler::new(sampling, &[]);
            let draw = |_| sampler.choose(&mut logits.to_vec()).unwrap();
            (0..16).map(draw).collect()
        };
        assert_eq!(drawn(1, 0), drawn(1, 0));
        assert_ne!(drawn(1, 0), drawn(2, 0));
        assert_ne!(drawn(1, 0), drawn(1, 1));
    }

    #[test]
    fn penalties_count_what_was_there() {
        let choose = |sampling: Sampling, prompt: &[i64], logits: [f32; 3], times: usize| {
            let mut sampler = Sampler::new(sampling, prompt);
            let choose = |_| sampler.choose(&mut logits.to_vec()).unwrap();
            (0..times).map(choose).collect::<Vec<_>>()
        };
        let repetition = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::greedy()
        };
        assert_eq!(choose(repetition, &[0, 99], [3.0, 2.0, -1.0], 3), [1, 0, 0]);
        assert_eq!(choose(repetition, &[0], [-1.0, -1.5, -9.0], 1), [1]);
        let presence = Sampling {
            presence_penalty: 1.5,
            ..Sampling::greedy()
        };
        assert_eq!(choose(presence, &[0], [3.0, 2.0, 0.0], 3), [0, 1, 0]);
        let frequency = Sampling {
            frequency_penalty: 0.75,
            ..Sampling::greedy()
        };
        assert_eq!(choose(frequency, &[], [3.0, 2.0, 0.0], 4), [0, 0, 1, 0]);
    }

    #[test]
    fn what_is_no_number_is_never_chosen() {
        for logits in [
            vec![],
            vec![f32::NAN, 1.0],
            vec![1.0, f32::INFINITY],
            vec![f32::NEG_INFINITY; 2],
        ] {
            for sampling in [Sampling::greedy(), drawing()] {
                let mut sampler = Sampler::new(sampling, &[]);
                assert_eq!(sampler.choose(&mut logits.clone()), None, "{logits:?}");
            }
        }
    }
}
