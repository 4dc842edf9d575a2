//! Exams of multiple choice, as LLaMA-Factory's `eval` sets them: C-Eval, CMMLU, MMLU, and others of their form.
//!
//! ```text
//! <task_dir>/<exam>/mapping.json            {"subject": {"name": "as the model reads it", "category": "STEM"}}
//!                   <exam>.zip, or its content:
//!   dev/<subject>_dev.csv, test/<subject>_test.csv, …           with a line of column names (C-Eval)
//!   dev/<subject>.csv, test/<subject>.csv                       with a line of column names (CMMLU)
//!   data/dev/<subject>_dev.csv, data/test/<subject>_test.csv    question, A, B, C, D, answer (MMLU)
//! ```

mod files;
mod table;

use std::fmt::Write as _;
use std::path::Path;

use crate::error::DataError;
use crate::template::Turn;

pub use files::Exam;

/// The letters that answers go by.
pub const CHOICES: [&str; 4] = ["A", "B", "C", "D"];

/// Categories in the order of a report; the first stands for all subjects.
pub const CATEGORIES: [&str; 5] = ["Average", "STEM", "Social Sciences", "Humanities", "Other"];

/// One part of an exam.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// Its name in file names.
    pub key: String,
    /// Its name as the model reads it.
    pub name: String,
    /// One of [`CATEGORIES`].
    pub category: String,
}

/// A question with four answers to choose from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExamQuestion {
    /// What is asked.
    pub question: String,
    /// What is offered, in the order of [`CHOICES`].
    pub choices: [String; 4],
    /// The letter of the right one; empty where the file does not tell.
    pub answer: String,
}

/// Which questions of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Split {
    /// Those that are shown with their answers.
    Train,
    /// Those to try a model on.
    Validation,
    /// Those that count.
    Test,
}

impl Split {
    /// The split by its name in a task, such as `test` in `mmlu_test`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "train" => Some(Self::Train),
            "validation" => Some(Self::Validation),
            "test" => Some(Self::Test),
            _ => None,
        }
    }

    /// Its name in the names of files.
    fn folder(self) -> &'static str {
        match self {
            Self::Train => "dev",
            Self::Validation => "val",
            Self::Test => "test",
        }
    }
}

/// The language that an exam is set in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExamLanguage {
    /// English.
    #[default]
    English,
    /// Chinese.
    Chinese,
}

impl ExamLanguage {
    fn opening(self, subject: &str) -> String {
        match self {
            Self::English => format!(
                "The following are multiple choice questions (with answers) about {subject}.\n\n"
            ),
            Self::Chinese => {
                format!("以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。\n\n")
            }
        }
    }

    fn closing(self) -> &'static str {
        match self {
            Self::English => "\nAnswer:",
            Self::Chinese => "\n答案：",
        }
    }

    fn asked(self, question: &ExamQuestion) -> String {
        let mut text = question.question.clone();
        for (letter, content) in CHOICES.iter().zip(&question.choices) {
            let _never_fails = write!(text, "\n{letter}. {content}");
        }
        text.push_str(self.closing());
        text
    }
}

/// A chat in which the `shown` questions are answered; the last turn is `question`, without its answer.
pub fn exam_chat(
    language: ExamLanguage,
    subject: &Subject,
    shown: &[&ExamQuestion],
    question: &ExamQuestion,
) -> Vec<Turn> {
    let shown = shown.iter().map(|shown| Turn {
        user: language.asked(shown),
        assistant: shown.answer.clone(),
        ..Turn::default()
    });
    let open = Turn {
        user: language.asked(question),
        ..Turn::default()
    };
    let mut turns: Vec<Turn> = shown.chain([open]).collect();
    turns[0]
        .user
        .insert_str(0, &language.opening(&subject.name));
    turns
}

/// An error about a file of an exam.
fn shape(path: &Path, place: &str, expected: &str, found: impl Into<String>) -> DataError {
    DataError::Shape {
        path: path.to_owned(),
        place: place.to_owned(),
        expected: expected.to_owned(),
        found: found.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(text: &str, answer: &str) -> ExamQuestion {
        ExamQuestion {
            question: text.to_owned(),
            choices: ["1", "2", "3", "4"].map(str::to_owned),
            answer: answer.to_owned(),
        }
    }

    #[test]
    fn questions_read_as_in_the_original() {
        let subject = Subject {
            key: "sums".to_owned(),
            name: "算术".to_owned(),
            category: "STEM".to_owned(),
        };
        let (shown, open) = (question("1+1=", "B"), question("1+2=", "C"));
        let turns = exam_chat(ExamLanguage::Chinese, &subject, &[&shown], &open);
        assert_eq!(turns.len(), 2);
        assert_eq!(
            turns[0].user,
            "以下是中国关于算术考试的单项选择题，请选出其中的正确答案。\n\n1+1=\nA. 1\nB. 2\nC. 3\nD. 4\n答案："
        );
        assert_eq!(turns[0].assistant, "B");
        assert_eq!(turns[1].user, "1+2=\nA. 1\nB. 2\nC. 3\nD. 4\n答案：");
        assert_eq!(turns[1].assistant, "", "the answer is not told");
        let turns = exam_chat(ExamLanguage::English, &subject, &[], &open);
        assert_eq!(
            turns[0].user,
            "The following are multiple choice questions (with answers) about 算术.\n\n\
             1+2=\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
        );
    }
}
