//! `predict`: a model's answers to a dataset, and how near they come to the wanted ones.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use console::View;
use report::{Sink, Step, Trouble};
use serde_json::{Map, Value, json};
use text_metrics::Similarity;
use torch_backend::{Beams, Continuation, Generator, Model, Sampling};
use train::{Generation, PredictJob, save_file, save_results, speed};
use train_data::{DataError, tally};

use crate::placed_job::Desk;
use crate::questions::Questions;
use crate::{JobArguments, PlacedArguments, job_file, model};

const ROWS: &str = "generated_predictions.jsonl";

pub(crate) fn run(arguments: &PlacedArguments, view: &View) -> Result<(), Trouble> {
    let JobArguments { job, settings } = &arguments.job;
    let read = |settings: &[String]| job_file::read_predict(job, settings, view);
    let (job, desk) = Desk::open(&arguments.device, settings, view, read)?;
    predict(&job, &desk, view).map_err(|trouble| desk.explained(&job.used, trouble))
}

fn predict(job: &PredictJob, desk: &Desk, view: &View) -> Result<(), Trouble> {
    let home = &desk.home;
    let files = model::find(&job.used, home, view)?;
    let questions = Questions::gather(&job.data, &job.asked, job.seed, files.folder(), home, view)?;
    let model = model::load(&files, &job.used, desk.place)?;
    let prediction = Prediction {
        questions: &questions,
        generation: &job.generation,
        batch_size: job.batch_size,
        seed: job.seed,
        folder: &job.output_dir,
    };
    let figures = prediction.make(&model, &AtomicBool::new(false), view)?;
    let output = job.output_dir.display().to_string();
    let value = json!({
        "output_dir": output, "examples": questions.all.len(), "device": desk.chosen.label(),
        "threads": desk.threads, "results": figures, "dropped": tally(&questions.dropped),
    });
    view.result(&value, &lines(&output, &figures.unwrap_or_default()));
    Ok(())
}

/// The output folder, and a figure a line.
pub(crate) fn lines(output: &str, figures: &Map<String, Value>) -> String {
    let mut text = output.to_owned();
    for (name, value) in figures {
        let _never_fails = write!(text, "\n{name} {value}");
    }
    text
}

/// Questions to be answered into a folder.
pub(crate) struct Prediction<'a> {
    pub(crate) questions: &'a Questions,
    pub(crate) generation: &'a Generation,
    /// Answers that are generated at a time.
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
    pub(crate) folder: &'a Path,
}

impl Prediction<'_> {
    /// Answers all questions, and writes rows and results. Where `stop` is set on the way, nothing is written, and there
    /// are no figures.
    pub(crate) fn make(
        &self,
        model: &Model,
        stop: &AtomicBool,
        sink: &dyn Sink,
    ) -> Result<Option<Map<String, Value>>, Trouble> {
        let began = Instant::now();
        let Some(answers) = self.answers(model, stop, sink)? else {
            return Ok(None);
        };
        let count = answers.len();
        let mut figures = speed(
            "predict",
            began.elapsed().as_secs_f64(),
            count,
            self.batch_size,
        );
        let (rows, near) = self.rows(&answers)?;
        for (name, value) in Similarity::means(&near) {
            figures.insert(format!("predict_{name}"), value.into());
        }
        figures.sort_keys();
        save_file(self.folder, ROWS, rows.as_bytes())?;
        save_results(self.folder, "predict", &figures)?;
        Ok(Some(figures))
    }

    /// The tokens of each answer. As one ends, the next question takes its place.
    fn answers(
        &self,
        model: &Model,
        stop: &AtomicBool,
        sink: &dyn Sink,
    ) -> Result<Option<Vec<Vec<u32>>>, Trouble> {
        let Questions {
            tokenizer,
            template,
            all,
            ..
        } = self.questions;
        let ends: Vec<i64> = tokenizer
            .prediction_ends(template)
            .into_iter()
            .map(i64::from)
            .collect();
        let folder = self.folder.display().to_string();
        let total = Some(all.len() as u64);
        let shown = Step::start(sink, "step.predict", folder, total, "examples");
        let mut answers = vec![Vec::new(); all.len()];
        let mut generator = Generator::new(model);
        let mut waiting = (0_u64..).zip(all);
        let mut done = 0;
        while done < all.len() {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            while generator.count() < self.batch_size
                && let Some((number, question)) = waiting.next()
            {
                // Texts are numbered as they are admitted, so a text has its question's number.
                generator.admit(Continuation {
                    prompt: question.prompt.iter().copied().map(i64::from).collect(),
                    limit: self.generation.limit(question.prompt.len()),
                    ends: ends.clone(),
                    sampling: Sampling::of_job(self.generation, self.seed, number),
                    beams: Beams::of_job(self.generation),
                })?;
            }
            for made in generator.step()? {
                // A model's token fits: it was chosen from its vocabulary.
                let token = u32::try_from(made.token).unwrap_or_default();
                answers[made.text as usize].push(token);
                done += usize::from(made.ended.is_some());
            }
            shown.progress(done as u64);
        }
        shown.finish();
        Ok(Some(answers))
    }

    /// A line of JSON for each answer, and how near each comes.
    fn rows(&self, answers: &[Vec<u32>]) -> Result<(String, Vec<Similarity>), DataError> {
        let tokenizer = &self.questions.tokenizer;
        let skips = self.generation.skip_special_tokens;
        let mut rows = String::new();
        let mut near = Vec::with_capacity(answers.len());
        for (question, answer) in self.questions.all.iter().zip(answers) {
            let plain = |ids: &[u32]| tokenizer.decode_tidily(ids, true);
            near.push(Similarity::of(&plain(answer)?, &plain(&question.answer)?));
            let row = [
                ("prompt", tokenizer.decode_tidily(&question.prompt, false)?),
                ("predict", tokenizer.decode_tidily(answer, skips)?),
                ("label", tokenizer.decode_tidily(&question.answer, skips)?),
            ];
            // As Python writes it, with a blank behind colons and commas.
            let row = row.map(|(name, text)| format!("\"{name}\": {}", Value::String(text)));
            let _never_fails = writeln!(rows, "{{{}}}", row.join(", "));
        }
        Ok((rows, near))
    }
}
