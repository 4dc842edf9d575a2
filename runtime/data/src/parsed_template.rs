//! A [`Template`] out of a model's own chat template, so that a model can be tuned by the words it knows.
//!
//! The chat template is a program, not a list of pieces. So, as in the original, it writes a few conversations whose
//! messages are a mark, and the text between the marks is taken for the pieces.

use std::borrow::Cow;

use crate::chat_template::{ChatTemplate, Message};
use crate::error::DataError;
use crate::template::{CONTENT, Slot, Template};
use crate::tokenizer::Tokenizer;
use crate::tools::ToolFormat;

impl Template {
    /// Takes a model's chat template apart.
    pub fn of_model(chat: &ChatTemplate, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let broken = |reason: &str| DataError::ChatTemplate {
            path: chat.origin().to_owned(),
            line: 0,
            reason: format!("it cannot be taken apart into turns: {reason}"),
        };
        let mut lead = tokenizer.lead()?;
        let asked = [Message {
            role: "user",
            content: CONTENT,
        }];
        // A begin token that only the template writes stands once before all turns, too.
        if let Some(begin) = tokenizer.begin_token().filter(|_| lead.is_empty())
            && chat.render(&asked, true)?.starts_with(begin)
        {
            begin.clone_into(&mut lead);
        }
        let write = |messages: &[(&str, &str)], answer: bool| -> Result<String, DataError> {
            let messages: Vec<Message<'_>> = messages
                .iter()
                .map(|(role, content)| Message { role, content })
                .collect();
            let text = chat.render(&messages, answer)?;
            let kept = text.strip_prefix(lead.as_str()).unwrap_or(&text);
            Ok(kept.to_owned())
        };
        let system = write(&[("system", CONTENT)], false)?;
        let bare = write(&[("system", ""), ("user", CONTENT)], true)?;
        let asked = write(&[("user", CONTENT)], true)?;
        let question = [("user", CONTENT), ("assistant", CONTENT)];
        let answered = write(&question, false)?;
        let assistant = answered.strip_prefix(asked.as_str());
        let assistant = assistant.ok_or_else(|| broken("an answer changes the text before it"))?;
        let reasons = assistant.contains("<think>");
        let assistant = assistant.replace("<think>", "").replace("</think>", "");
        let assistant = assistant.trim_start_matches('\n');
        let (default_system, user) = if asked.chars().count() > bare.chars().count() {
            let default = inserted(&bare, &asked);
            let part = system.replacen(CONTENT, &default, 1);
            let user = asked.strip_prefix(part.as_str());
            let user =
                user.ok_or_else(|| broken("its default system text is not a system turn"))?;
            (default, user.to_owned())
        } else {
            (String::new(), asked)
        };
        for (role, piece) in [
            ("system", system.as_str()),
            ("user", &user),
            ("assistant", assistant),
        ] {
            if piece.matches(CONTENT).count() != 1 {
                return Err(broken(&format!(
                    "its {role} turn does not hold the text once"
                )));
            }
        }
        let piece = |text: &str| Cow::Owned(vec![Slot::Text(Cow::Owned(text.to_owned()))]);
        Ok(Self {
            name: Cow::Owned(chat.origin().display().to_string()),
            default_system: Cow::Owned(default_system),
            stop_words: &[],
            replaces_end: false,
            reasons,
            prefix: if lead.is_empty() {
                Cow::Borrowed(&[])
            } else {
                piece(&lead)
            },
            system: piece(&system),
            user: piece(&user),
            assistant: piece(assistant),
            observation: piece(&user),
            function: piece(assistant),
            tools: ToolFormat::Default,
            system_in_user: false,
        })
    }
}

