//! An exam of multiple choice: at each question the model's likeliest of four letters.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use console::View;
use report::{Event, Sink, Step, Trouble};
use serde_json::{Map, Value, json};
use torch_backend::{Model, ModelFiles};
use train::{ExamJob, TrainError};
use train_data::{
    CATEGORIES, CHOICES, Exam, ExamQuestion, Opening, ShuffleSeeds, Split, Subject, Template,
    Tokenizer, exam_chat,
};

use crate::error::RuntimeError;
use crate::material::template;
use crate::model;
use crate::placed_job::Desk;

pub(crate) fn run(job: &ExamJob, desk: &Desk, view: &View) -> Result<(), Trouble> {
    // As in the original, and before anything is computed.
    if let Some(path) = job.save_dir.as_ref().filter(|path| path.exists()) {
        return Err(RuntimeError::SaveTaken { path: path.clone() }.into());
    }
    let files = model::find(&job.used, &desk.home, view)?;
    let parts = parts(job)?;
    let room = Room::settle(job, &files, view)?;
    let model = model::load(&files, &job.used, desk.place)?;
    let sheets = room.sit(&parts, &model, view)?;
    let told = |question: &ExamQuestion| !question.answer.is_empty();
    if !parts.iter().flat_map(|part| &part.questions).any(told) {
        view.emit(&Event::Warned {
            code: "runtime.exam-without-answers".to_owned(),
            args: vec![("path".to_owned(), job.folder.display().to_string())],
        });
    }
    let scores = scores(&parts, &sheets);
    let lines: Vec<String> = scores
        .iter()
        .map(|(category, score)| format!("{category:>15}: {score:.2}"))
        .collect();
    let report = lines.join("\n");
    if let Some(folder) = &job.save_dir {
        save(folder, &sheets, &report)?;
    }
    let questions: usize = parts.iter().map(|part| part.questions.len()).sum();
    let scores = scores
        .into_iter()
        .map(|(name, score)| (name.to_owned(), score.into()));
    let value = json!({
        "questions": questions, "scores": scores.collect::<Map<String, Value>>(),
        "save_dir": job.save_dir, "device": desk.chosen.label(), "threads": desk.threads,
    });
    view.result(&value, &report);
    Ok(())
}

/// A subject's questions.
struct Part {
    subject: Subject,
    shown: Vec<ExamQuestion>,
    questions: Vec<ExamQuestion>,
}

/// Reads all questions, so that a broken file is found before the first is asked.
fn parts(job: &ExamJob) -> Result<Vec<Part>, Trouble> {
    let mut exam = Exam::open(&job.folder)?;
    let subjects = exam.subjects().to_vec();
    let mut parts = Vec::with_capacity(subjects.len());
    for subject in subjects {
        parts.push(Part {
            shown: exam.questions(&subject, Split::Train)?,
            questions: exam.questions(&subject, job.split)?,
            subject,
        });
    }
    Ok(parts)
}

/// What is needed to ask.
struct Room<'a> {
    job: &'a ExamJob,
    tokenizer: Tokenizer,
    template: Template,
    /// The tokens of the four letters.
    letters: Vec<i64>,
}

