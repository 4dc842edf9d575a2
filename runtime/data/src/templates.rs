//! The templates that are known by name.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::template::{CONTENT, Slot, Template};

const fn text(text: &'static str) -> Slot {
    Slot::Text(Cow::Borrowed(text))
}

const CHATML_SYSTEM: &[Slot] = &[text("<|im_start|>system\n{{content}}<|im_end|>\n")];
const CHATML_USER: &[Slot] = &[text(
    "<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n",
)];
const CHATML_ASSISTANT: &[Slot] = &[text("{{content}}<|im_end|>\n")];
const PLAIN: &[Slot] = &[text(CONTENT)];
const ENDED: &[Slot] = &[text(CONTENT), Slot::End];
const BEGIN: &[Slot] = &[Slot::Begin];

/// A template as a constant.
#[derive(Clone, Copy)]
struct Named {
    name: &'static str,
    default_system: &'static str,
    stop_words: &'static [&'static str],
    replaces_end: bool,
    reasons: bool,
    prefix: &'static [Slot],
    system: &'static [Slot],
    user: &'static [Slot],
    assistant: &'static [Slot],
}

/// Every template with a name.
pub(crate) static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let made = NAMED.into_iter().map(|named| Template {
        name: Cow::Borrowed(named.name),
        default_system: Cow::Borrowed(named.default_system),
        stop_words: named.stop_words,
        replaces_end: named.replaces_end,
        reasons: named.reasons,
        prefix: Cow::Borrowed(named.prefix),
        system: Cow::Borrowed(named.system),
        user: Cow::Borrowed(named.user),
        assistant: Cow::Borrowed(named.assistant),
    });
    made.collect()
});

/// Content alone, ended by the end token: what the others differ from.
const BASE: Named = Named {
    name: "",
    default_system: "",
    stop_words: &[],
    replaces_end: false,
    reasons: false,
    prefix: &[],
    system: PLAIN,
    user: PLAIN,
    assistant: ENDED,
};

/// Turns between `<|im_start|>` and `<|im_end|>`.
const CHATML: Named = Named {
    name: "chatml",
    stop_words: &["<|im_end|>", "<|im_start|>"],
    replaces_end: true,
    system: CHATML_SYSTEM,
    user: CHATML_USER,
    assistant: CHATML_ASSISTANT,
    ..BASE
};

const NAMED: [Named; 14] = [
    Named {
        name: "qwen",
        default_system: "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        stop_words: &["<|im_end|>"],
        ..CHATML
    },
    Named {
        name: "qwen3",
        stop_words: &["<|im_end|>"],
        reasons: true,
        ..CHATML
    },
    Named {
        name: "qwen3_nothink",
        stop_words: &["<|im_end|>"],
        ..CHATML
    },
    Named {
        name: "smollm2",
        default_system: "You are a helpful AI assistant named SmolLM, trained by Hugging Face.",
        stop_words: &["<|im_end|>"],
        replaces_end: false,
        ..CHATML
    },
    CHATML,
    Named {
        name: "yi",
        stop_words: &["<|im_end|>"],
        replaces_end: false,
        ..CHATML
    },
    Named {
        name: "llama3",
        stop_words: &["<|eot_id|>", "<|eom_id|>"],
        replaces_end: true,
        prefix: BEGIN,
        system: &[text(
            "<|start_header_id|>system<|end_header_id|>\n\n{{content}}<|eot_id|>",
        )],
        user: &[text(
            "<|start_header_id|>user<|end_header_id|>\n\n{{content}}<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n",
        )],
        assistant: &[text("{{content}}<|eot_id|>")],
        ..BASE
    },
    Named {
        name: "deepseek",
        prefix: BEGIN,
        system: &[text("{{content}}\n\n")],
        user: &[text("User: {{content}}\n\nAssistant:")],
        ..BASE
    },
    Named {
        name: "deepseek3",
        ..DEEPSEEK3
    },
    Named {
        name: "deepseekr1",
        reasons: true,
        ..DEEPSEEK3
    },
    Named {
        name: "alpaca",
        default_system: "Below is an instruction that describes a task. \
             Write a response that appropriately completes the request.\n\n",
        user: &[text("### Instruction:\n{{content}}\n\n### Response:\n")],
        assistant: &[text(CONTENT), Slot::End, text("\n\n")],
        ..BASE
    },
    Named {
        name: "vicuna",
        default_system: "A chat between a curious user and an artificial intelligence assistant. \
             The assistant gives helpful, detailed, and polite answers to the user's questions.",
        user: &[text("USER: {{content}} ASSISTANT:")],
        ..BASE
    },
    Named {
        name: "default",
        system: &[text("System: {{content}}"), Slot::End, text("\n")],
        user: &[text("Human: {{content}}"), Slot::End, text("\nAssistant:")],
        assistant: &[text(CONTENT), Slot::End, text("\n")],
        ..BASE
    },
    Named {
        name: "empty",
        assistant: PLAIN,
        ..BASE
    },
];

const DEEPSEEK3: Named = Named {
    prefix: BEGIN,
    user: &[text("<｜User｜>{{content}}<｜Assistant｜>")],
    ..BASE
};
