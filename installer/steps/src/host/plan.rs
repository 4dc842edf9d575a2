//! What would be done to the machine itself: every command word for word, before anything runs.

use std::path::{Path, PathBuf};

use host_probe::{Host, installed_release};
use manifest_schema::chip::{Account, AskedBy, Builds, Family, HostLayer, Recipe};
use manifest_schema::site::{DeviceState, Site};
use manifest_schema::{
    Backend, ByteSize, HostItem, HostKind, PlacedFile, check_host_items, host_layer,
};

use super::HostError;
use super::command::Command;
use super::state::State;
use super::step::{HostStep, names};
use crate::journal::{HostEnded, Journal};
use crate::prefix::Prefix;

/// Which switches were given.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// `--with-driver`.
    pub driver: bool,
    /// `--with-toolkit`.
    pub toolkit: bool,
}

/// What is done to the machine itself, worked out in full.
#[derive(Clone, Debug, Default)]
pub struct HostPlan {
    /// The steps, in the vendor's order.
    pub steps: Vec<HostStep>,
    /// Bytes that the vendors' files take below the prefix while they are needed.
    pub needed: ByteSize,
    pub(super) work: Vec<Work>,
    /// What ran during this start of the machine and counts only after the next.
    settled: Vec<(HostItem<PlacedFile>, &'static Recipe)>,
}

/// What a step needs beyond what is shown of it.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) step: usize,
    pub(super) item: HostItem<PlacedFile>,
    pub(super) recipe: &'static Recipe,
}

impl HostPlan {
    /// Works out what `wanted` asks for on this machine. Reads, and changes nothing.
    ///
    /// # Errors
    /// When the backend brings nothing of the kind, describes something that is no installer, or the machine must be
    /// started anew first.
    pub fn compute(
        backend: &Backend,
        wanted: Wanted,
        site: &Site,
        host: &dyn Host,
        prefix: &Prefix,
    ) -> Result<Self, HostError> {
        if wanted == Wanted::default() {
            return Ok(Self::default());
        }
        let layer = host_layer(&backend.chip);
        let at = format!("backends.{}.host", backend.name);
        check_host_items(&backend.host, &backend.chip, &at, |file| &file.path)
            .map_err(|problem| HostError::Item { problem })?;
        let asked = |item: &&HostItem<PlacedFile>, by: AskedBy| {
            layer
                .and_then(|layer| recipe_of(layer, item))
                .is_some_and(|recipe| recipe.asked_by == by)
        };
        for (flag, by, given) in [
            ("--with-driver", AskedBy::Driver, wanted.driver),
            ("--with-toolkit", AskedBy::Toolkit, wanted.toolkit),
        ] {
            if given && !backend.host.iter().any(|item| asked(&item, by)) {
                return Err(HostError::NothingBrought { flag });
            }
        }
        let (Some(layer), Some(family)) = (layer, Family::of_chip(&backend.chip)) else {
            return Ok(Self::default());
        };
        let state = State::read(prefix)?;
        let planner = Planner {
            family,
            site,
            host,
            prefix,
            journal: Journal::read(prefix)?,
            state,
        };
        planner.refuse_before_reboot()?;
        let mut plan = Self::default();
        let order = planner.order(layer);
        let items: Vec<(&HostItem<PlacedFile>, &'static Recipe)> = order
            .iter()
            .filter_map(|kind| {
                let item = backend.host.iter().find(|item| item.kind == *kind)?;
                let recipe = recipe_of(layer, item)?;
                let given = match recipe.asked_by {
                    AskedBy::Driver => wanted.driver,
                    AskedBy::Toolkit => wanted.toolkit,
                };
                given.then_some((item, recipe))
            })
            .collect();
        let waiting = items
            .iter()
            .any(|(item, recipe)| !planner.is_there(item, recipe));
        if let Some(account) = layer.account.as_ref().filter(|_| waiting) {
            plan.steps.extend(planner.accounts(account));
        }
        planner.add(&mut plan, &items);
        Ok(plan)
    }

    /// The kinds that will be installed.
    pub fn kinds(&self) -> Vec<HostKind> {
        self.work
            .iter()
            .map(|work| work.item.kind.clone())
            .collect()
    }

    /// The installers whose effect is still to come, with what is known of their kind.
    pub fn items(&self) -> impl Iterator<Item = (&HostItem<PlacedFile>, &'static Recipe)> {
        let settled = self.settled.iter().map(|(item, recipe)| (item, *recipe));
        let work = self.work.iter().map(|work| (&work.item, work.recipe));
        settled.chain(work)
    }

    /// Every file that the work reads.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PlacedFile> {
        let terms = |field: &str| field == "eula.text";
        let items = self.work.iter().flat_map(|work| work.item.files());
        items
            .filter(move |(field, _)| !terms(field))
            .map(|(_, file)| file)
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.work.is_empty() && self.settled.is_empty()
    }
}

