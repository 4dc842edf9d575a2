//! The templates that are known by name.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::template::{CONTENT, ENDED, Slot, Template};
use crate::tools::ToolFormat;

const fn text(text: &'static str) -> Slot {
    Slot::Text(Cow::Borrowed(text))
}

const CHATML_SYSTEM: &[Slot] = &[text("<|im_start|>system\n{{content}}<|im_end|>\n")];
const CHATML_USER: &[Slot] = &[text(
    "<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n",
)];
const CHATML_ASSISTANT: &[Slot] = &[text("{{content}}<|im_end|>\n")];
const CHATML_TOOL: &[Slot] = &[text(
    "<|im_start|>tool\n{{content}}<|im_end|>\n<|im_start|>assistant\n",
)];
const QWEN_TOOL: &[Slot] = &[text(
    "<|im_start|>user\n<tool_response>\n{{content}}\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
)];
const PLAIN: &[Slot] = &[text(CONTENT)];
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
    /// None: as a question.
    observation: Option<&'static [Slot]>,
    /// None: as an answer.
    function: Option<&'static [Slot]>,
    tools: ToolFormat,
    system_in_user: bool,
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
        observation: Cow::Borrowed(named.observation.unwrap_or(named.user)),
        function: Cow::Borrowed(named.function.unwrap_or(named.assistant)),
        tools: named.tools,
        system_in_user: named.system_in_user,
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
    observation: None,
    function: None,
    tools: ToolFormat::Default,
    system_in_user: false,
};

/// Turns between `<|im_start|>` and `<|im_end|>`.
const CHATML: Named = Named {
    name: "chatml",
    stop_words: &["<|im_end|>", "<|im_start|>"],
    replaces_end: true,
    system: CHATML_SYSTEM,
    user: CHATML_USER,
    assistant: CHATML_ASSISTANT,
    observation: Some(CHATML_TOOL),
    ..BASE
};

/// The same with Qwen's words for tools.
const QWEN: Named = Named {
    name: "qwen",
    stop_words: &["<|im_end|>"],
    observation: Some(QWEN_TOOL),
    tools: ToolFormat::Qwen,
    ..CHATML
};

const NAMED: [Named; 17] = [
    Named {
        default_system: "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        ..QWEN
    },
    Named {
        name: "qwen3",
        reasons: true,
        ..QWEN
    },
    Named {
        name: "qwen3_nothink",
        ..QWEN
    },
    Named {
        name: "smollm2",
        default_system: "You are a helpful AI assistant named SmolLM, trained by Hugging Face.",
        stop_words: &["<|im_end|>"],
        replaces_end: false,
        observation: None,
        ..CHATML
    },
    CHATML,
    Named {
        name: "yi",
        stop_words: &["<|im_end|>"],
        replaces_end: false,
        observation: None,
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
        observation: Some(&[text(
            "<|start_header_id|>ipython<|end_header_id|>\n\n{{content}}<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n",
        )]),
        tools: ToolFormat::Llama3,
        ..BASE
    },
    LLAMA2,
    Named {
        name: "llama2_zh",
        default_system: "You are a helpful assistant. 你是一个乐于助人的助手。",
        ..LLAMA2
    },
    Named {
        name: "mistral",
        prefix: BEGIN,
        system: &[text("{{content}}\n\n")],
        user: &[text("[INST] {{content}}[/INST]")],
        assistant: &[text(" {{content}}"), Slot::End],
        observation: Some(&[text(
            "[TOOL_RESULTS] {\"content\": {{content}}}[/TOOL_RESULTS]",
        )]),
        function: Some(&[text("[TOOL_CALLS] {{content}}"), Slot::End]),
        tools: ToolFormat::Mistral,
        system_in_user: true,
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

const LLAMA2: Named = Named {
    name: "llama2",
    system: &[text("<<SYS>>\n{{content}}\n<</SYS>>\n\n")],
    user: &[Slot::Begin, text("[INST] {{content}} [/INST]")],
    system_in_user: true,
    ..BASE
};

const DEEPSEEK3: Named = Named {
    prefix: BEGIN,
    user: &[text("<｜User｜>{{content}}<｜Assistant｜>")],
    ..BASE
};
