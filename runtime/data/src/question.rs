//! Records to be answered: what the model reads, and the answer that is wanted.

use crate::batch::IGNORED;
use crate::dropped::Dropped;
use crate::error::DataError;
use crate::example::{EncodeSettings, Example};
use crate::prepare::{Request, evaluated};
use crate::template::Turn;
use crate::tokenizer::Tokenizer;

/// A record to be answered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Question {
    /// Tokens up to where the model answers.
    pub prompt: Vec<u32>,
    /// Tokens of the wanted answer.
    pub answer: Vec<u32>,
}

/// Loads and encodes the records that a training run would evaluate on. Returns what was left out, too.
///
/// A prompt and its answer are cut together to `cutoff_len`, as the original cuts them where it generates.
/// The tokenizer must have been [adapted](Tokenizer::adapt_to) to the template.
pub fn questions(
    request: &Request<'_>,
    tokenizer: &Tokenizer,
    settings: &EncodeSettings<'_>,
) -> Result<(Vec<Question>, Vec<Dropped>), DataError> {
    let (mut questions, mut dropped) = (Vec::new(), Vec::new());
    let none = Turn::default();
    for slot in evaluated(request)? {
        let origin = slot.origin;
        match slot.content {
            Ok(conversation) => {
                let wanted = conversation.turns.last().unwrap_or(&none);
                let encoded =
                    Example::encode_answers(&conversation, &[wanted], tokenizer, settings);
                let encoded = encoded.map_err(|error| error.at(&origin))?;
                questions.extend(encoded.into_iter().map(Question::of));
            }
            Err(fault) => dropped.push(Dropped { origin, fault }),
        }
    }
    Ok((questions, dropped))
}

impl Question {
    /// Parts a row at its first label.
    fn of(example: Example) -> Self {
        let mut prompt = example.input_ids;
        let length = example.labels.iter().take_while(|l| **l == IGNORED).count();
        let answer = prompt.split_off(length);
        Self { prompt, answer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::HeldOut;
    use crate::template::Template;
    use crate::testing::{golden, golden_tokenizer};

    #[test]
    fn questions_end_where_the_model_answers() {
        let mut tokenizer = golden_tokenizer();
        let template = Template::named("qwen").unwrap();
        tokenizer.adapt_to(template).unwrap();
        let settings = |cutoff_len| EncodeSettings::of(template, cutoff_len);
        let folder = golden().join("data");
        let names = ["golden_alpaca".to_owned()];
        let request = Request {
            eval_names: &names,
            max_samples: Some(5),
            ..Request::of(&folder, &[])
        };
        let (all, dropped) = questions(&request, &tokenizer, &settings(512)).unwrap();
        assert_eq!((all.len(), dropped.len()), (5, 0));
        for question in &all {
            let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
            let (prompt, answer) = (text(&question.prompt), text(&question.answer));
            assert!(prompt.ends_with("<|im_start|>assistant\n"), "{prompt}");
            assert!(answer.ends_with("<|im_end|>\n"), "{answer}");
        }
        let (cut, _) = questions(&request, &tokenizer, &settings(8)).unwrap();
        let length = |q: &Question| q.prompt.len() + q.answer.len();
        assert!(cut.iter().all(|question| length(question) <= 8));
        let folder = tempfile::tempdir().unwrap();
        let info = r#"{"golden_alpaca": {"file_name": "d.json", "columns": {"prompt": "q"}}}"#;
        std::fs::write(folder.path().join("dataset_info.json"), info).unwrap();
        std::fs::write(folder.path().join("d.json"), r#"[{"q": "a"}]"#).unwrap();
        let unanswered = Request {
            folder: folder.path(),
            ..request.clone()
        };
        let (asked, dropped) = questions(&unanswered, &tokenizer, &settings(512)).unwrap();
        assert_eq!((asked.len(), dropped.len()), (1, 0));
        let wanted = tokenizer.decode(&asked[0].answer, false).unwrap();
        assert_eq!(wanted, "<|im_end|>\n");
        let part = Request {
            names: &names,
            eval_names: &[],
            held_out: HeldOut::Count(2),
            ..request
        };
        let (held, _) = questions(&part, &tokenizer, &settings(512)).unwrap();
        assert_eq!(held.len(), 2);
        assert!(held.iter().all(|question| all.contains(question)));
    }
}
