//! The training loop's trait, on libtorch.
//!
//! The loss of a step is the sum over all its label tokens divided by their number, so that a step does not depend on
//! how it is cut into micro-batches.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tch::{Reduction, Tensor};
use train::{Objective, StepReport, TrainError, Trainer};
use train_data::{Batch, IGNORED};

use crate::files::TensorFiles;
use crate::lora::{Linear, mixed};
use crate::model::{Model, Pass};
use crate::optimizer::{AdamSettings, AdamW};
use crate::peers::Peers;
use crate::preference::{Compared, FIGURES, compare};
use crate::scaler::Scaler;
use crate::settings::{Holding, LoraSettings, Method, Precision, Tuning};
use crate::source::ModelFiles;
use crate::value_head::{self, ValueHead};
use crate::{BackendError, adapter, files, output};

/// Means and squares of the gradients, in a checkpoint.
const OPTIMIZER: &str = "optimizer.safetensors";

/// A figure's name, the sum of its values and their count.
type Figure = (&'static str, f64, f64);

/// A model under training.
#[derive(Debug)]
pub struct LibtorchTrainer {
    model: Model,
    source: ModelFiles,
    base: String,
    lora: Option<LoraSettings>,
    /// Names of the model's own tensors that train.
    own: BTreeSet<String>,
    /// A and B as `PiSSA` made them.
    start: Option<Vec<(Tensor, Tensor)>>,
    optimizer: AdamW,
    seed: u64,
    steps: u64,
    objective: Objective,
    /// The model before training, where the trained one cannot go back to it.
    reference: Option<Model>,
    /// What makes a reward of the model's state.
    value_head: Option<ValueHead>,
    start_from: Option<PathBuf>,
    /// The other processes of the run.
    peers: Option<Peers>,
    /// How the loss is scaled, where it is.
    scaler: Option<Scaler>,
}

impl LibtorchTrainer {
    /// Loads the model in `source` and makes it trainable. `base` is the name that a saved adapter gives its model;
    /// `seed` decides a fresh adapter's weights and dropout.
    pub fn new(
        source: ModelFiles,
        base: impl Into<String>,
        tuning: Tuning,
        adam: AdamSettings,
        seed: u64,
    ) -> Result<Self, BackendError> {
        tch::manual_seed(seed as i64);
        let Tuning { method, holding } = tuning;
        let lora = matches!(method, Method::Lora { .. });
        let start_from = match &method {
            Method::Lora { start_from, .. } => start_from.clone(),
            Method::Freeze(_) | Method::Full => None,
        };
        let mut model = source.load_as(holding)?;
        if !lora && model.is_packed() {
            return Err(BackendError::NotOnPacked {
                what: "full and freeze tuning",
            });
        }
        let (lora, own, start) = prepare(&mut model, method)?;
        // Found out now, before anything is written: a run on such weights would diverge at its first step.
        if let Some(tensor) = model.broken_weight()? {
            return Err(BackendError::BrokenWeight { tensor });
        }
        model.free(&|name| own.contains(name))?;
        model.free_corrections()?;
        let mut parameters = model.adapter_tensors();
        parameters.extend(model.named(&own));
        let optimizer = AdamW::new(adam, parameters)?;
        Ok(Self {
            model,
            source,
            base: base.into(),
            lora,
            own,
            start,
            optimizer,
            seed,
            steps: 0,
            objective: Objective::Tokens,
            reference: None,
            value_head: None,
            start_from,
            peers: None,
            scaler: (holding.precision == Precision::Float16).then(Scaler::default),
        })
    }

    /// Learns from comparisons or judgements instead of from tokens. Where all weights are trained this loads the
    /// model a second time, if the loss asks what it said before.
    pub fn with_objective(mut self, objective: Objective) -> Result<Self, BackendError> {
        if objective.needs_reference() && self.lora.is_none() {
            self.reference = Some(self.source.load_as(Holding {
                place: self.model.place(),
                ..Holding::default()
            })?);
        }
        if objective == Objective::Reward {
            let width = self.model.config().hidden;
            let (start_from, place) = (self.start_from.as_deref(), self.model.place());
            let head = ValueHead::start(&self.source, start_from, width, place)?;
            self.optimizer.add(head.tensors())?;
            self.value_head = Some(head);
        }
        self.objective = objective;
        Ok(self)
    }

    /// Adds the loss of how evenly experts are used, with this weight instead of what `config.json` says. Models without
    /// experts have no such loss.
    #[must_use]
    pub fn with_router_loss(mut self, weight: Option<f64>) -> Self {
        if let Some(weight) = weight
            && let Some(mixture) = &mut self.model.config.mixture
        {
            mixture.balance = Some(weight);
        }
        self
    }

    /// Shares each step with the other processes of the run, which begins with the first one's weights. To be called last.
    pub fn with_peers(mut self, peers: Peers) -> Result<Self, BackendError> {
        peers.0.share(&mut self.optimizer.parameters())?;
        self.peers = Some(peers);
        Ok(self)
    }

    /// The sums of the numbers over all processes.
    fn sum<const N: usize>(&self, mut numbers: [f64; N]) -> Result<[f64; N], BackendError> {
        if let Some(peers) = &self.peers {
            peers.0.sum_numbers(&mut numbers)?;
        }
        Ok(numbers)
    }

    fn processes(&self) -> f64 {
        self.peers.as_ref().map_or(1, |peers| peers.0.count()) as f64
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

    /// The model as it is now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Length of all gradients gathered since the last step, taken together.
    pub fn gradient_length(&self) -> Result<f64, BackendError> {
        self.optimizer.gradient_norm()
    }

    /// Numbers that are trained, and numbers in all.
    pub fn parameter_counts(&self) -> (usize, usize) {
        let count = |tensors: Vec<(String, &Tensor)>| -> usize {
            tensors.iter().map(|(_, tensor)| tensor.numel()).sum()
        };
        let adapter = count(self.model.adapter_tensors());
        let packed: usize = self
            .model
            .linears()
            .filter(|layer| layer.weight.is_packed())
            .map(|layer| layer.weight.count())
            .sum();
        (
            adapter + count(self.model.named(&self.own)),
            adapter + packed + count(self.model.own_tensors()),
        )
    }

    fn try_step(&mut self, batches: &[Batch], rate: f64) -> Result<StepReport, BackendError> {
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
            // How evenly experts are used is judged in each process by itself.
            let even = scale / self.processes();
            loss += self
                .model
                .learn_tokens(&pass, &targets, labels / scale, even)?
                / scale;
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

    fn try_evaluate(&mut self, batch: &Batch) -> Result<f64, BackendError> {
        if self.objective != Objective::Tokens {
            let compared = tch::no_grad(|| self.compare(batch, false))?;
            return Ok(compared.loss.f_double_value(&[])?);
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

    fn try_load(&mut self, folder: &Path, state: bool) -> Result<(), BackendError> {
        let mut weights = if self.lora.is_some() {
            TensorFiles::open_file(&folder.join(adapter::WEIGHTS))?
        } else {
            TensorFiles::open_folder(folder)?
        };
        self.optimizer
            .load_parameters(&mut weights, value_head::PREFIX, false)?;
        if self.value_head.is_some() {
            let mut head = TensorFiles::open_file(&folder.join(value_head::FILE))?;
            self.optimizer
                .load_parameters(&mut head, value_head::PREFIX, true)?;
        }
        if state {
            let scaler = self.scaler.as_mut();
            self.optimizer.load(&folder.join(OPTIMIZER), scaler)?;
            let skipped = self.scaler.map_or(0, |scaler| scaler.skipped);
            self.steps = self.optimizer.steps() + u64::from(skipped);
        }
        Ok(())
    }

    fn try_save(&self, folder: &Path) -> Result<(), BackendError> {
        if let Some(settings) = &self.lora {
            let start = self.start.as_deref();
            self.model
                .save_adapter_from(folder, settings, &self.base, start)?;
        } else {
            let tensors = self.model.own_tensors();
            output::placed(&folder.join("model.safetensors"), |fresh| {
                files::write(fresh, tensors.iter().map(|(name, t)| (name.as_str(), *t)))
            })?;
            self.source.copy_config(folder)?;
        }
        if let Some(head) = &self.value_head {
            head.save(folder)?;
        }
        self.source.copy_tokenizer(folder)
    }
}

impl Trainer for LibtorchTrainer {
    fn step(&mut self, batches: &[Batch], learning_rate: f64) -> Result<StepReport, TrainError> {
        self.try_step(batches, learning_rate)
            .map_err(failed("compute an optimizer step"))
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<f64, TrainError> {
        self.try_evaluate(batch)
            .map_err(failed("compute the loss of an evaluation batch"))
    }

    fn save(&mut self, folder: &Path) -> Result<(), TrainError> {
        self.try_save(folder).map_err(saving(folder))
    }

    fn save_state(&mut self, folder: &Path) -> Result<(), TrainError> {
        self.optimizer
            .save(&folder.join(OPTIMIZER), self.scaler.as_ref())
            .map_err(saving(folder))
    }

    fn load(&mut self, folder: &Path, state: bool) -> Result<(), TrainError> {
        let action = format!("load the checkpoint `{}`", folder.display());
        self.try_load(folder, state).map_err(failed(action))
    }
}

/// What [`prepare`] made ready: the adapter's settings, the names of the model's own tensors that train, and A and B as
/// `PiSSA` made them.
type Prepared = (
    Option<LoraSettings>,
    BTreeSet<String>,
    Option<Vec<(Tensor, Tensor)>>,
);

/// Chooses what trains, and adds or loads the adapter.
fn prepare(model: &mut Model, method: Method) -> Result<Prepared, BackendError> {
    match method {
        Method::Full => {
            let all = model.own_tensors().into_iter();
            let own = all.map(|(name, _)| name).collect();
            Ok((None, own, None))
        }
        Method::Freeze(settings) => {
            let own = model.frozen_but(&settings)?;
            Ok((None, own, None))
        }
        Method::Lora {
            settings,
            merge_first,
            start_from,
        } => {
            for folder in &merge_first {
                model.load_adapter(folder, 0.0)?;
                model.linears().try_for_each(Linear::pass_over)?;
                model.merge()?;
            }
            let (settings, own) = if let Some(folder) = start_from {
                let settings = model.load_adapter(&folder, settings.dropout)?;
                model.linears().try_for_each(Linear::pass_over)?;
                let own = model.whole_modules(&settings.whole_modules)?;
                (settings, own)
            } else {
                model.add_lora(&settings)?;
                let own = model.whole_modules(&settings.whole_modules)?;
                (settings, own)
            };
            let start = settings.pissa.map(|_| model.corrections()).transpose()?;
            Ok((Some(settings), own, start))
        }
    }
}

fn saving(folder: &Path) -> impl FnOnce(BackendError) -> TrainError {
    failed(format!("save to `{}`", folder.display()))
}

/// The loop's error for one of this crate. Memory that ran out is told apart: there is something to do about it.
fn failed(action: impl Into<String>) -> impl FnOnce(BackendError) -> TrainError {
    let action = action.into();
    move |source| {
        let memory = matches!(source, BackendError::OutOfMemory { .. });
        let source = Box::new(source);
        if memory {
            TrainError::OutOfMemory { action, source }
        } else {
            TrainError::Backend { action, source }
        }
    }
}

/// Lays the rows of a batch end to end, without padding and without the tokens after the last one that predicts a label:
/// a decoder looks only back, so these change no loss. Returns what to compute, and the label of each wanted position.
pub(crate) fn lay_out(batch: &Batch) -> Result<(Pass, Vec<i64>), BackendError> {
    lay_out_up_to(batch, false)
}

/// The same; where `whole`, with those last tokens.
fn lay_out_up_to(batch: &Batch, whole: bool) -> Result<(Pass, Vec<i64>), BackendError> {
    let bad = |reason: &str| BackendError::BadBatch {
        reason: reason.to_owned(),
    };
    let cells = batch.rows * batch.columns;
    let columns = [&batch.input_ids, &batch.labels, &batch.attention_mask];
    if columns.iter().any(|column| column.len() != cells) {
        return Err(bad("its columns differ in length"));
    }
    let (mut pass, mut targets) = (Pass::default(), Vec::new());
    for row in 0..batch.rows {
        let cells = row * batch.columns..(row + 1) * batch.columns;
        let labels = &batch.labels[cells.clone()];
        let mask = &batch.attention_mask[cells.clone()];
        let length = mask.iter().take_while(|on| **on != 0).count();
        if mask[length..].iter().any(|on| *on != 0) {
            return Err(bad("it is padded elsewhere than on the right"));
        }
        let start = pass.tokens.len() as i64;
        let mut used = 0;
        for (at, label) in labels.iter().enumerate().skip(1) {
            if *label != IGNORED {
                if at >= length {
                    return Err(bad("a label stands on padding"));
                }
                used = at;
                pass.wanted.push(start + at as i64 - 1);
                targets.push(*label);
            }
        }
        let used = if whole { length } else { used };
        if used > 0 {
            let ids = &batch.input_ids[cells.clone()];
            pass.tokens.extend_from_slice(&ids[..used]);
            let segments = mask[..used].chunk_by(|a, b| a == b);
            pass.segments.extend(segments.map(|part| part.len() as i64));
            if let Some(positions) = batch.positions.get(cells) {
                pass.positions.extend_from_slice(&positions[..used]);
            }
        }
    }
    Ok((pass, targets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(mask: [i64; 8], labels: [i64; 8]) -> Batch {
        Batch {
            rows: 2,
            columns: 4,
            input_ids: (10..18).collect(),
            labels: labels.to_vec(),
            attention_mask: mask.to_vec(),
            ..Batch::default()
        }
    }

    #[test]
    fn rows_lie_end_to_end_up_to_the_last_token_that_predicts() {
        let no = IGNORED;
        let (pass, targets) = lay_out(&batch(
            [1, 1, 1, 1, 1, 1, 0, 0],
            [no, no, 12, no, no, 15, no, no],
        ))
        .unwrap();
        assert_eq!(pass.tokens, [10, 11, 14]);
        assert_eq!(pass.segments, [2, 1]);
        assert_eq!((pass.wanted, targets), (vec![1, 2], vec![12, 15]));
    }

    #[test]
    fn a_step_that_overflows_in_16_bits_is_left_out() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model");
        let source = crate::open(Path::new(golden), Path::new("unused"), &report::Silent).unwrap();
        let tuning = Tuning {
            method: Method::Lora {
                settings: LoraSettings::of_rank(2),
                merge_first: Vec::new(),
                start_from: None,
            },
            holding: Holding {
                precision: Precision::Float16,
                ..Holding::default()
            },
        };
        let adam = AdamSettings::default();
        let mut trainer = LibtorchTrainer::new(source, "model", tuning, adam, 1).unwrap();
        let no = IGNORED;
        let batch = batch([1; 8], [no, no, 12, 13, no, no, 16, 17]);
        let weights = |trainer: &LibtorchTrainer| {
            let all = trainer.optimizer.parameters();
            let copies = all.iter().map(Tensor::copy);
            copies.collect::<Vec<_>>()
        };
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
    fn what_would_be_computed_wrongly_is_refused() {
        let no = IGNORED;
        let labels = [no, no, 12, no, no, 15, no, no];
        for mask in [[0, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]] {
            assert!(lay_out(&batch(mask, labels)).is_err(), "{mask:?}");
        }
    }
}
