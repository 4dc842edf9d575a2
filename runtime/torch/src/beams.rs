//! Beam search: of several texts that go on side by side the one that is likeliest as a whole, as transformers searches for it.
//!
//! At each token the likeliest continuations of all running texts are taken. Those that end are kept by their likelihood
//! divided by a power of their length, and the search is over when no running text can become better than the worst of them.

use std::cmp::Ordering;

use train::Generation;
use train_data::Chance;

use crate::generate::Lane;
use crate::sampler::{Sampler, Sampling};

/// How many texts are compared, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beams {
    /// Texts that go on side by side.
    pub count: usize,
    /// The power of a text's length that its likelihood is divided by: above zero long ones are preferred.
    pub length_penalty: f64,
}

impl Beams {
    /// As a job says; none: one text alone.
    pub fn of_job(generation: &Generation) -> Option<Self> {
        (generation.beams > 1).then_some(Self {
            count: generation.beams,
            length_penalty: generation.length_penalty,
        })
    }
}

/// A search for one text.
pub(crate) struct Search {
    beams: Beams,
    draws: bool,
    chance: Chance,
    ends: Vec<i64>,
    limit: usize,
    /// Tokens of each running text.
    made: usize,
    /// The best first.
    running: Vec<Beam>,
    /// Texts that have ended with what they are worth, the best first.
    ended: Vec<(f32, Vec<i64>)>,
}

/// How a search stands after a step.
pub(crate) enum Advance {
    /// Some text may still become the best.
    GoesOn,
    /// This is the best text.
    Found(Vec<i64>),
}

/// A text that goes on.
struct Beam {
    lane: Lane,
    sampler: Sampler,
    tokens: Vec<i64>,
    /// The logarithm of its likelihood.
    score: f32,
}

/// A running text with one token more.
#[derive(Clone, Copy)]
struct Step {
    beam: usize,
    token: usize,
    score: f32,
    /// What it is chosen by: the score, or where chance has a say, what it makes of it.
    rank: f32,
}

impl Search {
    /// Begins with the prompt in `lane`, for at most `limit` tokens.
    pub(crate) fn new(
        beams: Beams,
        lane: Lane,
        sampling: Sampling,
        ends: &[i64],
        limit: usize,
    ) -> Self {
        Self {
            draws: sampling.draws && sampling.temperature > 0.0,
            chance: Chance::stream(sampling.seed, sampling.stream),
            ends: ends.to_vec(),
            limit,
            made: 0,
            running: vec![Beam {
                sampler: Sampler::new(sampling, &lane.fresh),
                lane,
                tokens: Vec::new(),
                score: 0.0,
            }],
            ended: Vec::new(),
            beams,
        }
    }

    /// Whether a token ends a text.
    pub(crate) fn is_end(&self, token: Option<i64>) -> bool {
        token.is_some_and(|token| self.ends.contains(&token))
    }

    pub(crate) fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.running.iter_mut().map(|beam| &mut beam.lane)
    }

    /// Takes the logits of every running text, row after row. None: they are no numbers.
    pub(crate) fn advance(&mut self, logits: &mut [f32]) -> Option<Advance> {
        let steps = self.steps(logits)?;
        self.made += 1;
        let last = self.made >= self.limit;
        let ends = |step: &Step| last || self.ends.contains(&(step.token as i64));
        let length = (self.made as f64).powf(self.beams.length_penalty) as f32;
        for step in steps
            .iter()
            .take(self.beams.count)
            .filter(|step| ends(step))
        {
            let text = (step.score / length, self.text(step));
            self.ended.push(text);
        }
        self.ended.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.ended.truncate(self.beams.count);
        let mut next: Vec<Step> = steps.into_iter().filter(|step| !ends(step)).collect();
        next.sort_by(|a, b| b.score.total_cmp(&a.score));
        next.truncate(self.beams.count);
        let better = match (next.first(), self.ended.last()) {
            (None, _) => false,
            (Some(_), _) if self.ended.len() < self.beams.count => true,
            (Some(best), Some((worst, _))) => best.score / length > *worst,
            (Some(_), None) => true,
        };
        if better {
            self.running = next.into_iter().map(|step| self.grown(step)).collect();
            return Some(Advance::GoesOn);
        }
        let best = self.ended.first().map(|(_, text)| text.clone());
        Some(Advance::Found(best.unwrap_or_default()))
    }

    /// The continuations that come into question, the best first: so many that enough of them go on.
    fn steps(&mut self, logits: &mut [f32]) -> Option<Vec<Step>> {
        let kept = (self.ends.len() + 1).max(2) * self.beams.count;
        let width = logits.len() / self.running.len().max(1);
        let mut steps = Vec::new();
        for (beam, row) in logits.chunks_mut(width.max(1)).enumerate() {
            let running = self.running.get(beam)?;
            likelihoods(row)?;
            running.sampler.weigh(row, self.ends.len() + 1);
            for (token, likely) in row.iter().enumerate() {
                if *likely > f32::NEG_INFINITY {
                    let score = likely + running.score;
                    steps.push(Step {
                        beam,
                        token,
                        score,
                        rank: score,
                    });
                }
            }
        }
        if self.draws {
            // The greatest of these are a draw without putting back.
            for step in &mut steps {
                let unit = self.chance.unit().max(f64::MIN_POSITIVE);
                step.rank += -(-unit.ln()).ln() as f32;
            }
        }
        // Of equals the one that comes first.
        let order = |a: &Step, b: &Step| -> Ordering {
            let by_rank = b.rank.total_cmp(&a.rank);
            by_rank.then((a.beam, a.token).cmp(&(b.beam, b.token)))
        };
        if kept < steps.len() {
            steps.select_nth_unstable_by(kept - 1, order);
            steps.truncate(kept);
        }
        steps.sort_unstable_by(order);
        (!steps.is_empty()).then_some(steps)
    }

    fn text(&self, step: &Step) -> Vec<i64> {
        let mut text = self.running[step.beam].tokens.clone();
        text.push(step.token as i64);
        text
    }

    fn grown(&self, step: Step) -> Beam {
        let from = &self.running[step.beam];
        let mut sampler = from.sampler.clone();
        sampler.note(step.token);
        Beam {
            lane: from.lane.followed(step.token as i64),
            sampler,
            tokens: self.text(&step),
            score: step.score,
        }
    }
}

/// Logits as logarithms of likelihoods; none where they are no numbers.
fn likelihoods(row: &mut [f32]) -> Option<()> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !most.is_finite() || row.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    let all: f64 = row.iter().map(|logit| f64::from(logit - most).exp()).sum();
    let all = f64::from(most) + all.ln();
    for logit in row {
        *logit = (f64::from(*logit) - all) as f32;
    }
    Some(())
}
