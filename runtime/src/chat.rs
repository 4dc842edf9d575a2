//! `chat`: questions to a model, and its answers.

mod questions;

use std::sync::atomic::{AtomicBool, Ordering};

use console::View;
use report::Trouble;
use serde_json::{Value, json};
use torch_backend::{Beams, Continuation, Sampling, generate};
use train::Length;
use train_data::TextStream;

use crate::ChatArguments;
use crate::chance::any_seed;
use crate::signals::Interrupts;
use crate::talk::Talk;
use questions::{Questions, Said};

/// Longest answer where neither a job nor the command line says so.
const USUAL_LENGTH: usize = 256;

pub(crate) fn run(arguments: &ChatArguments, view: &View) -> Result<(), Trouble> {
    let mut talk = Talk::open(&arguments.talk, view)?;
    let told = talk.told;
    let generation = &mut talk.voice.generation;
    if !told {
        // Where nothing is said the likeliest words are taken, unless a temperature asks for a draw.
        generation.draws = arguments.temperature.is_some();
        generation.length = Length::New(USUAL_LENGTH);
    }
    if let Some(temperature) = arguments.temperature {
        generation.draws = temperature > 0.0;
        generation.temperature = temperature;
    }
    if let Some(most) = arguments.max_tokens {
        generation.length = Length::New(most);
    }
    let chat = Chat {
        seed: arguments.seed.unwrap_or_else(any_seed),
        talk,
        arguments,
        view,
    };
    // Questions on the command line are asked one by one, each without the others' memory.
    for (number, question) in (0..).zip(&arguments.prompt) {
        if arguments.prompt.len() > 1 && !view.is_json() {
            view.data(&format!("> {question}"));
        }
        let never = AtomicBool::new(false);
        if !chat.answer(&mut chat.opening(), question, number, &never)? {
            return Ok(());
        }
    }
    if arguments.prompt.is_empty() {
        chat.talk()?;
    }
    Ok(())
}

struct Chat<'a> {
    talk: Talk,
    seed: u64,
    arguments: &'a ChatArguments,
    view: &'a View,
}

impl Chat<'_> {
    /// The messages before the first question.
    fn opening(&self) -> Vec<Value> {
        let system = self.arguments.system.iter();
        let system = system.map(|text| json!({"role": "system", "content": text}));
        system.collect()
    }

    /// Answers questions until the input ends, or `exit` does it. Ctrl-C ends an answer, and between answers the talk.
    fn talk(&self) -> Result<(), Trouble> {
        let interrupts = Interrupts::catch();
        let mut questions = Questions::new(self.view);
        let mut messages = self.opening();
        let mut number = 0;
        loop {
            let said = interrupts.while_idle(|| questions.next())?;
            let question = match said {
                Said::Question(question) => question,
                Said::Clear => {
                    messages = self.opening();
                    self.view.note::<&str>("runtime.chat-cleared", &[]);
                    continue;
                }
                Said::End => return Ok(()),
            };
            let before = messages.len();
            match self.answer(&mut messages, &question, number, interrupts.flag()) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // Who sits there may ask otherwise; a program is told once and for all.
                Err(trouble) if questions.are_typed() => {
                    messages.truncate(before);
                    let _status = self.view.fail(&trouble);
                }
                Err(trouble) => return Err(trouble),
            }
            number += 1;
        }
    }

    /// Answers one question, token by token as they are made unless the answer is for a program, until `stop` is set. Both
    /// are added to `messages`. Returns whether anybody reads on.
    fn answer(
        &self,
        messages: &mut Vec<Value>,
        question: &str,
        number: u64,
        stop: &AtomicBool,
    ) -> Result<bool, Trouble> {
        let Talk { model, voice, .. } = &self.talk;
        messages.push(json!({"role": "user", "content": question}));
        let prompt = voice.speech.tokens(&voice.tokenizer, messages, None)?;
        let continuation = Continuation {
            limit: voice.generation.limit(prompt.len()),
            prompt: prompt.into_iter().map(i64::from).collect(),
            ends: voice.ends.clone(),
            sampling: Sampling::of_job(&voice.generation, self.seed, number),
            beams: Beams::of_job(&voice.generation),
        };
        let skips = voice.generation.skip_special_tokens;
        let mut text = TextStream::new(&voice.tokenizer).skipping_special(skips);
        let mut answer = String::new();
        let mut fault = None;
        let mut heard = true;
        let mut say = |piece: String| {
            if !self.view.is_json() {
                heard &= self.view.stream(&piece);
            }
            answer.push_str(&piece);
            heard
        };
        let ends = continuation.ends.clone();
        let tokens = generate(model, continuation, |token| {
            // A model's token fits: it was drawn from its vocabulary.
            let goes_on = match text.push(u32::try_from(token).unwrap_or_default()) {
                Ok(piece) => say(piece),
                Err(error) => {
                    fault = Some(error);
                    false
                }
            };
            goes_on && !stop.load(Ordering::Relaxed)
        })?;
        if let Some(error) = fault {
            return Err(error.into());
        }
        if let Some(end) = tokens.last().filter(|token| !skips && ends.contains(token)) {
            say(text.push(u32::try_from(*end).unwrap_or_default())?);
        }
        say(text.finish()?);
        if self.view.is_json() {
            let value = json!({"prompt": question, "answer": answer});
            self.view.result(&value, "");
        } else {
            heard &= self.view.stream("\n");
        }
        messages.push(json!({"role": "assistant", "content": answer}));
        Ok(heard)
    }
}
