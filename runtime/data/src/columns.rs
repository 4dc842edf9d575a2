//! How `dataset_info.json` names the parts of a record.

use serde::Deserialize;

use crate::listing::Formatting;
use crate::stage::Stage;

/// Which field of a record holds what. An entry that names columns names all it uses.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Columns {
    pub(crate) prompt: Option<String>,
    pub(crate) query: Option<String>,
    pub(crate) response: Option<String>,
    pub(crate) history: Option<String>,
    pub(crate) messages: Option<String>,
    pub(crate) system: Option<String>,
    pub(crate) tools: Option<String>,
    pub(crate) images: Option<String>,
    pub(crate) videos: Option<String>,
    pub(crate) audios: Option<String>,
    pub(crate) chosen: Option<String>,
    pub(crate) rejected: Option<String>,
    pub(crate) kto_tag: Option<String>,
}

impl Columns {
    /// The columns of an entry that names none.
    pub(crate) fn usual(formatting: Formatting) -> Self {
        let messages = match formatting {
            Formatting::Openai => "messages",
            Formatting::Alpaca | Formatting::Sharegpt => "conversations",
        };
        Self {
            prompt: Some("instruction".to_owned()),
            query: Some("input".to_owned()),
            response: Some("output".to_owned()),
            messages: Some(messages.to_owned()),
            ..Self::default()
        }
    }

    /// Whether they hold answers that were called good or bad.
    pub(crate) fn is_judged(&self) -> bool {
        self.kto_tag.is_some()
    }

    /// The columns that some record must have, or the listing is wrong. Turn records are looked at one by one.
    pub(crate) fn essential(
        &self,
        formatting: Formatting,
        stage: Stage,
    ) -> Vec<(&'static str, String)> {
        if formatting != Formatting::Alpaca {
            return Vec::new();
        }
        let or = |column: &Option<String>, usual: &str| {
            Some(column.clone().unwrap_or_else(|| usual.to_owned()))
        };
        let answers = match stage {
            Stage::Pretrain => [None, None],
            Stage::Supervised | Stage::Feedback => [self.response.clone(), None],
            Stage::Pairwise => [or(&self.chosen, "chosen"), or(&self.rejected, "rejected")],
        };
        let roles = match stage {
            Stage::Pairwise => ["chosen", "rejected"],
            _ => ["response", ""],
        };
        let mut essential = vec![("prompt", self.prompt.clone())];
        essential.extend(roles.into_iter().zip(answers));
        let named = |(role, column): (&'static str, Option<String>)| Some((role, column?));
        essential.into_iter().filter_map(named).collect()
    }
}

/// How a list of turns names its parts.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Tags {
    #[serde(rename = "role_tag")]
    role: Option<String>,
    #[serde(rename = "content_tag")]
    content: Option<String>,
    #[serde(rename = "user_tag")]
    user: Option<String>,
    #[serde(rename = "assistant_tag")]
    assistant: Option<String>,
    #[serde(rename = "observation_tag")]
    observation: Option<String>,
    #[serde(rename = "function_tag")]
    function: Option<String>,
    #[serde(rename = "system_tag")]
    system: Option<String>,
}

impl Tags {
    /// Fills up what the entry leaves out.
    pub(crate) fn or_usual(self, formatting: Formatting) -> KnownTags {
        let names = match formatting {
            Formatting::Openai => ["role", "content", "user", "assistant", "tool", "function"],
            Formatting::Alpaca | Formatting::Sharegpt => [
                "from",
                "value",
                "human",
                "gpt",
                "observation",
                "function_call",
            ],
        };
        let or = |tag: Option<String>, index: usize| tag.unwrap_or_else(|| names[index].to_owned());
        KnownTags {
            role: or(self.role, 0),
            content: or(self.content, 1),
            user: or(self.user, 2),
            assistant: or(self.assistant, 3),
            observation: or(self.observation, 4),
            function: or(self.function, 5),
            system: self.system.unwrap_or_else(|| "system".to_owned()),
        }
    }
}

/// [`Tags`] with every name known.
#[derive(Clone, Debug)]
pub(crate) struct KnownTags {
    pub(crate) role: String,
    pub(crate) content: String,
    pub(crate) user: String,
    pub(crate) assistant: String,
    pub(crate) observation: String,
    pub(crate) function: String,
    pub(crate) system: String,
}

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    User,
    Assistant,
    /// What a tool answered.
    Observation,
    /// Calls of tools.
    Function,
}

impl KnownTags {
    /// Whom a tag names.
    pub(crate) fn of(&self, tag: &str) -> Option<Role> {
        let roles = [
            (&self.user, Role::User),
            (&self.assistant, Role::Assistant),
            (&self.observation, Role::Observation),
            (&self.function, Role::Function),
        ];
        let found = roles.into_iter().find(|(name, _)| *name == tag);
        found.map(|(_, role)| role)
    }
}
