//! AdamW with decoupled decay, and clipping by the global norm.

use std::path::Path;

use tch::{Kind, Tensor};

use crate::files::{self, TensorFiles};
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

#[derive(Debug)]
struct Slot {
    name: String,
    parameter: Tensor,
    mean: Tensor,
    square: Tensor,
    decays: bool,
    /// Times the rate of the step.
    rate: f64,
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
                mean: parameter.f_zeros_like()?,
                square: parameter.f_zeros_like()?,
                decays: !name.ends_with("bias") && !name.contains("norm"),
                name,
            });
        }
        Ok(())
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
        for slot in &self.slots {
            tensors.push((format!("{}{MEAN}", slot.name), &slot.mean));
            tensors.push((format!("{}{SQUARE}", slot.name), &slot.square));
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
                let shape = slot.mean.size();
                slot.mean
                    .f_copy_(&saved.read_finite(&format!("{}{MEAN}", slot.name), &shape)?)?;
                slot.square
                    .f_copy_(&saved.read_finite(&format!("{}{SQUARE}", slot.name), &shape)?)?;
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
    pub(crate) fn load_parameters(
        &mut self,
        read: &mut dyn FnMut(&str, &[i64]) -> Result<Tensor, BackendError>,
    ) -> Result<(), BackendError> {
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
        let AdamSettings {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            ..
        } = self.settings;
        let correction = 1.0 - beta1.powi(self.steps);
        let root = (1.0 - beta2.powi(self.steps)).sqrt();
        // The ops ending in `_` change their tensor in place and return it once more.
        for slot in &mut self.slots {
            let mut gradient = slot.parameter.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            let rate = rate * slot.rate;
            let size = rate / correction;
            if shrink < 1.0 {
                gradient = gradient.f_mul_scalar_(shrink)?;
            }
            if slot.decays && weight_decay > 0.0 {
                let _ = slot.parameter.f_mul_scalar_(1.0 - rate * weight_decay)?;
            }
            let _ = slot.mean.f_lerp_(&gradient, 1.0 - beta1)?;
            let squared = gradient.f_square()?.f_mul_scalar_(1.0 - beta2)?;
            let _ = slot.square.f_mul_scalar_(beta2)?.f_add_(&squared)?;
            let below = slot
                .square
                .f_sqrt()?
                .f_div_scalar_(root)?
                .f_add_scalar_(epsilon)?;
            let _ = slot
                .parameter
                .f_sub_(&slot.mean.f_div(&below)?.f_mul_scalar_(size)?)?;
            let _ = gradient.f_zero_()?;
        }
        Ok(norm)
    }

    /// The parameters themselves.
    pub(crate) fn parameters(&self) -> Vec<Tensor> {
        let slots = self.slots.iter();
        slots.map(|slot| slot.parameter.shallow_clone()).collect()
    }

    /// Where the gradients gather; what is written there is what the next step applies.
    pub(crate) fn gradients(&self) -> Result<Vec<Tensor>, BackendError> {
        let mut all = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let gradient = slot.parameter.f_grad()?;
            if gradient.defined() {
                all.push(gradient);
            }
        }
        Ok(all)
    }

    pub(crate) fn gradient_norm(&self) -> Result<f64, BackendError> {
        let norms = self.gradients()?.into_iter();
        let norms = norms.map(|gradient| Ok(gradient.f_norm()?.f_to_kind(Kind::Float)?));
        let norms = norms.collect::<Result<Vec<_>, BackendError>>()?;
        if norms.is_empty() {
            return Ok(0.0);
        }
        // All at once: a device would have to finish its work for each number that is asked of it.
        let mut values = vec![0.0_f32; norms.len()];
        let count = values.len();
        Tensor::f_stack(&norms, 0)?.f_copy_data(&mut values, count)?;
        let squares = values.into_iter().map(|norm| f64::from(norm).powi(2));
        Ok(squares.sum::<f64>().sqrt())
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
