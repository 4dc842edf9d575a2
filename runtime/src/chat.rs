//! `chat`: questions to a model, and its answers.

use std::io::{IsTerminal as _, stdin};

use console::View;
use report::Trouble;
use torch_backend::{BackendError, Model, Sampling, Threads, generate, open, use_threads};
use train_data::{TextStream, Tokenizer, Turn};

use crate::ChatArguments;
use crate::error::RuntimeError;
use crate::home::Home;
use crate::speech::Speech;

pub(crate) fn run(arguments: &ChatArguments, view: &View) -> Result<(), Trouble> {
    let home = Home::find();
    let path = home
        .model(&arguments.model)
        .ok_or_else(|| RuntimeError::NoSuchModel {
            name: arguments.model.clone(),
        })?;
    use_threads(Threads::Idle);
    let files = open(&path, &home.cache, view)?;
    let mut tokenizer = Tokenizer::from_folder(files.folder())?;
    let name = arguments.template.as_deref();
    let speech = Speech::settle(name, files.folder(), &mut tokenizer)?;
    let mut model = files.load()?;
    if let Some(adapter) = &arguments.adapter {
        model.load_adapter(adapter, 0.0)?;
    }
    let mut chat = Chat {
        end: speech.ends(&tokenizer, files.folder(), &model.config().end_tokens),
        model,
        tokenizer,
        speech,
        arguments,
        view,
    };
    // Questions on the command line are asked one by one, each without the others' memory.
    for question in &arguments.prompt {
        if arguments.prompt.len() > 1 && !view.is_json() {
            view.data(&format!("> {question}"));
        }
        chat.answer(&[], question)?;
    }
    if arguments.prompt.is_empty() {
        chat.talk()?;
    }
    Ok(())
}

struct Chat<'a> {
    model: Model,
    tokenizer: Tokenizer,
    speech: Speech,
    end: Vec<i64>,
    arguments: &'a ChatArguments,
    view: &'a View,
}

impl Chat<'_> {
    /// Reads questions line by line until the input ends.
    fn talk(&mut self) -> Result<(), Trouble> {
        let mut turns = Vec::new();
        loop {
            if stdin().is_terminal() && !self.view.is_json() {
                self.view.stream("> ");
            }
            let mut line = String::new();
            let read = stdin().read_line(&mut line);
            let read = read.map_err(|source| BackendError::Unreadable {
                path: "-".into(),
                source,
            })?;
            if read == 0 {
                return Ok(());
            }
            let question = line.trim();
            if !question.is_empty() {
                let assistant = self.answer(&turns, question)?;
                turns.push(Turn {
                    user: question.to_owned(),
                    assistant,
                    ..Turn::default()
                });
            }
        }
    }

    /// Answers one question, token by token as they are made unless the answer is for a program.
    fn answer(&mut self, turns: &[Turn], question: &str) -> Result<String, Trouble> {
        let prompt = self.speech.prompt(&self.tokenizer, turns, question)?;
        let prompt: Vec<i64> = prompt.into_iter().map(i64::from).collect();
        let sampling = match self.arguments.temperature {
            Some(temperature) if temperature > 0.0 => Sampling::Draw {
                temperature,
                top_p: 0.9,
            },
            _ => Sampling::Greedy,
        };
        let limit = self.arguments.max_tokens;
        let mut text = TextStream::new(&self.tokenizer);
        let mut answer = String::new();
        let mut fault = None;
        let mut say = |piece: String| {
            if !self.view.is_json() {
                self.view.stream(&piece);
            }
            answer.push_str(&piece);
        };
        generate(&self.model, &prompt, limit, &self.end, sampling, |token| {
            // A model's token fits: it was drawn from its vocabulary.
            match text.push(u32::try_from(token).unwrap_or_default()) {
                Ok(piece) => say(piece),
                Err(error) => fault = Some(error),
            }
            fault.is_none()
        })?;
        if let Some(error) = fault {
            return Err(error.into());
        }
        say(text.finish()?);
        if self.view.is_json() {
            let value = serde_json::json!({"prompt": question, "answer": answer});
            self.view.result(&value, "");
        } else {
            self.view.stream("\n");
        }
        Ok(answer)
    }
}
