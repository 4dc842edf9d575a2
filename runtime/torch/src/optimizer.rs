//! AdamW with decoupled decay, and clipping by the global norm.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Kind, Tensor};

use crate::change::Change;
use crate::files::{self, TensorFiles};
use crate::owed::Owed;
use crate::scaler::Scaler;
use crate::{BackendError, gradient, output};

/// The constants of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub epsilon: f64,
    /// Decoupled weight decay; biases and norms get none.
    pub weight_decay: f64,
    /// LoRA+: the rate of B, and of `DoRA`'s lengths, is so many times that of A.
    pub b_rate: f64,
    /// Longest gradient, over all parameters together. Zero: no limit.
    pub max_grad_norm: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            b_rate: 1.0,
            max_grad_norm: 1.0,
        }
    }
}

/// Names in a file of optimizer state.
const STEPS: &str = "steps";
/// Steps of the run. An older file lacks it: then all that were begun were done or left out.
const BEGUN: &str = "begun";
/// Whole numbers up to this one are exact in 32 bits.
const MOST_STEPS: f64 = 16_777_216.0;
const MEAN: &str = ".mean";
const SQUARE: &str = ".square";
const SCALER: &str = "scaler";

/// Reads a tensor by its name and shape.
type Reader<'a> = dyn FnMut(&str, &[i64]) -> Result<Tensor, BackendError> + 'a;

#[derive(Debug)]
struct Slot {
    name: String,
    parameter: Tensor,
    /// Holds the gradient, where it is not in its buffer.
    owed: Option<Owed>,
    /// Means of gradients and of their squares; none before the first step, which takes their memory.
    moments: Option<(Tensor, Tensor)>,
    decays: bool,
    /// Times the rate of the step.
    rate: f64,
}

impl Slot {
    /// The means, of zeros at first.
    fn moments(&mut self) -> Result<&mut (Tensor, Tensor), BackendError> {
        if self.moments.is_none() {
            self.moments = Some(self.zeros()?);
        }
        self.moments
            .as_mut()
            .ok_or_else(|| BackendError::Library("moments were not kept".to_owned()))
    }

    /// What the gradient has to be made of, where that is so in this step.
    fn unsettled(&self) -> Option<&Owed> {
        self.owed.as_ref().filter(|owed| !owed.is_settled())
    }

    fn zeros(&self) -> Result<(Tensor, Tensor), BackendError> {
        let zeros = || self.parameter.f_zeros_like();
        Ok((zeros()?, zeros()?))
    }
}

/// The optimizer and its state.
#[derive(Debug)]
pub(crate) struct AdamW {
    settings: AdamSettings,
    slots: Vec<Slot>,
    steps: i32,
}

impl AdamW {
    /// Starts with zero state. Turns gradients on for each parameter.
    pub(crate) fn new(
        settings: AdamSettings,
        parameters: Vec<(String, &Tensor)>,
    ) -> Result<Self, BackendError> {
        let mut optimizer = Self {
            settings,
            slots: Vec::with_capacity(parameters.len()),
            steps: 0,
        };
        optimizer.add(parameters)?;
        Ok(optimizer)
    }

    /// Takes in more parameters.
    pub(crate) fn add(&mut self, parameters: Vec<(String, &Tensor)>) -> Result<(), BackendError> {
        for (name, parameter) in parameters {
            gradient::want(parameter)?;
            let faster = name.contains("lora_B") || parameter.dim() == 1;
            self.slots.push(Slot {
                rate: if faster { self.settings.b_rate } else { 1.0 },
                parameter: parameter.shallow_clone(),
                owed: None,
                moments: None,
                decays: !name.ends_with("bias") && !name.contains("norm"),
                name,
            });
        }
        Ok(())
    }

    /// Takes the gradients of the named parameters from what they are owed.
    pub(crate) fn take_owed(&mut self, owed: Vec<(String, Owed)>) {
        let mut owed: BTreeMap<String, Owed> = owed.into_iter().collect();
        for slot in &mut self.slots {
            slot.owed = owed.remove(&slot.name);
        }
    }

