//! Losses that compare answers: DPO and its kin, and KTO.
//!
//! ```text
//! rows --model--> log-likelihood of each row's labels --+--> loss of the micro-batch, its mean
//! rows --reference, nothing learnt--------------------- ^
//! ```
//!
//! The reference is the model without its adapter, or, where all weights are trained, a second copy of it. As in the
//! original nothing is dropped at random, and a step's loss is the mean over its micro-batches.
//! Sources: Rafailov 2023 (DPO), Azar 2023 (IPO), Hong 2024 (ORPO), Meng 2024 (`SimPO`), Ethayarajh 2024 (KTO).

use tch::{Kind, Reduction, Tensor};
use torch_device::Place;
use train::{FeedbackSettings, Objective, PreferenceLoss, PreferenceSettings};
use train_data::{Batch, IGNORED};

use crate::BackendError;
use crate::lay_out::lay_out;
use crate::model::Model;
use crate::peers::Peers;

/// Every figure there is, by the name that the original logs it under.
pub(crate) const FIGURES: [&str; 9] = [
    "kl",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "sft_loss",
    "odds_ratio_loss",
];

/// A loss with the figures that the original logs beside it.
pub(crate) struct Compared {
    /// One number, from which gradients flow.
    pub(crate) loss: Tensor,
    /// Name, mean, and how many answers or pairs it is the mean of.
    pub(crate) metrics: Vec<(&'static str, f64, usize)>,
}

/// Log-likelihoods of a batch's answers.
struct Answers {
    /// One number a row: the sum over its labels.
    sums: Tensor,
    /// How many labels each row has, at least one.
    counts: Tensor,
}

impl Answers {
    /// `tail`: weight of a row's labels beyond the length of the other answer's.
    fn of(model: &Model, batch: &Batch, tail: Option<f64>) -> Result<Self, BackendError> {
        let (pass, targets) = lay_out(batch)?;
        let (mut rows, mut counts) = (Vec::with_capacity(targets.len()), Vec::new());
        for (row, labels) in batch.labels.chunks(batch.columns.max(1)).enumerate() {
            let count = labels.iter().skip(1).filter(|l| **l != IGNORED).count();
            rows.resize(rows.len() + count, row as i64);
            counts.push(count.max(1) as f32);
        }
        let place = model.place();
        let zeros = place.zeros(&[batch.rows as i64], Kind::Float)?;
        let counts = place.of_slice(&counts)?;
        if targets.is_empty() {
            return Ok(Self {
                sums: zeros,
                counts,
            });
        }
        let logits = model.logits(&pass, false)?;
        let targets = place.of_slice(&targets)?;
        let losses = logits.f_cross_entropy_loss(
            &targets,
            None::<&Tensor>,
            Reduction::None,
            IGNORED,
            0.0,
        )?;
        let losses = match tail {
            None => losses,
            Some(tail) => losses.f_mul(&place.of_slice(&weights(batch, tail))?)?,
        };
        let rows = place.of_slice(&rows)?;
        Ok(Self {
            sums: zeros.f_index_add(0, &rows, &losses.f_neg()?)?,
            counts,
        })
    }

