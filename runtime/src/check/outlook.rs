//! What is told of a job, to a person and to a program.

use console::View;
use report::{Event, Sink as _, Trouble};
use serde_json::{Value, json};
use train::{Job, Memory, ModelShape, Point, Steps};
use train_data::Item;

use super::room::Room;
use crate::material::Ready;
use crate::rules::Applied;

/// What a job will do and need.
pub(super) struct Report {
    family: String,
    model: String,
    parameters: u64,
    trainable: u64,
    method: String,
    /// None: nobody has counted them.
    examples: Option<usize>,
    eval_examples: usize,
    longest: usize,
    steps: Steps,
    epochs: f64,
    tokens: u64,
    template: String,
    resumes: Option<(String, u64)>,
    /// Keys of the job that change nothing here.
    without_effect: Vec<String>,
    threads: usize,
    memory: Memory,
    available: Option<u64>,
    device: String,
    beyond: Option<u64>,
}

impl Report {
    pub(super) fn make(
        job: &Job,
        shape: &ModelShape,
        ready: &Ready,
        point: Option<&Point>,
        device: Room,
    ) -> Result<Self, Trouble> {
        let items = &ready.prepared.items;
        let streams = job.data.streaming.is_some();
        let steps = if streams {
            Steps::streamed(job)
        } else {
            Steps::over(job, items.len(), device.processes)
        };
        let epochs = steps.total as f64 / steps.in_epoch as f64;
        let in_epoch: usize = items.iter().map(Item::tokens).sum();
        let longest = items.iter().map(Item::length).max().unwrap_or(0);
        let memory = Memory::of(job, shape, items)?;
        Ok(Self {
            family: shape.family.clone(),
            model: job.model.clone(),
            parameters: shape.parameters(),
            trainable: shape.trainable(&job.fine_tuning)?,
            method: job.settings["finetuning_type"]
                .as_str()
                .unwrap_or("lora")
                .to_owned(),
            examples: (!streams).then_some(items.len()),
            eval_examples: ready.prepared.eval_items.len(),
            longest,
            steps,
            epochs,
            tokens: (in_epoch as f64 * epochs).round() as u64,
            template: ready.template.name.clone().into_owned(),
            without_effect: job
                .without_effect()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            resumes: point.map(|point| (point.path.display().to_string(), point.step())),
            threads: threads(),
            memory: if device.processor && device.processes <= 1 {
                memory.alone(job, shape, items)
            } else {
                memory
            },
            available: device.available,
            device: device.name,
            beyond: (longest as u64 > shape.positions).then_some(shape.positions),
        })
    }

    /// Warns where the run would not end well.
    pub(super) fn warn(&self, view: &View) {
        let warned = |code: &str, args: Vec<(&str, String)>| {
            view.emit(&Event::Warned {
                code: code.to_owned(),
                args: args.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            });
        };
        if let Some(available) = self.available.filter(|a| *a < self.memory.total()) {
            let args = vec![
                ("needed", size(self.memory.total())),
                ("available", size(available)),
            ];
            warned("runtime.check-too-little-memory", args);
        }
        if let Some(positions) = self.beyond {
            let args = vec![
                ("longest", self.longest.to_string()),
                ("positions", positions.to_string()),
            ];
            warned("runtime.check-too-long", args);
        }
    }

    pub(super) fn to_json(&self, job: &Job, ready: &Ready, applied: &Applied) -> Value {
        json!({
            "model": self.model, "family": self.family, "parameters": self.parameters,
            "method": self.method, "trainable": self.trainable, "template": self.template,
            "examples": self.examples, "eval_examples": self.eval_examples,
            "longest_example": self.longest, "dropped": ready.dropped(),
            "steps": self.steps.total, "warmup_steps": self.steps.warmup,
            "steps_in_epoch": self.steps.in_epoch, "epochs": self.epochs, "tokens": self.tokens,
            "resumes_from": self.resumes.as_ref().map(|(path, _)| path),
            "resumes_at": self.resumes.as_ref().map(|(_, step)| step),
            "device": self.device, "rules": applied.to_json(), "threads": self.threads, "output_dir": job.output_dir,
            "without_effect": self.without_effect,
            "memory": {"parts": self.memory, "total": self.memory.total(), "available": self.available},
        })
    }

    pub(super) fn lines(&self, view: &View) -> Vec<String> {
        let part = self.trainable as f64 * 100.0 / self.parameters.max(1) as f64;
        let mut lines = vec![
            (
                "model",
                vec![
                    ("name", self.model.clone()),
                    ("family", self.family.clone()),
                    ("parameters", grouped(self.parameters)),
                ],
            ),
            (
                "trained",
                vec![
                    ("method", self.method.clone()),
                    ("trainable", grouped(self.trainable)),
                    ("part", format!("{part:.2}")),
                ],
            ),
            ("template", vec![("name", self.template.clone())]),
            (
                if self.examples.is_some() {
                    "data"
                } else {
                    "data-streamed"
                },
                vec![
                    ("examples", grouped(self.examples.unwrap_or(0) as u64)),
                    ("eval", grouped(self.eval_examples as u64)),
                    ("longest", grouped(self.longest as u64)),
                ],
            ),
            (
                if self.examples.is_some() {
                    "steps"
                } else {
                    "steps-streamed"
                },
                vec![
                    ("steps", grouped(self.steps.total)),
                    ("warmup", grouped(self.steps.warmup)),
                    ("epochs", format!("{:.2}", self.epochs)),
                    ("tokens", grouped(self.tokens)),
                ],
            ),
        ];
        if let Some((path, step)) = &self.resumes {
            let args = vec![("path", path.clone()), ("step", step.to_string())];
            lines.push(("resumes", args));
        }
        if self.threads > 0 {
            let args = vec![("device", format!("{}, {}", self.device, self.threads))];
            lines.push(("device", args));
        }
        let available = self.available.map_or("?".to_owned(), size);
        lines.push((
            "memory",
            vec![
                ("total", size(self.memory.total())),
                ("available", available),
            ],
        ));
        let mut texts: Vec<String> = lines
            .iter()
            .map(|(name, args)| view.text(&format!("runtime.check-{name}"), args))
            .collect();
        for (name, bytes) in self.memory.parts() {
            if bytes > 0 {
                let args = [("size", size(bytes))];
                texts.push(view.text(&format!("runtime.check-memory-{name}"), &args));
            }
        }
        if !self.without_effect.is_empty() {
            let args = [("keys", self.without_effect.join(", "))];
            texts.push(view.text("runtime.check-idle", &args));
        }
        texts
    }
}

/// A number with a blank between thousands, as both languages may write it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit of which there is at least one.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{amount:.1} {}", units[unit])
    }
}

#[cfg(feature = "native")]
fn threads() -> usize {
    torch_backend::use_threads(torch_backend::Threads::Idle)
}

#[cfg(not(feature = "native"))]
fn threads() -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_to_be_read() {
        for (number, text) in [(0, "0"), (999, "999"), (1_234_567, "1 234 567")] {
            assert_eq!(grouped(number), text);
        }
        for (bytes, text) in [(12, "12 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
