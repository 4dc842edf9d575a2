//! The training loop's trait, on libtorch: what is trained, and how it is kept.

mod step;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tch::Tensor;
use train::{Objective, StepReport, TrainError, Trainer};
use train_data::Batch;

use crate::files::TensorFiles;
use crate::model::Model;
use crate::optimizer::{AdamSettings, AdamW};
use crate::peers::Peers;
use crate::scaler::Scaler;
use crate::settings::{Holding, LoraSettings, Method, Precision, Tuning};
use crate::source::ModelFiles;
use crate::trainable::Trained;
use crate::value_head::{self, ValueHead};
use crate::{BackendError, adapter, files, output, trainable};

/// Means and squares of the gradients, in a checkpoint.
const OPTIMIZER: &str = "optimizer.safetensors";

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
    /// Steps begun, which decide what is drawn by chance: also those in which there was nothing to learn.
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
        let holding = Holding {
            narrow: stays_narrow(&method, holding),
            ..holding
        };
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
        let Trained { lora, own, start } = model.choose(method)?;
        // Found out now, before anything is written: a run on such weights would diverge at its first step.
        if let Some(tensor) = model.broken_weight()? {
            return Err(BackendError::BrokenWeight { tensor });
        }
        model.free(&|name| own.contains(name))?;
        model.free_corrections()?;
        let mut parameters = model.adapter_tensors();
        parameters.extend(model.named(&own));
        let optimizer = AdamW::new(adam, parameters)?;
        let mut trainer = Self {
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
        };
        trainer.choose_deferral();
        Ok(trainer)
    }

    /// Gradients of matrices are owed where this process alone adds them up, on the processor, by the model's own way back.
    fn choose_deferral(&mut self) {
        let own = self.objective == Objective::Tokens && self.peers.is_none();
        let holding = self.model.holding;
        let here = holding.place.is_processor() && holding.precision == Precision::Float32;
        let owed = self.model.defer(own && here);
        self.optimizer.take_owed(owed);
    }

    /// Learns from comparisons or judgements instead of from tokens. Where all weights are trained this loads the
    /// model a second time, if the loss asks what it said before.
    pub fn with_objective(mut self, objective: Objective) -> Result<Self, BackendError> {
        if objective.needs_reference() && self.lora.is_none() {
            let holding = self.model.holding;
            let mut reference = self.source.load_as(Holding {
                recompute: false,
                ..holding
            })?;
            if holding.precision != Precision::Float32 {
                // Kept in the same number formats, so that both say the same before the first step.
                reference.free(&|name| self.own.contains(name))?;
            }
            self.reference = Some(reference);
        }
        if objective == Objective::Reward {
            let width = self.model.config().hidden;
            let (start_from, place) = (self.start_from.as_deref(), self.model.place());
            let head = ValueHead::start(&self.source, start_from, width, place)?;
            self.optimizer.add(head.tensors())?;
            self.value_head = Some(head);
        }
        self.objective = objective;
        self.choose_deferral();
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
        self.choose_deferral();
        Ok(self)
    }

    /// The model as it is now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Length of all gradients gathered since the last step, taken together.
    pub fn gradient_length(&self) -> Result<f64, BackendError> {
        self.optimizer.settle()?;
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

    fn try_load(&mut self, folder: &Path, state: bool) -> Result<(), BackendError> {
        let lora = self.lora.is_some();
        let mut weights = if lora {
            TensorFiles::open_file(&folder.join(adapter::WEIGHTS))?
        } else {
            TensorFiles::open_folder(folder)?
        };
        let head = self.value_head.is_some();
        let head = head.then(|| TensorFiles::open_file(&folder.join(value_head::FILE)));
        let mut head = head.transpose()?;
        let (own, split) = (&self.own, self.start.is_some());
        self.optimizer.load_parameters(&mut |name, shape| {
            match &mut head {
                Some(head) if name.starts_with(value_head::PREFIX) => head.read_finite(name, shape),
                // In an adapter's file all names are PEFT's.
                _ if lora && own.contains(name) => {
                    weights.read_finite(&format!("{}{name}", trainable::PREFIX), shape)
                }
                _ if split => adapter::read_now(&mut weights, name, shape),
                _ => weights.read_finite(name, shape),
            }
        })?;
        if state {
            let scaler = self.scaler.as_mut();
            let begun = self.optimizer.load(&folder.join(OPTIMIZER), scaler)?;
            let skipped = self.scaler.map_or(0, |scaler| scaler.skipped);
            self.steps = begun.unwrap_or(self.optimizer.steps() + u64::from(skipped));
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
            let untied = self.model.is_untied();
            self.source.write_config(folder, "float32", untied, None)?;
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
        let scaler = self.scaler.as_ref();
        self.optimizer
            .save(&folder.join(OPTIMIZER), self.steps, scaler)
            .map_err(saving(folder))
    }

    fn load(&mut self, folder: &Path, state: bool) -> Result<(), TrainError> {
        let action = format!("load the checkpoint `{}`", folder.display());
        self.try_load(folder, state).map_err(failed(action))
    }
}

/// Whether matrices can stay in the 16 bits of the files: where they are computed with in 32 on the processor, and none is
/// changed before training. Those that train are widened for good as they are freed.
fn stays_narrow(method: &Method, holding: Holding) -> bool {
    let changed = match method {
        Method::Lora {
            settings,
            merge_first,
            ..
        } => settings.pissa.is_some() || !merge_first.is_empty(),
        Method::Freeze(_) | Method::Full => false,
    };
    holding.precision == Precision::Float32 && holding.place.is_processor() && !changed
}

fn saving(folder: &Path) -> impl FnOnce(BackendError) -> TrainError {
    let failed = failed(format!("save to `{}`", folder.display()));
    |error| match error {
        // A full disk is no matter of memory.
        BackendError::Unwritable { path, source } => TrainError::Write { path, source },
        error => failed(error),
    }
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
