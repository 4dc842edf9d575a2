//! Optimizer steps and evaluations.
//!
//! The loss of a step is the sum over all its label tokens divided by their number, so that a step does not depend on
//! how it is cut into micro-batches, nor on how these are dealt to processes.

use tch::{Reduction, Tensor};
use train::{Objective, StepReport};
use train_data::{Batch, IGNORED};

use super::LibtorchTrainer;
use crate::BackendError;
use crate::lay_out::lay_out_up_to;
use crate::lora::mixed;
use crate::model::Pass;
use crate::preference::{Compared, FIGURES, compare};

/// A figure's name, the sum of its values and their count.
type Figure = (&'static str, f64, f64);

impl LibtorchTrainer {
    /// The sums of the numbers over all processes.
    fn sum<const N: usize>(&self, mut numbers: [f64; N]) -> Result<[f64; N], BackendError> {
        if let Some(peers) = &self.peers {
            peers.0.sum_numbers(&mut numbers)?;
        }
        Ok(numbers)
    }

    /// How many times too large gradients are computed.
    fn scale(&self) -> f64 {
        self.scaler.map_or(1.0, |scaler| scaler.scale)
    }

    /// Adds the gradients up over all processes and applies them, unless the loss is no number or they overflowed in 16
    /// bits: the weights then stay as they are.
    fn apply(&mut self, rate: f64, report: &mut StepReport) -> Result<(), BackendError> {
        if !report.loss.is_finite() {
            report.grad_norm = f64::NAN;
            return Ok(());
        }
        let mut gradients = self.optimizer.gradients()?;
        if let Some(peers) = &self.peers {
            peers.0.sum(&mut gradients)?;
        }
        if let Some(scaler) = &mut self.scaler {
            let back = 1.0 / scaler.scale;
            tch::no_grad(|| {
                let mut gradients = gradients.iter_mut();
                gradients.try_for_each(|gradient| gradient.f_mul_scalar_(back).map(drop))
            })?;
            let finite = self.optimizer.gradient_norm()?.is_finite();
            scaler.note(finite);
            if !finite {
                report.skipped = true;
                report.grad_norm = f64::NAN;
                return self.optimizer.drop_gradients();
            }
        }
        report.grad_norm = self.optimizer.step(rate)?;
        Ok(())
    }

    pub(super) fn try_step(
        &mut self,
        batches: &[Batch],
        rate: f64,
    ) -> Result<StepReport, BackendError> {
        // Dropout depends on seed and step alone, so that a run that goes on draws what it would have drawn.
        let noise = mixed(self.seed, self.steps);
        // Each process drops something else.
        let rank = self.peers.as_ref().map_or(0, |peers| peers.0.rank());
        self.model.set_noise(match rank {
            0 => noise,
            rank => mixed(noise, rank as u64),
        });
        self.steps += 1;
        let tokens: usize = batches.iter().map(|b| b.rows * b.columns).sum();
        let labels: usize = batches.iter().map(Batch::label_tokens).sum();
        // Whole numbers of this size are exact.
        let [tokens, labels] = self.sum([tokens as f64, labels as f64])?;
        let tokens = tokens as u64;
        if self.objective != Objective::Tokens {
            return self.compare_step(batches, rate, tokens);
        }
        if labels < 1.0 {
            // Nothing to learn from: every answer was cut off. The weights stay as they are.
            return Ok(StepReport {
                tokens,
                ..StepReport::default()
            });
        }
        let (mut loss, scale) = (0.0, self.scale());
        for batch in batches {
            let (pass, targets) = self.lay_out(batch)?;
            if targets.is_empty() {
                continue;
            }
            // How evenly experts are used is judged in each micro-batch by itself. As in the original these losses are
            // added up, over the micro-batches and the processes alike.
            let part = self
                .model
                .learn_tokens(&pass, &targets, labels / scale, scale)?;
            loss += part / scale;
        }
        let [loss] = self.sum([loss])?;
        let mut report = StepReport {
            loss,
            tokens,
            ..StepReport::default()
        };
        self.apply(rate, &mut report)?;
        Ok(report)
    }

    fn compare(&mut self, batch: &Batch, training: bool) -> Result<Compared, BackendError> {
        if let Some(head) = &self.value_head {
            return head.compare(&self.model, batch, training);
        }
        let reference = self.reference.as_ref();
        // Evaluation deals its micro-batches unevenly: not every process has one at the same time.
        let peers = self.peers.as_ref().filter(|_| training);
        compare(self.objective, &mut self.model, reference, peers, batch)
    }

    /// A step whose loss is the mean over its micro-batches.
    fn compare_step(
        &mut self,
        batches: &[Batch],
        rate: f64,
        tokens: u64,
    ) -> Result<StepReport, BackendError> {
        let [micro] = self.sum([batches.len().max(1) as f64])?;
        let share = 1.0 / micro;
        let mut report = StepReport {
            tokens,
            ..StepReport::default()
        };
        let mut figures: Vec<Figure> = Vec::new();
        for batch in batches {
            let compared = self.compare(batch, true)?;
            let part = compared.loss.f_mul_scalar(share)?;
            report.loss += part.f_double_value(&[])?;
            part.f_mul_scalar(self.scale())?.f_backward()?;
            for (name, value, count) in compared.metrics {
                let count = count as f64;
                match figures.iter_mut().find(|(known, _, _)| *known == name) {
                    Some((_, sum, all)) => {
                        *sum += value * count;
                        *all += count;
                    }
                    None => figures.push((name, value * count, count)),
                }
            }
        }
        if self.peers.is_some() {
            [report.loss] = self.sum([report.loss])?;
            figures = self.joined(&figures)?;
        }
        let means = figures.into_iter();
        report.metrics = means.map(|(name, sum, all)| (name, sum / all)).collect();
        self.apply(rate, &mut report)?;
        Ok(report)
    }

    /// Sums and counts of the figures of all processes; one of them may lack some that another has.
    fn joined(&self, figures: &[Figure]) -> Result<Vec<Figure>, BackendError> {
        let mut numbers = [0.0; 2 * FIGURES.len()];
        for (name, sum, count) in figures {
            if let Some(place) = FIGURES.iter().position(|known| known == name) {
                numbers[2 * place] = *sum;
                numbers[2 * place + 1] = *count;
            }
        }
        let numbers = self.sum(numbers)?;
        let all = FIGURES.iter().zip(numbers.chunks(2));
        let all = all.map(|(name, pair)| (*name, pair[0], pair[1]));
        Ok(all.filter(|(_, _, count)| *count > 0.0).collect())
    }

    pub(super) fn try_evaluate(&mut self, batch: &Batch) -> Result<f64, BackendError> {
        if self.objective != Objective::Tokens {
            let compared = tch::no_grad(|| self.compare(batch, false))?;
            return Ok(compared.loss.f_double_value(&[])?);
        }
        if self.model.balance().is_none() {
            // As in the original a label that nothing predicts counts, too.
            let (sum, _) = self.model.text_loss(batch)?;
            return Ok(sum / batch.label_tokens().max(1) as f64);
        }
        let (pass, targets) = self.lay_out(batch)?;
        if targets.is_empty() {
            return Ok(0.0);
        }
        tch::no_grad(|| {
            let (logits, uneven) = self.model.logits_and_balance(&pass)?;
            let targets = self.model.place().of_slice(&targets)?;
            let none = None::<&Tensor>;
            let sum = logits.f_cross_entropy_loss(&targets, none, Reduction::Sum, IGNORED, 0.0)?;
            Ok(sum.f_double_value(&[])? / batch.label_tokens() as f64 + uneven)
        })
    }

    /// The batch as a pass. Where the use of experts is part of the loss, every token counts.
    fn lay_out(&self, batch: &Batch) -> Result<(Pass, Vec<i64>), BackendError> {
        lay_out_up_to(batch, self.model.balance().is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::thread;

    use torch_device::{Alarm, Group, Meeting};
    use train::Trainer as _;

    use super::*;
    use crate::lay_out::tests::batch;
    use crate::optimizer::AdamSettings;
    use crate::peers::Peers;
    use crate::scaler::Scaler;
    use crate::settings::{Holding, LoraSettings, Method, Precision, Tuning};

    fn trainer(precision: Precision, dropout: f64) -> LibtorchTrainer {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model");
        let source = crate::open(Path::new(golden), Path::new("unused"), &report::Silent).unwrap();
        let tuning = Tuning {
            method: Method::Lora {
                settings: LoraSettings {
                    dropout,
                    ..LoraSettings::of_rank(2)
                },
                merge_first: Vec::new(),
                start_from: None,
            },
            holding: Holding {
                precision,
                ..Holding::default()
            },
        };
        LibtorchTrainer::new(source, "model", tuning, AdamSettings::default(), 1).unwrap()
    }

    fn weights(trainer: &LibtorchTrainer) -> Vec<Tensor> {
        let all = trainer.optimizer.parameters();
        all.iter().map(Tensor::copy).collect()
    }

    const NO: i64 = IGNORED;
    const TAUGHT: [i64; 8] = [NO, NO, 12, 13, NO, NO, 16, 17];

    #[test]
    fn a_step_that_overflows_in_16_bits_is_left_out() {
        let mut trainer = trainer(Precision::Float16, 0.0);
        let batch = batch([1; 8], TAUGHT);
        let before = weights(&trainer);
        let scale = 2.0_f64.powi(60);
        trainer.scaler.as_mut().unwrap().scale = scale;
        let batch = std::slice::from_ref(&batch);
        let report = trainer.try_step(batch, 0.1).unwrap();
        assert!(report.skipped && report.loss.is_finite(), "{report:?}");
        assert_eq!(weights(&trainer), before);
        let now = trainer.scaler.unwrap();
        assert_eq!((now.scale, now.skipped), (scale / 2.0, 1));
        // A run that goes on knows both.
        let folder = tempfile::tempdir().unwrap();
        trainer.save(folder.path()).unwrap();
        trainer.save_state(folder.path()).unwrap();
        trainer.scaler = Some(Scaler::default());
        trainer.load(folder.path(), true).unwrap();
        assert_eq!((trainer.scaler, trainer.steps), (Some(now), 1));
        // Scaled less and less, it goes well.
        trainer.scaler = Some(Scaler::default());
        let mut reports = (0..16).map(|_| trainer.try_step(batch, 0.1).unwrap());
        let learnt = reports.find(|report| !report.skipped).unwrap();
        assert!(learnt.grad_norm > 0.0, "{learnt:?}");
        drop(reports);
        assert_ne!(weights(&trainer), before);
    }

    #[test]
    fn an_overflow_in_one_process_leaves_the_step_out_in_all() {
        let meeting = Meeting::open(2).unwrap();
        let other = Meeting {
            rank: 1,
            listener: None,
            bridge: None,
            alarm: Alarm::default(),
            ..meeting
        };
        let of = |meeting: Meeting, labels: [i64; 8]| {
            let mut trainer = trainer(Precision::Float16, 0.0)
                .with_peers(Peers(Arc::new(Group::join(meeting).unwrap())))
                .unwrap();
            let before = weights(&trainer);
            trainer.scaler.as_mut().unwrap().scale = 2.0_f64.powi(60);
            let report = trainer.try_step(&[batch([1; 8], labels)], 0.1).unwrap();
            assert!(report.skipped, "{report:?}");
            assert_eq!(weights(&trainer), before);
            (report.loss.to_bits(), trainer.scaler.unwrap())
        };
        // Of one of them the gradients are zero, and finite.
        let second = thread::spawn(move || of(other, [NO; 8]));
        let first = of(meeting, TAUGHT);
        let second = second.join().unwrap();
        assert_eq!(first, second);
        assert!((first.1.scale - 2.0_f64.powi(59)).abs() < 1.0);
    }

    #[test]
    fn a_run_with_nothing_to_learn_in_a_step_goes_on_to_the_same_bits() {
        let taught = [batch([1; 8], TAUGHT)];
        let empty = [batch([1; 8], [NO; 8])];
        let folder = tempfile::tempdir().unwrap();
        let mut whole = trainer(Precision::Float32, 0.5);
        for batches in [&taught, &empty] {
            whole.try_step(batches, 0.1).unwrap();
        }
        whole.save(folder.path()).unwrap();
        whole.save_state(folder.path()).unwrap();
        let mut resumed = trainer(Precision::Float32, 0.5);
        resumed.load(folder.path(), true).unwrap();
        let [there, here] = [&mut whole, &mut resumed]
            .map(|trainer| trainer.try_step(&taught, 0.1).unwrap().loss.to_bits());
        assert_eq!(there, here);
        assert_eq!(weights(&whole), weights(&resumed));
    }
}