    /// Steps done.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.unsigned_abs().into()
    }

    /// Writes the means and the number of steps done, the number of those begun, and how the loss is scaled.
    pub(crate) fn save(
        &self,
        path: &Path,
        begun: u64,
        scaler: Option<&Scaler>,
    ) -> Result<(), BackendError> {
        let steps = Tensor::from_slice(&[self.steps as f32]);
        let begun = Tensor::from_slice(&[begun as f32]);
        // Powers of two and small whole numbers are exact.
        let scaler = scaler.map(|scaler| {
            let Scaler {
                scale,
                good,
                skipped,
            } = *scaler;
            Tensor::from_slice(&[scale as f32, good as f32, skipped as f32])
        });
        let mut tensors = vec![(STEPS.to_owned(), &steps), (BEGUN.to_owned(), &begun)];
        tensors.extend(scaler.iter().map(|scaler| (SCALER.to_owned(), scaler)));
        let moments = self.slots.iter().map(|slot| match &slot.moments {
            Some((mean, square)) => Ok((mean.shallow_clone(), square.shallow_clone())),
            None => slot.zeros(),
        });
        let moments = moments.collect::<Result<Vec<_>, BackendError>>()?;
        for (slot, (mean, square)) in self.slots.iter().zip(&moments) {
            tensors.push((format!("{}{MEAN}", slot.name), mean));
            tensors.push((format!("{}{SQUARE}", slot.name), square));
        }
        output::placed(path, |fresh| {
            files::write(fresh, tensors.iter().map(|(name, t)| (name.as_str(), *t)))
        })
    }

    /// Takes back what [`Self::save`] wrote, and returns the number of steps begun, where it is told.
    pub(crate) fn load(
        &mut self,
        path: &Path,
        scaler: Option<&mut Scaler>,
    ) -> Result<Option<u64>, BackendError> {
        let mut saved = TensorFiles::open_file(path)?;
        tch::no_grad(|| {
            if let Some(scaler) = scaler
                && saved.has(SCALER)
            {
                let numbers = saved.read(SCALER, &[3])?;
                let number = |place: i64| numbers.f_double_value(&[place]);
                *scaler = Scaler {
                    scale: number(0)?,
                    good: number(1)? as u32,
                    skipped: number(2)? as u32,
                };
            }
            for slot in &mut self.slots {
                let shape = slot.parameter.size();
                let names = [MEAN, SQUARE].map(|part| format!("{}{part}", slot.name));
                let (mean, square) = slot.moments()?;
                mean.f_copy_(&saved.read_finite(&names[0], &shape)?)?;
                square.f_copy_(&saved.read_finite(&names[1], &shape)?)?;
            }
            let told = saved.has(BEGUN);
            let mut count = |name: &str| -> Result<u32, BackendError> {
                let steps = saved.read_finite(name, &[1])?.f_double_value(&[0])?;
                if (0.0..=MOST_STEPS).contains(&steps) {
                    return Ok(steps as u32);
                }
                let found = format!("{steps} steps");
                Err(BackendError::malformed(path, found, "steps of a run"))
            };
            self.steps = count(STEPS)? as i32;
            told.then(|| count(BEGUN).map(u64::from)).transpose()
        })
    }

    /// Takes the parameters as `read` finds them by name and shape.
    pub(crate) fn load_parameters(&mut self, read: &mut Reader<'_>) -> Result<(), BackendError> {
        tch::no_grad(|| {
            for slot in &mut self.slots {
                let saved = read(&slot.name, &slot.parameter.size())?;
                slot.parameter.f_copy_(&saved)?;
            }
            Ok(())
        })
    }

    /// Drops the gradients gathered since the last step.
    pub(crate) fn drop_gradients(&mut self) -> Result<(), BackendError> {
        tch::no_grad(|| {
            for mut gradient in self.gradients()? {
                let _ = gradient.f_zero_()?;
            }
            Ok(())
        })
    }

    /// Applies the gradients gathered since the last step and drops them. Returns their norm before clipping.
    pub(crate) fn step(&mut self, rate: f64) -> Result<f64, BackendError> {
        tch::no_grad(|| self.apply(rate))
    }

    fn apply(&mut self, rate: f64) -> Result<f64, BackendError> {
        let norm = self.gradient_norm()?;
        if !norm.is_finite() {
            // The weights stay as they were; the loop ends the run.
            return Ok(norm);
        }
        let limit = self.settings.max_grad_norm;
        let shrink = if limit > 0.0 {
            (limit / (norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        self.steps += 1;
        let settings = self.settings;
        for slot in &mut self.slots {
            let rate = rate * slot.rate;
            let change = Change {
                shrink,
                keep: if slot.decays {
                    1.0 - rate * settings.weight_decay
                } else {
                    1.0
                },
                size: rate / (1.0 - settings.beta1.powi(self.steps)),
                root: (1.0 - settings.beta2.powi(self.steps)).sqrt(),
                settings,
            };
            let parameter = slot.parameter.shallow_clone();
            let owed = slot.unsettled().cloned();
            let (mean, square) = slot.moments()?;
            if let Some(owed) = owed {
                owed.each(&parameter, |start, count, gradient| {
                    let rows = |tensor: &Tensor| tensor.f_narrow(0, start, count);
                    change.apply_to([&rows(&parameter)?, gradient, &rows(mean)?, &rows(square)?])
                })?;
            } else {
                change.apply_to([&parameter, &gradient::of(&parameter)?, mean, square])?;
            }
            slot.owed.iter().for_each(Owed::forget);
        }
        Ok(norm)
    }

    /// The parameters themselves.
    pub(crate) fn parameters(&self) -> Vec<Tensor> {
        let slots = self.slots.iter();
        slots.map(|slot| slot.parameter.shallow_clone()).collect()
    }

    /// Where the gradients gather; what is written there is what the next step applies. Those that are owed are not among
    /// them.
    pub(crate) fn gradients(&self) -> Result<Vec<Tensor>, BackendError> {
        let mut all = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            if slot.unsettled().is_none() {
                all.push(gradient::of(&slot.parameter)?);
            }
        }
        Ok(all)
    }

    /// Brings all gradients into their buffers, where libtorch adds its own.
    pub(crate) fn settle(&self) -> Result<(), BackendError> {
        tch::no_grad(|| {
            let mut slots = self.slots.iter();
            slots.try_for_each(|slot| match slot.unsettled() {
                Some(owed) => owed.settle(&slot.parameter),
                None => Ok(()),
            })
        })
    }

    pub(crate) fn gradient_norm(&self) -> Result<f64, BackendError> {
        let (mut owed, mut norms) = (0.0, Vec::new());
        for slot in &self.slots {
            if let Some(unsettled) = slot.unsettled() {
                owed += unsettled.square()?;
            } else {
                let gradient = gradient::of(&slot.parameter)?;
                norms.push(gradient.f_norm()?.f_to_kind(Kind::Float)?);
            }
        }
        if norms.is_empty() {
            return Ok(owed.sqrt());
        }
        // All at once: a device would have to finish its work for each number that is asked of it.
        let mut values = vec![0.0_f32; norms.len()];
        let count = values.len();
        Tensor::f_stack(&norms, 0)?.f_copy_data(&mut values, count)?;
        let squares = values.into_iter().map(|norm| f64::from(norm).powi(2));
        Ok((owed + squares.sum::<f64>()).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn the_first_step_has_the_length_of_the_rate() {
        // With zero state, mean / root(square) is the sign of the gradient.
        let parameter = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let parameters = vec![("a.weight".to_owned(), &parameter)];
        let mut optimizer = AdamW::new(AdamSettings::default(), parameters).unwrap();
        (&parameter * Tensor::from_slice(&[3.0_f32, -4.0]))
            .sum(Kind::Float)
            .backward();
        let norm = optimizer.step(0.1).unwrap();
        assert!((norm - 5.0).abs() < 1e-6, "{norm}");
        let now = Vec::<f32>::try_from(&parameter.detach()).unwrap();
        assert!(
            (now[0] + 0.1).abs() < 1e-5 && (now[1] - 0.1).abs() < 1e-5,
            "{now:?}"
        );
    }

    #[test]
    fn what_is_saved_goes_on_to_the_same_bits() {
        let start = Tensor::from_slice(&[0.5_f32, -0.25, 3.0]);
        let make = |parameter: &Tensor| {
            AdamW::new(
                AdamSettings::default(),
                vec![("a.weight".to_owned(), parameter)],
            )
            .unwrap()
        };
        let step = |optimizer: &mut AdamW, parameter: &Tensor, by: f32| {
            let loss = parameter.square() * Tensor::from_slice(&[by, 1.0, -by]);
            loss.sum(Kind::Float).backward();
            optimizer.step(0.01).unwrap();
        };
        let whole = start.copy();
        let mut optimizer = make(&whole);
        step(&mut optimizer, &whole, 1.5);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        optimizer.save(&path, 2, None).unwrap();
        let again = whole.detach().copy();
        step(&mut optimizer, &whole, 0.5);
        let mut resumed = make(&again);
        resumed.load(&path, None).unwrap();
        step(&mut resumed, &again, 0.5);
        assert_eq!(whole, again);
        let other = Tensor::zeros([4], (Kind::Float, Device::Cpu));
        let error = make(&other).load(&path, None).unwrap_err();
        assert_eq!(report::Diagnose::code(&error), "torch.wrong-shape");
    }
}
