//! How a vendor's software gets onto the machine itself: `[host]` in a chip file.
//!
//! ```text
//! [host]               in which order kinds are installed, on a bare machine and over an older release
//! [host.account]       group and user that must be there first
//! [[host.kinds]]       for each kind of installer: the words that run it, and how its end is understood
//! ```
//!
//! A command is a list of words, never a line for a shell. Its first word is a program of the system; `{file}`
//! stands for the installer, which was checked before, `{version}` for the version that the plan gives it, `{kernel}`
//! for the kernel that runs. What an installer and what follows it leave in the folder that they are started in is gone
//! afterwards: an archive that has its script inside is unpacked there.
//! Several rows may be of one kind, each for other names of the file: an rpm is installed otherwise than a deb.

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
    /// File names that this row is for: an ending, such as `.rpm`, or a beginning and an ending with a `*` between
    /// them. Empty: any.
    #[serde(default)]
    pub files: Vec<String>,
    /// Which switch of `install` asks for it.
    pub asked_by: AskedBy,
    /// Programs of the system that it needs besides those that every installer does.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Installs where nothing of the kind is there.
    pub install: Vec<String>,
    /// Installs over an older release. Empty: as [`Recipe::install`].
    #[serde(default)]
    pub upgrade: Vec<String>,
    /// Takes a first installation back. Empty where that cannot be done.
    #[serde(default)]
    pub uninstall: Vec<String>,
    /// What follows on a success, one after the other; each must end with 0.
    #[serde(default)]
    pub then: Vec<Vec<String>>,
    /// What follows over an older release. Empty: as [`Recipe::then`].
    #[serde(default)]
    pub then_over: Vec<Vec<String>>,
    /// How a person takes it off the machine later. Shown, never run.
    #[serde(default)]
    pub remove: Vec<Removal>,
    /// Exit statuses that mean success.
    pub succeeds: Vec<i32>,
    /// Longest that it may take.
    pub minutes: u64,
    /// Whether it counts only after the machine was started anew.
    #[serde(default)]
    pub reboot: bool,
    /// When it builds a module for the running kernel.
    #[serde(default)]
    pub builds_module: Builds,
    /// Version files that tell what is installed. Empty where none is known: then the log tells.
    #[serde(default)]
    pub marks: Vec<VersionFile>,
    /// The version files are those of a running driver: they tell of this one only after the next start.
    #[serde(default)]
    pub marks_wait: bool,
    /// Where the words were read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// A way to take something off the machine, by what the vendor left there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// What must be there for this way to be the one, `{root}`, `{arch}` and `{version}` filled in.
    pub there: String,
    /// The command, with the same names filled in.
    pub words: Vec<String>,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// When an installer builds a kernel module, which needs the kernel's headers and a compiler.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Builds {
    /// It has none.
    #[default]
    Never,
    /// It brings modules for the kernels that systems were released with, and builds for any other.
    ForOtherKernels,
    /// It brings none.
    Always,
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
    /// The rows of a kind.
    pub fn recipes<'l>(&'l self, kind: &'l HostKind) -> impl Iterator<Item = &'l Recipe> {
        self.kinds.iter().filter(move |recipe| recipe.kind == *kind)
    }

    /// How the installer of a kind that has this file name is run.
    pub fn recipe(&self, kind: &HostKind, name: &str) -> Option<&Recipe> {
        let mut rows = self.kinds.iter();
        rows.find(|recipe| recipe.kind == *kind && recipe.takes(name))
    }
}

impl Recipe {
    /// Whether this row is for a file of this name.
    pub fn takes(&self, name: &str) -> bool {
        let is_named = |known: &String| match known.split_once('*') {
            Some((beginning, ending)) => name
                .strip_prefix(beginning)
                .is_some_and(|rest| rest.ends_with(ending)),
            None => name.ends_with(known.as_str()),
        };
        self.files.is_empty() || self.files.iter().any(is_named)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
                commands.push((words, &["{file}", "{kernel}"]));
            }
            for words in recipe.then.iter().chain(&recipe.then_over) {
                commands.push((words, &["{version}"]));
            }
            for way in &recipe.remove {
                commands.push((&way.words, &["{root}", "{arch}", "{version}"]));
            }
        }
        commands
    }

    #[test]
    fn every_order_has_a_recipe_and_every_recipe_an_order() {
        for family in Family::all() {
            let Some(layer) = &family.host else { continue };
            let kinds: BTreeSet<&HostKind> = layer.kinds.iter().map(|row| &row.kind).collect();
            for order in [&layer.first, &layer.upgrade] {
                assert_eq!(order.len(), kinds.len(), "{}", family.name);
                assert!(order.iter().all(|kind| kinds.contains(kind)));
            }
            assert!(!layer.source.is_empty());
            for recipe in &layer.kinds {
                assert!(!recipe.source.is_empty(), "{}", recipe.kind);
                let ways = || recipe.remove.iter();
                assert!(
                    ways().all(|way| !way.source.is_empty() && way.there.starts_with(['/', '{']))
                );
                // Two rows for one name would hide one of them.
                let rows = layer.recipes(&recipe.kind);
                let rows = rows.filter(|row| recipe.files.iter().any(|name| row.takes(name)));
                assert!(rows.count() <= 1, "{} {}", family.name, recipe.kind);
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
                    program.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
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

    #[test]
    fn a_row_is_chosen_by_the_ending_of_the_file() {
        let layer = Family::named("cambricon").unwrap().host.as_ref().unwrap();
        let kind = "driver".parse().unwrap();
        let program = |name| Some(layer.recipe(&kind, name)?.install.first()?.as_str());
        for (name, expected) in [
            (
                "cambricon-mlu-driver-kylinV10-5.10.22-1.ky10.x86_64.rpm",
                Some("rpm"),
            ),
            (
                "cambricon-mlu-driver-ubuntu20.04-dkms_5.10.22_amd64.deb",
                Some("dpkg"),
            ),
            ("driver.run", None),
        ] {
            assert_eq!(program(name), expected, "{name}");
        }
    }

    #[test]
    fn a_row_is_chosen_by_the_beginning_and_the_ending_where_both_tell() {
        let layer = Family::named("enflame").unwrap().host.as_ref().unwrap();
        let kind = "driver".parse().unwrap();
        let last = |name| Some(layer.recipe(&kind, name)?.install.iter().skip(2).count());
        for (name, words) in [
            ("enflame-x86_64-gcc-1.7.2.14-20260302150833.run", Some(1)),
            ("TopsRider_i3x_3.6.107_deb_amd64.run", Some(2)),
            ("enflame.run", None),
            ("other-enflame-1.run", None),
        ] {
            assert_eq!(last(name), words, "{name}");
        }
    }
}