struct Planner<'a> {
    family: &'static Family,
    site: &'a Site,
    host: &'a dyn Host,
    prefix: &'a Prefix,
    journal: Journal,
    state: Option<State>,
}

impl Planner<'_> {
    /// What was installed counts only after a start; more work on top of it would be built on sand.
    fn refuse_before_reboot(&self) -> Result<(), HostError> {
        let Some(waits) = self.state.as_ref().and_then(|state| state.reboot.as_ref()) else {
            return Ok(());
        };
        let now = boot_id(self.host);
        if now.is_some() && now == waits.boot {
            let kinds = names(waits.after.iter());
            return Err(HostError::RebootFirst { kinds });
        }
        Ok(())
    }

    /// The vendor's order: another one where its first kind is there already.
    fn order<'l>(&self, layer: &'l HostLayer) -> &'l [HostKind] {
        let first = layer.first.first();
        let mut first = first.into_iter().flat_map(|kind| layer.recipes(kind));
        let there =
            first.any(|recipe| installed_release(self.host, self.family, &recipe.marks).is_some());
        // Half of a first installation is not an upgrade.
        let begun = self.state.as_ref().is_some_and(|state| state.first);
        if there && !begun {
            &layer.upgrade
        } else {
            &layer.first
        }
    }

    fn is_there(&self, item: &HostItem<PlacedFile>, recipe: &Recipe) -> bool {
        // A driver that is there and serves nothing is put there again, unless that was just done.
        let serves =
            recipe.builds_module == Builds::Never || !self.is_broken() || self.was_done_now(item);
        if recipe.marks.is_empty() {
            let ended = self.journal.host_ended(&item.file.digest);
            return ended == Some(HostEnded::Done) && serves;
        }
        if recipe.marks_wait && self.was_done_now(item) && self.is_same_start() {
            return true;
        }
        let found = installed_release(self.host, self.family, &recipe.marks);
        let same =
            found.is_some_and(|found| found.version.eq_ignore_ascii_case(item.version.as_str()));
        same && serves
    }

    fn is_broken(&self) -> bool {
        let ours = |family: &str| family == self.family.name;
        let bad = [DeviceState::DriverMissing, DeviceState::DriverBroken];
        let devices = &self.site.devices;
        devices
            .iter()
            .any(|d| ours(&d.family) && bad.contains(&d.state))
    }

    /// Whether the machine was not started anew since the last installer ran.
    fn is_same_start(&self) -> bool {
        let then = self.state.as_ref().and_then(|state| state.boot.clone());
        then.is_some() && then == boot_id(self.host)
    }

    fn was_done_now(&self, item: &HostItem<PlacedFile>) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| state.done.contains(&item.file.digest))
    }

    /// A group or user that is missing is made; the files that list them are the ones that every system has.
    fn accounts(&self, account: &Account) -> Vec<HostStep> {
        let listed = |file: &str, name: &str| {
            let text = self.host.read(file).unwrap_or_default();
            text.lines()
                .any(|line| line.split(':').next() == Some(name))
        };
        let values = [
            ("{group}", account.group.as_str()),
            ("{user}", account.user.as_str()),
        ];
        [
            ("/etc/group", &account.group, &account.make_group),
            ("/etc/passwd", &account.user, &account.make_user),
        ]
        .into_iter()
        .filter(|(file, name, _)| !listed(file, name))
        .map(|(_, name, template)| HostStep::MakeAccount {
            name: name.clone(),
            command: Command::fill(template, &values),
        })
        .collect()
    }

    fn add(&self, plan: &mut HostPlan, items: &[(&HostItem<PlacedFile>, &'static Recipe)]) {
        let mut waiting: Vec<HostKind> = Vec::new();
        for (item, recipe) in items {
            if self.is_there(item, recipe) {
                plan.steps.push(HostStep::AlreadyThere {
                    kind: item.kind.clone(),
                    version: item.version.to_string(),
                });
                if recipe.reboot && self.was_done_now(item) && self.is_same_start() {
                    plan.settled.push(((*item).clone(), recipe));
                    waiting.push(item.kind.clone());
                }
                continue;
            }
            if !recipe.reboot && !waiting.is_empty() {
                let after = std::mem::take(&mut waiting);
                plan.steps.push(HostStep::Reboot { after });
            }
            plan.work.push(Work {
                step: plan.steps.len(),
                item: (*item).clone(),
                recipe,
            });
            plan.steps.push(self.install(item, recipe));
            plan.needed.0 += item.file.size.0.saturating_mul(ROOM);
            if recipe.reboot {
                waiting.push(item.kind.clone());
            }
        }
        if !waiting.is_empty() {
            plan.steps.push(HostStep::Reboot { after: waiting });
        }
    }

    fn install(&self, item: &HostItem<PlacedFile>, recipe: &Recipe) -> HostStep {
        let found = installed_release(self.host, self.family, &recipe.marks);
        let over = found.map(|found| found.version);
        let template = match &over {
            Some(_) if !recipe.upgrade.is_empty() => &recipe.upgrade,
            _ => &recipe.install,
        };
        let path = program(self.prefix, item).display().to_string();
        let kernel = self.site.kernel.as_ref();
        let kernel = kernel.map_or("unknown", |kernel| kernel.value.as_str());
        let values = [("{file}", path.as_str()), ("{kernel}", kernel)];
        let undo = over.is_none() && !recipe.uninstall.is_empty();
        let then = match &over {
            Some(_) if !recipe.then_over.is_empty() => &recipe.then_over,
            _ => &recipe.then,
        };
        HostStep::Install {
            kind: item.kind.clone(),
            version: item.version.to_string(),
            command: Command::fill(template, &values),
            then: {
                let values = [("{version}", item.version.as_str())];
                let then = then.iter();
                then.map(|words| Command::fill(words, &values)).collect()
            },
            undo: undo.then(|| Command::fill(&recipe.uninstall, &values)),
            over,
            vendor_signed: item.signature.is_some(),
        }
    }
}

/// How an installer is run: the row of its kind that takes its name.
fn recipe_of(layer: &'static HostLayer, item: &HostItem<PlacedFile>) -> Option<&'static Recipe> {
    layer.recipe(&item.kind, item.program(|file| &file.path))
}

/// Where a vendor's file lies while it is needed.
pub(super) fn staged(prefix: &Prefix, item: &HostItem<PlacedFile>) -> PathBuf {
    let folder = prefix.host().join(item.file.digest.hex());
    folder.join(last_part(item.file.path.as_str()))
}

/// The program that is run: the vendor's file, or its member of that archive.
pub(super) fn program(prefix: &Prefix, item: &HostItem<PlacedFile>) -> PathBuf {
    let whole = staged(prefix, item);
    match &item.member {
        None => whole,
        Some(member) => {
            let folder = whole.parent().unwrap_or(Path::new("/")).join("member");
            folder.join(last_part(member.as_str()))
        }
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Names that tell one start of the machine from another.
pub(super) fn boot_id(host: &dyn Host) -> Option<String> {
    let text = host.read("/proc/sys/kernel/random/boot_id").ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The file, its member where it is an archive, and what it unpacks itself to.
const ROOM: u64 = 5;