/// The letters that were chosen, by subject.
type Sheets = Vec<(String, Vec<&'static str>)>;

impl<'a> Room<'a> {
    fn settle(job: &'a ExamJob, files: &ModelFiles, view: &View) -> Result<Self, Trouble> {
        let mut tokenizer = Tokenizer::from_folder(files.folder())?;
        let name = job.wording.template.as_deref();
        let mut template = template(name, files.folder(), &tokenizer, view)?;
        if let Some(system) = &job.wording.default_system {
            template = template.with_default_system(system.clone());
        }
        tokenizer.adapt_to(&template)?;
        let mut letters = Vec::with_capacity(CHOICES.len());
        for letter in CHOICES {
            // As in the original; a tokenizer may put a blank before the letter.
            letters.extend(tokenizer.encode(letter)?.last().copied().map(i64::from));
        }
        Ok(Self {
            job,
            tokenizer,
            template,
            letters,
        })
    }

    fn sit(&self, parts: &[Part], model: &Model, view: &View) -> Result<Sheets, Trouble> {
        let total: usize = parts.iter().map(|part| part.questions.len()).sum();
        let folder = self.job.folder.display().to_string();
        let shown = Step::start(view, "step.exam", folder, Some(total as u64), "questions");
        // The order of what is shown is drawn anew for each question, as the original draws it.
        let mut seeds = ShuffleSeeds::new(self.job.seed as u32);
        let mut done = 0;
        let mut sheets = Sheets::with_capacity(parts.len());
        for part in parts {
            let mut sheet = Vec::with_capacity(part.questions.len());
            let mut prompts = Vec::with_capacity(part.questions.len());
            for question in &part.questions {
                prompts.push(self.prompt(part, question, &mut seeds)?);
            }
            for some in prompts.chunks(self.job.batch_size) {
                let some: Vec<&[i64]> = some.iter().map(Vec::as_slice).collect();
                let places = model.choose_among(&some, &self.letters)?;
                sheet.extend(places.into_iter().map(|place| CHOICES[place]));
                done += some.len();
                shown.progress(done as u64);
            }
            sheets.push((part.subject.key.clone(), sheet));
        }
        shown.finish();
        Ok(sheets)
    }

    fn prompt(
        &self,
        part: &Part,
        question: &ExamQuestion,
        seeds: &mut ShuffleSeeds,
    ) -> Result<Vec<i64>, Trouble> {
        let order = if part.shown.is_empty() {
            Vec::new()
        } else {
            seeds.shuffle(part.shown.len())
        };
        let first = order.into_iter().take(self.job.shots);
        let shown: Vec<&ExamQuestion> = first.map(|place| &part.shown[place]).collect();
        let turns = exam_chat(self.job.language, &part.subject, &shown, question);
        let wording = &self.job.wording;
        let ids = self.template.open_prompt(
            &self.tokenizer,
            Opening::default(),
            &turns,
            wording.thinking,
        )?;
        Ok(ids.into_iter().map(i64::from).collect())
    }
}

/// Percent of right answers in each category that has questions, the average first.
fn scores(parts: &[Part], sheets: &Sheets) -> Vec<(&'static str, f64)> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (part, (_, sheet)) in parts.iter().zip(sheets) {
        let answers = part.questions.iter().zip(sheet);
        let right = answers.filter(|(question, chosen)| question.answer == **chosen);
        let right = right.count();
        for category in [CATEGORIES[0], &part.subject.category] {
            let (found, all) = counts.entry(category).or_default();
            *found += right;
            *all += sheet.len();
        }
    }
    let scored = CATEGORIES.into_iter().filter_map(|category| {
        let (right, all) = counts.get(category).filter(|(_, all)| *all > 0)?;
        Some((category, 100.0 * (*right as f64 / *all as f64)))
    });
    scored.collect()
}

/// Writes `results.json` and `results.log` into a new folder.
fn save(folder: &Path, sheets: &Sheets, report: &str) -> Result<(), TrainError> {
    let mut results = Map::new();
    for (subject, sheet) in sheets {
        let numbered = sheet.iter().enumerate();
        let numbered = numbered.map(|(at, letter)| (at.to_string(), Value::from(*letter)));
        results.insert(subject.clone(), Value::Object(numbered.collect()));
    }
    // The folder appears whole.
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.with_file_name(format!(".{name}.partial"));
    let write = |source| TrainError::Write {
        path: folder.to_owned(),
        source,
    };
    let _left = fs::remove_dir_all(&beside);
    let text = format!("{:#}", Value::Object(results));
    train::save_file(&beside, "results.json", text.as_bytes())?;
    train::save_file(&beside, "results.log", report.as_bytes())?;
    fs::rename(&beside, folder).map_err(write)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(key: &str, category: &str, answers: &[&str]) -> Part {
        Part {
            subject: Subject {
                key: key.to_owned(),
                name: key.to_owned(),
                category: category.to_owned(),
            },
            shown: Vec::new(),
            questions: answers
                .iter()
                .map(|answer| ExamQuestion {
                    answer: (*answer).to_owned(),
                    ..ExamQuestion::default()
                })
                .collect(),
        }
    }

    #[test]
    fn scores_are_by_category_and_over_all() {
        let parts = [
            part("a", "Other", &["A", "B", "C"]),
            part("b", "STEM", &["D"]),
            part("c", "Humanities", &[]),
        ];
        let sheets = vec![
            ("a".to_owned(), vec!["A", "B", "D"]),
            ("b".to_owned(), vec!["C"]),
            ("c".to_owned(), vec![]),
        ];
        let scores = scores(&parts, &sheets);
        assert_eq!(
            scores,
            [
                ("Average", 50.0),
                ("STEM", 0.0),
                ("Other", 100.0 * (2.0 / 3.0))
            ]
        );
    }
}