/// What `long` has and `short` lacks, where `short` is `long` with a part cut out.
fn inserted(short: &str, long: &str) -> String {
    let mut rest = short.chars().peekable();
    let mut found = String::new();
    for letter in long.chars() {
        match rest.peek() {
            Some(next) if *next == letter => {
                rest.next();
            }
            Some(_) => found.push(letter),
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::template::{Opening, Turn};
    use crate::testing::golden_tokenizer;

    fn parse(source: &str) -> Result<Template, DataError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
        let tokenizer = golden_tokenizer();
        let chat = ChatTemplate::of_model(folder.path(), &tokenizer).unwrap();
        Template::of_model(&chat.unwrap(), &tokenizer)
    }

    /// As Qwen2.5 writes it, tools left out.
    const QWEN: &str = "{%- if messages[0]['role'] == 'system' %}\n\
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n\
        {%- else %}\n\
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}\n\
        {%- endif %}\n\
        {%- for message in messages %}\n\
        {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or message.role == 'assistant' %}\n\
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n\
        {%- endif %}\n\
        {%- endfor %}\n\
        {%- if add_generation_prompt %}\n\
        {{- '<|im_start|>assistant\\n' }}\n\
        {%- endif %}\n";

    #[test]
    fn the_template_of_a_known_family_comes_apart_into_the_known_pieces() {
        let parsed = parse(QWEN).unwrap();
        let known = Template::named("qwen").unwrap();
        assert_eq!(parsed.default_system, known.default_system);
        let tokenizer = golden_tokenizer();
        let turn = |user: &str, assistant: &str| Turn {
            user: user.to_owned(),
            assistant: assistant.to_owned(),
            ..Turn::default()
        };
        let turns = [turn("你好", "hi"), turn("one", "two")];
        for system in ["", "Be brief."] {
            let ids = |template: &Template| -> Vec<Vec<u32>> {
                let encoded =
                    template.encode(&tokenizer, Opening::system(system), &turns, true, false);
                let turns = encoded.unwrap().into_iter();
                turns.flat_map(|t| [t.source, t.target]).collect()
            };
            assert_eq!(ids(&parsed), ids(known), "{system}");
        }
    }

    /// As Llama 3 writes it, tools left out.
    const LLAMA3: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}\
        {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}\
        {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

    #[test]
    fn a_begin_token_stands_before_all_turns_not_before_each() {
        let folder = tempfile::tempdir().unwrap();
        let model = crate::testing::golden().join("model");
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(model.join(name), folder.path().join(name)).unwrap();
        }
        let path = folder.path().join("tokenizer_config.json");
        let text = fs::read_to_string(&path).unwrap();
        let mut settings: serde_json::Value = serde_json::from_str(&text).unwrap();
        settings["bos_token"] = "<|im_start|>".into();
        fs::write(&path, settings.to_string()).unwrap();
        fs::write(folder.path().join("chat_template.jinja"), LLAMA3).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let chat = ChatTemplate::of_model(folder.path(), &tokenizer).unwrap();
        let parsed = Template::of_model(&chat.unwrap(), &tokenizer).unwrap();
        let known = Template::named("llama3").unwrap();
        let turn = Turn {
            user: "a".to_owned(),
            assistant: "b".to_owned(),
            ..Turn::default()
        };
        let turns = [turn.clone(), turn];
        for system in ["", "Be brief."] {
            let ids = |template: &Template| -> Vec<Vec<u32>> {
                let encoded =
                    template.encode(&tokenizer, Opening::system(system), &turns, true, false);
                let turns = encoded.unwrap().into_iter();
                turns.flat_map(|t| [t.source, t.target]).collect()
            };
            assert_eq!(ids(&parsed), ids(known), "{system}");
        }
    }

    #[test]
    fn a_template_that_does_not_come_apart_says_why() {
        for (source, expected) in [
            ("{{ raise_exception('no system') }}", "no system"),
            ("always the same", "does not hold the text once"),
            (
                "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
                "does not hold the text once",
            ),
            (
                "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
                "changes the text before it",
            ),
        ] {
            let error = parse(source).unwrap_err().to_string();
            assert!(error.contains(expected), "{source}: {error}");
        }
    }
}