    fn means(&self) -> Result<Tensor, BackendError> {
        Ok(self.sums.f_div(&self.counts)?)
    }
}

/// One for each label up to the length of the shorter of two answers, counted from the first one, and `tail` for each behind.
fn weights(batch: &Batch, tail: f64) -> Vec<f32> {
    let labels = |row: usize| {
        let cells = row * batch.columns..(row + 1) * batch.columns;
        let labels = batch.labels[cells].iter().enumerate().skip(1);
        labels.filter(|(_, label)| **label != IGNORED)
    };
    let rows = 0..batch.rows;
    let weights = rows.flat_map(|row| {
        let other = (row + batch.rows / 2) % batch.rows;
        let common = labels(row).count().min(labels(other).count());
        let first = labels(row).next().map_or(0, |(at, _)| at);
        labels(row).map(move |(at, _)| {
            if at < first + common {
                1.0
            } else {
                tail as f32
            }
        })
    });
    weights.collect()
}

/// The first and the second half of a batch's rows.
fn halves(rows: &Tensor) -> Result<(Tensor, Tensor), BackendError> {
    let half = rows.size1()? / 2;
    Ok((rows.f_narrow(0, 0, half)?, rows.f_narrow(0, half, half)?))
}

/// Computes one micro-batch. `reference`: the model before training, where it is not `model` without its adapter;
/// `peers`: the processes that compute theirs at the same time.
pub(crate) fn compare(
    objective: Objective,
    model: &mut Model,
    reference: Option<&Model>,
    peers: Option<&Peers>,
    batch: &Batch,
) -> Result<Compared, BackendError> {
    match objective {
        Objective::Tokens | Objective::Reward => Err(BackendError::BadBatch {
            reason: "it holds nothing to compare".to_owned(),
        }),
        Objective::Preference(settings) => preference(settings, model, reference, batch),
        Objective::Feedback(settings) => feedback(settings, model, reference, peers, batch),
    }
}

/// Log-likelihood sums of the reference, from which nothing is learnt.
fn before(
    model: &mut Model,
    reference: Option<&Model>,
    batch: &Batch,
) -> Result<Answers, BackendError> {
    tch::no_grad(|| match reference {
        Some(reference) => Answers::of(reference, batch, None),
        None => without_adapter(model, |model| Answers::of(model, batch, None)),
    })
}

fn without_adapter<T>(model: &mut Model, act: impl FnOnce(&Model) -> T) -> T {
    let layers = model.linears_mut();
    let taken: Vec<_> = layers.map(|layer| layer.correction.take()).collect();
    let made = act(model);
    for (layer, correction) in model.linears_mut().zip(taken) {
        layer.correction = correction;
    }
    made
}

fn preference(
    settings: PreferenceSettings,
    model: &mut Model,
    reference: Option<&Model>,
    batch: &Batch,
) -> Result<Compared, BackendError> {
    let PreferenceSettings { loss, beta, .. } = settings;
    if batch.rows == 0 || !batch.rows.is_multiple_of(2) {
        return Err(BackendError::BadBatch {
            reason: format!("{} answers are no pairs", batch.rows),
        });
    }
    let likelihoods = |answers: &Answers| {
        if loss.averages() {
            answers.means()
        } else {
            Ok(answers.sums.shallow_clone())
        }
    };
    // As in the original the reference counts every token.
    let answers = Answers::of(model, batch, settings.tail)?;
    let (chosen, rejected) = halves(&likelihoods(&answers)?)?;
    let (mut chosen_gain, mut rejected_gain) = (chosen.shallow_clone(), rejected.shallow_clone());
    if loss.needs_reference() {
        let (was_chosen, was_rejected) = halves(&likelihoods(&before(model, reference, batch)?)?)?;
        chosen_gain = chosen.f_sub(&was_chosen)?;
        rejected_gain = rejected.f_sub(&was_rejected)?;
    }
    let margin = chosen_gain.f_sub(&rejected_gain)?;
    let losses = losses(settings, &chosen, &rejected, &margin)?;
    let (own, _) = halves(&answers.means()?)?;
    let own = own.f_neg()?;
    let losses = if settings.ftx > 1e-6 {
        losses.f_add(&own.f_mul_scalar(settings.ftx)?)?
    } else {
        losses
    };
    let mean = |t: &Tensor| -> Result<f64, BackendError> {
        Ok(t.f_detach()?.f_mean(Kind::Float)?.f_double_value(&[])?)
    };
    let won = chosen_gain
        .f_gt_tensor(&rejected_gain)?
        .f_to_kind(Kind::Float)?;
    // The original takes the mean of the micro-batches, whatever their sizes.
    let mut metrics = vec![
        ("rewards/chosen", beta * mean(&chosen_gain)?, 1),
        ("rewards/rejected", beta * mean(&rejected_gain)?, 1),
        ("rewards/accuracies", mean(&won)?, 1),
        ("rewards/margins", beta * mean(&margin)?, 1),
        ("logps/chosen", mean(&chosen)?, 1),
        ("logps/rejected", mean(&rejected)?, 1),
    ];
    if loss == PreferenceLoss::Orpo {
        metrics.push(("sft_loss", mean(&own)?, 1));
        metrics.push(("odds_ratio_loss", mean(&losses.f_sub(&own)?)? / beta, 1));
    }
    Ok(Compared {
        loss: losses.f_mean(Kind::Float)?,
        metrics,
    })
}

/// The loss of each pair. `margin`: by how much more the chosen answer gained than the rejected one.
fn losses(
    settings: PreferenceSettings,
    chosen: &Tensor,
    rejected: &Tensor,
    margin: &Tensor,
) -> Result<Tensor, BackendError> {
    let PreferenceSettings { beta, gamma, .. } = settings;
    let scaled = margin.f_mul_scalar(beta)?;
    let unlikely = |t: &Tensor| -> Result<Tensor, BackendError> { Ok(t.f_log_sigmoid()?.f_neg()?) };
    Ok(match settings.loss {
        PreferenceLoss::Sigmoid if settings.smoothing > 0.0 => {
            let wrong = unlikely(&scaled.f_neg()?)?.f_mul_scalar(settings.smoothing)?;
            unlikely(&scaled)?
                .f_mul_scalar(1.0 - settings.smoothing)?
                .f_add(&wrong)?
        }
        PreferenceLoss::Sigmoid => unlikely(&scaled)?,
        PreferenceLoss::Hinge => scaled.f_neg()?.f_add_scalar(1.0)?.f_relu()?,
        PreferenceLoss::Ipo => margin.f_sub_scalar(1.0 / (2.0 * beta))?.f_square()?,
        PreferenceLoss::Simpo => unlikely(&margin.f_sub_scalar(gamma / beta)?.f_mul_scalar(beta)?)?,
        PreferenceLoss::Orpo => {
            let against = |t: &Tensor| t.f_exp()?.f_neg()?.f_log1p();
            let odds = against(chosen)?.f_sub(&against(rejected)?)?;
            let ratio = unlikely(&margin.f_sub(&odds)?)?;
            ratio.f_mul_scalar(beta)?.f_sub(chosen)?
        }
    })
}

fn feedback(
    settings: FeedbackSettings,
    model: &mut Model,
    reference: Option<&Model>,
    peers: Option<&Peers>,
    batch: &Batch,
) -> Result<Compared, BackendError> {
    let bad = |reason: &str| BackendError::BadBatch {
        reason: reason.to_owned(),
    };
    let Some(mismatched) = &batch.mismatched else {
        return Err(bad("it has no mismatched answers"));
    };
    if batch.desirable.len() != batch.rows || batch.rows == 0 {
        return Err(bad("not each of its answers is judged"));
    }
    let answers = Answers::of(model, batch, None)?;
    let gain = answers.sums.f_sub(&before(model, reference, batch)?.sums)?;
    // How far the model has moved at all, seen on answers that belong to other questions.
    let moved = tch::no_grad(|| Answers::of(model, mismatched, None))?
        .sums
        .f_sub(&before(model, reference, mismatched)?.sums)?
        .f_mean(Kind::Float)?
        .f_double_value(&[])?;
    // Over all processes, as in the original.
    let moved = match peers {
        Some(peers) => peers.mean(moved)?,
        None => moved,
    };
    let moved = moved.clamp(0.0, f64::INFINITY);
    let good: Vec<f32> = batch.desirable.iter().map(|g| f32::from(*g)).collect();
    let good = Place::of(&gain).of_slice(&good)?;
    let bad = good.f_neg()?.f_add_scalar(1.0)?;
    // 1 - sigmoid(beta * d), with d seen from the side of the judgement.
    let side = good.f_sub(&bad)?;
    let distance = gain.f_sub_scalar(moved)?.f_mul(&side)?;
    let loss = distance
        .f_mul_scalar(settings.beta)?
        .f_sigmoid()?
        .f_neg()?
        .f_add_scalar(1.0)?;
    let weights = good
        .f_mul_scalar(settings.desirable_weight)?
        .f_add(&bad.f_mul_scalar(settings.undesirable_weight)?)?;
    let mut loss = loss.f_mul(&weights)?.f_mean(Kind::Float)?;
    let desired = batch.desirable.iter().filter(|g| **g).count();
    if settings.ftx > 1e-6 && desired > 0 {
        // As in the original: the mean over the good answers, scaled once more by their share of the batch.
        let own = answers.means()?.f_mul(&good)?.f_sum(Kind::Float)?;
        let scale = settings.ftx * batch.rows as f64 / (desired * desired) as f64;
        loss = loss.f_sub(&own.f_mul_scalar(scale)?)?;
    }
    let mean_over = |t: &Tensor, mask: &Tensor, count: usize| -> Result<f64, BackendError> {
        let sum = t.f_detach()?.f_mul(mask)?.f_sum(Kind::Float)?;
        Ok(sum.f_double_value(&[])? / count as f64)
    };
    let mut metrics = vec![("kl", moved, 1)];
    for (mask, count, reward, likelihood) in [
        (&good, desired, "rewards/chosen", "logps/chosen"),
        (
            &bad,
            batch.rows - desired,
            "rewards/rejected",
            "logps/rejected",
        ),
    ] {
        if count > 0 {
            let gained = settings.beta * mean_over(&gain, mask, count)?;
            metrics.push((reward, gained, count));
            metrics.push((likelihood, mean_over(&answers.sums, mask, count)?, count));
        }
    }
    Ok(Compared { loss, metrics })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(loss: PreferenceLoss, smoothing: f64, margin: f64) -> f64 {
        let settings = PreferenceSettings {
            loss,
            beta: 0.5,
            smoothing,
            ftx: 0.0,
            gamma: 0.3,
            tail: None,
        };
        let (chosen, rejected) = (-0.4, -0.4 - margin);
        let tensor = |number: f64| Tensor::from_slice(&[number]);
        let losses = losses(
            settings,
            &tensor(chosen),
            &tensor(rejected),
            &tensor(margin),
        );
        losses.unwrap().double_value(&[0])
    }

    #[test]
    fn tokens_beyond_the_other_answer_weigh_less() {
        let no = IGNORED;
        let batch = Batch {
            rows: 2,
            columns: 5,
            labels: vec![no, 7, 7, 7, 7, no, no, 7, 7, no],
            ..Batch::default()
        };
        assert_eq!(weights(&batch, 0.25), [1.0, 1.0, 0.25, 0.25, 1.0, 1.0]);
    }

    /// The formulas of the papers, written out in numbers.
    #[test]
    fn each_loss_is_its_formula() {
        let (margin, beta) = (0.7_f64, 0.5_f64);
        let unlikely = |x: f64| (1.0 + (-x).exp()).ln();
        let odds = |p: f64| p - (1.0 - p.exp()).ln();
        let orpo = 0.4 + beta * unlikely(odds(-0.4) - odds(-1.1));
        for (loss, smoothing, expected) in [
            (PreferenceLoss::Sigmoid, 0.0, unlikely(beta * margin)),
            (
                PreferenceLoss::Sigmoid,
                0.2,
                0.8 * unlikely(beta * margin) + 0.2 * unlikely(-beta * margin),
            ),
            (PreferenceLoss::Hinge, 0.0, 1.0 - beta * margin),
            (PreferenceLoss::Ipo, 0.0, (margin - 1.0).powi(2)),
            (PreferenceLoss::Simpo, 0.0, unlikely(beta * margin - 0.3)),
            (PreferenceLoss::Orpo, 0.0, orpo),
        ] {
            let found = value(loss, smoothing, margin);
            assert!(
                (found - expected).abs() < 1e-12,
                "{loss:?}: {found} {expected}"
            );
        }
    }
}
