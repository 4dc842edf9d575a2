//! The loss of a model on datasets, and its perplexity.

use std::time::Instant;

use console::View;
use report::{Step, Trouble};
use serde_json::{Map, Value, json};
use train::{LossJob, TrainError, save_results, speed};
use train_data::{Batch, Item};

use crate::material::{Keep, Ready, Sources};
use crate::model;
use crate::placed_job::Desk;
use crate::predict::lines;

pub(crate) fn run(job: &LossJob, desk: &Desk, view: &View) -> Result<(), Trouble> {
    let home = &desk.home;
    let files = model::find(&job.used, home, view)?;
    let sources = Sources::of_asked(&job.data, &job.asked, job.seed);
    let mut ready = Ready::open(&sources, files.folder(), home, view)?;
    ready.prepare(&sources, home, Keep::Yes, view)?;
    ready.warn(view);
    let items = &ready.prepared.eval_items;
    if items.is_empty() {
        return Err(TrainError::NoExamples.into());
    }
    let model = model::load(&files, &job.used, desk.place)?;
    let folder = job.output_dir.display().to_string();
    let total = Some(items.len() as u64);
    let shown = Step::start(
        view,
        "step.evaluate-data",
        folder.clone(),
        total,
        "examples",
    );
    let began = Instant::now();
    let (mut losses, mut done) = (Losses::default(), 0);
    for rows in items.chunks(job.batch_size) {
        let rows: Vec<&Item> = rows.iter().collect();
        let batch = Batch::of(&rows, ready.padding_id);
        let weight = job.data.batch_weight(rows.len(), job.batch_size);
        losses.add(model.text_loss(&batch)?, batch.label_tokens(), weight);
        done += rows.len();
        shown.progress(done as u64);
    }
    shown.finish();
    let seconds = began.elapsed().as_secs_f64();
    let mut figures = losses.figures();
    figures.extend(speed("eval", seconds, items.len(), job.batch_size));
    figures.sort_keys();
    save_results(&job.output_dir, "eval", &figures)?;
    let value = json!({
        "output_dir": folder, "examples": items.len(), "device": desk.chosen.label(),
        "threads": desk.threads, "results": figures, "dropped": ready.dropped(),
    });
    view.result(&value, &lines(&folder, &figures));
    Ok(())
}

/// Losses of batches, gathered.
#[derive(Default)]
struct Losses {
    /// Mean losses of batches, each as often as it weighs.
    weighed: f64,
    weights: usize,
    sum: f64,
    tokens: usize,
}

impl Losses {
    /// `labels` are those that the original divides by: one of a row's first token counts, although nothing predicts it.
    fn add(&mut self, (sum, tokens): (f64, usize), labels: usize, weight: usize) {
        self.weighed += sum / labels.max(1) as f64 * weight as f64;
        self.weights += weight;
        self.sum += sum;
        self.tokens += tokens;
    }

    /// The original's loss, which is a mean of batches' means, with its perplexity; and those of the tokens, whatever
    /// batch they are in. A perplexity beyond all numbers is left out.
    fn figures(&self) -> Map<String, Value> {
        let loss = self.weighed / self.weights.max(1) as f64;
        let token_loss = self.sum / self.tokens.max(1) as f64;
        let mut figures = Map::new();
        for (name, value) in [
            ("eval_loss", loss),
            ("eval_perplexity", loss.exp()),
            ("eval_token_loss", token_loss),
            ("eval_token_perplexity", token_loss.exp()),
        ] {
            if value.is_finite() {
                figures.insert(name.to_owned(), value.into());
            }
        }
        figures.insert("eval_tokens".to_owned(), self.tokens.into());
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_and_tokens_are_weighed_apart() {
        let mut losses = Losses::default();
        losses.add((8.0, 3), 4, 3);
        losses.add((10.0, 11), 10, 1);
        losses.add((0.0, 0), 0, 1);
        let figures = losses.figures();
        assert_eq!(figures["eval_loss"], 7.0 / 5.0);
        assert_eq!(figures["eval_perplexity"], (7.0_f64 / 5.0).exp());
        assert_eq!(figures["eval_token_loss"], 18.0 / 14.0);
        assert_eq!(figures["eval_tokens"], 14);
        let beyond = Losses {
            weighed: 1e4,
            weights: 1,
            ..Losses::default()
        };
        assert_eq!(beyond.figures().get("eval_perplexity"), None);
    }
}
