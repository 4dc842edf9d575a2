//! A step on the machine itself, and the line that shows it.

use manifest_schema::HostKind;
use report::Args;
use serde::Serialize;

use super::command::Command;

/// One step on the machine itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HostStep {
    /// It is there in this version.
    AlreadyThere {
        /// What.
        kind: HostKind,
        /// The version.
        version: String,
    },
    /// Make a group or a user.
    MakeAccount {
        /// Its name.
        name: String,
        /// The command.
        command: Command,
    },
    /// Run a vendor's installer.
    Install {
        /// What it installs.
        kind: HostKind,
        /// In which version.
        version: String,
        /// The version that is there.
        over: Option<String>,
        /// The command.
        command: Command,
        /// What follows when it ended well, one after the other.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        then: Vec<Command>,
        /// The command that takes it back; none for an upgrade, or where the vendor has no way back.
        undo: Option<Command>,
        /// Whether the vendor's own signature is checked before.
        vendor_signed: bool,
    },
    /// Start the machine anew.
    Reboot {
        /// For what.
        after: Vec<HostKind>,
    },
}

impl HostStep {
    /// Catalogue code of the line that shows this step.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlreadyThere { .. } => "install.host-step.there",
            Self::MakeAccount { .. } => "install.host-step.account",
            Self::Install {
                over: Some(_),
                undo: _,
                ..
            } => "install.host-step.upgrade",
            Self::Install { undo: Some(_), .. } => "install.host-step.install",
            Self::Install { .. } => "install.host-step.install-for-good",
            Self::Reboot { .. } => "install.host-step.reboot",
        }
    }

    /// Values of that line.
    pub fn args(&self) -> Args {
        match self {
            Self::AlreadyThere { kind, version } => {
                vec![("kind", kind.to_string()), ("version", version.clone())]
            }
            Self::MakeAccount { name, command } => {
                vec![("name", name.clone()), ("command", command.to_string())]
            }
            Self::Install {
                kind,
                version,
                over,
                command,
                then,
                undo,
                ..
            } => vec![
                ("kind", kind.to_string()),
                ("version", version.clone()),
                ("over", over.clone().unwrap_or_default()),
                (
                    "command",
                    std::iter::once(command)
                        .chain(then)
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(" && "),
                ),
                (
                    "undo",
                    undo.as_ref().map(ToString::to_string).unwrap_or_default(),
                ),
            ],
            Self::Reboot { after } => vec![("kinds", names(after.iter()))],
        }
    }
}

pub(super) fn names<'a>(kinds: impl Iterator<Item = &'a HostKind>) -> String {
    kinds.map(HostKind::as_str).collect::<Vec<_>>().join(", ")
}
