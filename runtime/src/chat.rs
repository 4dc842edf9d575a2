//! `chat`: questions to a model, and its answers.

use std::io::{IsTerminal as _, stdin};

use console::View;
use report::Trouble;
use torch_backend::{BackendError, Model, Sampling, Threads, generate, open, use_threads};
use train_data::{Template, Tokenizer, Turn};

use crate::ChatArguments;
use crate::error::RuntimeError;
use crate::home::Home;

pub(crate) fn run(arguments: &ChatArguments, view: &View) -> Result<(), Trouble> {
    let home = Home::find();
    let template = Template::named(&arguments.template)?;
    let path = home
        .model(&arguments.model)
        .ok_or_else(|| RuntimeError::NoSuchModel {
            name: arguments.model.clone(),
        })?;
    use_threads(Threads::Idle);
    let files = open(&path, &home.cache, view)?;
    let mut tokenizer = Tokenizer::from_folder(files.folder())?;
    tokenizer.adapt_to(template)?;
    let mut model = files.load()?;
    if let Some(adapter) = &arguments.adapter {
        model.load_adapter(adapter, 0.0)?;
    }
    let mut chat = Chat {
        end: template
            .stop_ids(&tokenizer)
            .into_iter()
            .map(i64::from)
            .collect(),
        model,
        tokenizer,
        template,
        arguments,
        view,
    };
    // Questions on the command line are asked one by one, each without the others' memory.
    for question in &arguments.prompt {
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
    template: &'static Template,
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
                });
            }
        }
    }

    fn answer(&mut self, turns: &[Turn], question: &str) -> Result<String, Trouble> {
        let prompt = self.template.prompt(&self.tokenizer, "", turns, question)?;
        let prompt: Vec<i64> = prompt.into_iter().map(i64::from).collect();
        let sampling = match self.arguments.temperature {
            Some(temperature) if temperature > 0.0 => Sampling::Draw {
                temperature,
                top_p: 0.9,
            },
            _ => Sampling::Greedy,
        };
        let limit = self.arguments.max_tokens;
        let mut made = generate(&self.model, &prompt, limit, &self.end, sampling, |_| true)?;
        if made.last().is_some_and(|last| self.end.contains(last)) {
            made.pop();
        }
        let tokens: Vec<u32> = made
            .iter()
            .filter_map(|token| u32::try_from(*token).ok())
            .collect();
        let answer = self.tokenizer.decode(&tokens, true)?;
        let value = serde_json::json!({"prompt": question, "answer": answer});
        self.view.result(&value, &answer);
        Ok(answer)
    }
}
