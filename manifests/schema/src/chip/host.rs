//! How a vendor's software gets onto the machine itself: `[host]` in a chip file.
//!
//! ```text
//! [host]               in which order kinds are installed, on a bare machine and over an older release
//! [host.account]       group and user that must be there first
//! [[host.kinds]]       for each kind of installer: the words that run it, and how its end is understood
//! ```
//!
//! A command is a list of words, never a line for a shell. Its first word is a program of the system; `{file}`
//! stands for the installer, which was checked before.

use serde::Deserialize;

use super::VersionFile;
use crate::HostKind;

/// A vendor's software for the machine itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostLayer {
    /// Group and user that must be there before anything is installed.
    pub account: Option<Account>,
    /// Order of a first installation.
    pub first: Vec<HostKind>,
    /// Order where [`HostLayer::first`]'s first kind is installed already.
    pub upgrade: Vec<HostKind>,
    /// Each kind of installer.
    pub kinds: Vec<Recipe>,
    /// Where the order was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// A group and a user that a driver wants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The group.
    pub group: String,
    /// The user, in that group.
    pub user: String,
    /// Makes the group; `{group}` is its name.
    pub make_group: Vec<String>,
    /// Makes the user; `{user}` and `{group}` are filled in.
    pub make_user: Vec<String>,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// How installers of one kind are run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The kind.
    pub kind: HostKind,
    /// Which switch of `install` asks for it.
    pub asked_by: AskedBy,
    /// Installs where nothing of the kind is there.
    pub install: Vec<String>,
    /// Installs over an older release. Empty: as [`Recipe::install`].
    #[serde(default)]
    pub upgrade: Vec<String>,
    /// Takes a first installation back. Empty where that cannot be done.
    #[serde(default)]
    pub uninstall: Vec<String>,
    /// Exit statuses that mean success.
    pub succeeds: Vec<i32>,
    /// Longest that it may take.
    pub minutes: u64,
    /// Whether it counts only after the machine was started anew.
    #[serde(default)]
    pub reboot: bool,
    /// Whether it may build a kernel module.
    #[serde(default)]
    pub builds_module: bool,
    /// Version files that tell what is installed. Empty where none is known: then the log tells.
    #[serde(default)]
    pub marks: Vec<VersionFile>,
    /// Where the words were read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// The switch that asks for a kind.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum AskedBy {
    /// `--with-driver`.
    Driver,
    /// `--with-toolkit`.
    Toolkit,
}

impl HostLayer {
    /// How installers of a kind are run.
    pub fn recipe(&self, kind: &HostKind) -> Option<&Recipe> {
        self.kinds.iter().find(|recipe| recipe.kind == *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::*;

    /// Every list of words with the names that may stand in it.
    fn commands(layer: &HostLayer) -> Vec<(&[String], &'static [&'static str])> {
        let mut commands: Vec<(&[String], &'static [&'static str])> = Vec::new();
        if let Some(account) = &layer.account {
            commands.push((&account.make_group, &["{group}"]));
            commands.push((&account.make_user, &["{group}", "{user}"]));
        }
        for recipe in &layer.kinds {
            for words in [&recipe.install, &recipe.upgrade, &recipe.uninstall] {
                commands.push((words, &["{file}"]));
            }
        }
        commands
    }

    #[test]
    fn every_order_has_a_recipe_and_every_recipe_an_order() {
        for family in Family::all() {
            let Some(layer) = &family.host else { continue };
            for order in [&layer.first, &layer.upgrade] {
                assert_eq!(order.len(), layer.kinds.len(), "{}", family.name);
                assert!(order.iter().all(|kind| layer.recipe(kind).is_some()));
            }
            assert!(!layer.source.is_empty());
            for recipe in &layer.kinds {
                assert!(!recipe.source.is_empty(), "{}", recipe.kind);
                assert!(!recipe.install.is_empty(), "{}", recipe.kind);
                assert!((1..=24 * 60).contains(&recipe.minutes), "{}", recipe.kind);
            }
        }
    }

    #[test]
    fn commands_name_a_program_of_the_system_and_fill_in_nothing_else() {
        for family in Family::all() {
            let Some(layer) = &family.host else { continue };
            for (words, names) in commands(layer) {
                let Some(program) = words.first() else {
                    continue;
                };
                assert!(
                    program.bytes().all(|b| b.is_ascii_lowercase()),
                    "{}: {program}",
                    family.name
                );
                for word in words {
                    let rest = names
                        .iter()
                        .fold(word.clone(), |word, name| word.replace(name, ""));
                    assert!(!rest.contains(['{', '}']), "{}: {word}", family.name);
                }
            }
        }
    }
}
