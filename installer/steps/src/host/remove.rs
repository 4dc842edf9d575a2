//! What vendors' installers left on the machine, and how a person takes it off. Ferry only shows it.
//!
//! The log tells what was installed, the version files whether it is still there, and the chip's data how its vendor
//! says that it is removed. Where no source was found that says it, that is what is shown.

use host_probe::{Host, installed_release, machine_path};
use manifest_schema::HostKind;
use manifest_schema::chip::{Family, Recipe};
use serde::Serialize;

use super::command::{Command, fill};
use super::step::names;
use crate::journal::{Action, Entry, HostEnded, Journal};

/// Something that an installer of a bundle put on the machine and that is still there, as far as can be seen.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct OnMachine {
    /// What; several where one command takes them off together.
    pub kinds: Vec<HostKind>,
    /// Its version, where the log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The vendor's own way to take it off; none where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Command>,
}

impl OnMachine {
    /// Catalogue code of the line that shows it.
    pub fn code(&self) -> &'static str {
        match self.remove {
            Some(_) => "install.host-remove",
            None => "install.host-remove-unknown",
        }
    }

    /// Values of that line.
    pub fn args(&self) -> report::Args {
        let command = self.remove.as_ref().map(ToString::to_string);
        vec![
            ("kinds", names(self.kinds.iter())),
            ("version", self.version.clone().unwrap_or_default()),
            ("command", command.unwrap_or_default()),
        ]
    }
}

/// Everything that was installed on the machine itself from below a prefix, what came last first.
pub fn on_machine(journal: &Journal, host: &dyn Host) -> Vec<OnMachine> {
    let mut found: Vec<OnMachine> = Vec::new();
    let mut seen = Vec::new();
    for entry in journal.entries().iter().rev() {
        let Some((kind, left)) = left_by(entry, host) else {
            continue;
        };
        if seen.contains(&kind) {
            continue;
        }
        seen.push(kind);
        let Some(left) = left else { continue };
        let same = |one: &&mut OnMachine| one.remove.is_some() && one.remove == left.remove;
        match found.iter_mut().find(same) {
            Some(one) => one.kinds.splice(0..0, left.kinds).for_each(drop),
            None => found.push(left),
        }
    }
    found
}

/// The kind that an entry tells of, and what of it is there. Only the last entry of a kind counts.
fn left_by(entry: &Entry, host: &dyn Host) -> Option<(HostKind, Option<OnMachine>)> {
    let Action::HostEnd {
        what,
        file: Some(_),
        ended,
        chip,
        version,
        program,
    } = &entry.action
    else {
        return None;
    };
    let kind: HostKind = what.parse().ok()?;
    // What failed without a way back may have left a half.
    let gone = *ended == HostEnded::Undone;
    let family = chip.as_deref().and_then(Family::of_chip);
    let rows = family.and_then(|family| {
        let layer = family.host.as_ref()?;
        let recipe = layer.recipe(&kind, program.as_deref().unwrap_or_default())?;
        Some((family, recipe))
    });
    let gone = gone || rows.is_some_and(|(family, recipe)| is_gone(host, family, recipe));
    let left = OnMachine {
        kinds: vec![kind.clone()],
        version: version.clone(),
        remove: rows.and_then(|(family, recipe)| {
            way_off(host, family, recipe, version.as_deref().unwrap_or_default())
        }),
    };
    Some((kind, (!gone).then_some(left)))
}

/// Version files are what an installer leaves; where there are none any more, somebody took it off.
fn is_gone(host: &dyn Host, family: &Family, recipe: &Recipe) -> bool {
    !recipe.marks.is_empty()
        && !recipe.marks_wait
        && installed_release(host, family, &recipe.marks).is_none()
}

fn way_off(host: &dyn Host, family: &Family, recipe: &Recipe, version: &str) -> Option<Command> {
    let values = [("{version}", version)];
    let whole = |text: &String| fill(&machine_path(host, family, text), &values);
    let way = recipe
        .remove
        .iter()
        .find(|way| host.exists(&whole(&way.there)))?;
    Some(Command::of(way.words.iter().map(whole).collect()))
}
