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

    /// Every name that the list may give a column.
    pub(crate) const ROLES: [&'static str; 13] = [
        "prompt", "query", "response", "history", "messages", "system", "tools", "images",
        "videos", "audios", "chosen", "rejected", "kto_tag",
    ];

    /// The columns that are named; an empty name is none, as in the original.
    #[must_use]
    pub(crate) fn named(mut self) -> Self {
        let all = [
            &mut self.prompt,
            &mut self.query,
            &mut self.response,
            &mut self.history,
            &mut self.messages,
            &mut self.system,
            &mut self.tools,
            &mut self.images,
            &mut self.videos,
            &mut self.audios,
            &mut self.chosen,
            &mut self.rejected,
            &mut self.kto_tag,
        ];
        for column in all {
            *column = column.take().filter(|name| !name.is_empty());
        }
        self
    }

    /// Whether they hold answers that were called good or bad.
    pub(crate) fn is_judged(&self) -> bool {
        self.kto_tag.is_some()
    }

    /// The columns that some record must have, or the listing is wrong; `open`: answers may be missing. Turn records are
    /// looked at one by one.
    pub(crate) fn essential(
        &self,
        formatting: Formatting,
        stage: Stage,
        open: bool,
    ) -> Vec<(&'static str, String)> {
        if formatting != Formatting::Alpaca {
            return Vec::new();
        }
        let or = |column: &Option<String>, usual: &str| {
            Some(column.clone().unwrap_or_else(|| usual.to_owned()))
        };
        let answers = match stage {
            Stage::Pretrain => [None, None],
            Stage::Supervised if open => [None, None],
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
    /// Every name that the list may give a tag.
    pub(crate) const ROLES: [&'static str; 7] = [
        "role_tag",
        "content_tag",
        "user_tag",
        "assistant_tag",
        "observation_tag",
        "function_tag",
        "system_tag",
    ];
}

impl KnownTags {
    /// Fills up what the entry leaves out.
    ///
    /// As in the original, an entry that names tags names all of them for `sharegpt`: turns with other roles are no turns.
    /// Where the original cannot do without a tag, or fails on the role as for `openai`, the usual one is meant.
    pub(crate) fn of_entry(tags: Option<Tags>, formatting: Formatting) -> Self {
        let closed = tags.is_some() && formatting != Formatting::Openai;
        let tags = tags.unwrap_or_default();
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
        let given = |tag: Option<String>| tag.filter(|tag| !tag.is_empty());
        let or = |tag: Option<String>, usual: &str| given(tag).unwrap_or_else(|| usual.to_owned());
        let maybe = |tag: Option<String>, usual: &str| {
            given(tag).or_else(|| (!closed).then(|| usual.to_owned()))
        };
        Self {
            role: or(tags.role, names[0]),
            content: or(tags.content, names[1]),
            user: or(tags.user, names[2]),
            assistant: or(tags.assistant, names[3]),
            observation: maybe(tags.observation, names[4]),
            function: maybe(tags.function, names[5]),
            system: maybe(tags.system, "system"),
        }
    }
}

/// [`Tags`] as they count.
#[derive(Clone, Debug)]
pub(crate) struct KnownTags {
    pub(crate) role: String,
    pub(crate) content: String,
    pub(crate) user: String,
    pub(crate) assistant: String,
    /// None: nobody speaks so.
    pub(crate) observation: Option<String>,
    pub(crate) function: Option<String>,
    pub(crate) system: Option<String>,
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
        // Of two roles with one name the original takes the later.
        let roles = [
            (self.function.as_ref(), Role::Function),
            (self.observation.as_ref(), Role::Observation),
            (Some(&self.assistant), Role::Assistant),
            (Some(&self.user), Role::User),
        ];
        let found = roles
            .into_iter()
            .find(|(name, _)| name.is_some_and(|name| name == tag));
        found.map(|(_, role)| role)
    }
}
