//! A backend's Python environment: which distributions, which wheel of each, and what makes it on site.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bundle_mirror::{
    Pin, QUESTIONS, RequirementError, Requirements, Wish, needed_by_wheel, pin_of_wheel,
    read_pylock, refuse, side_by_side, wheel_metadata,
};
use manifest_schema::lock::{LockedFile, LockedPython};
use manifest_schema::plan::{ArchiveKind, PlanBackend, PlanFile, PlanPython, Source, WheelTarget};
use report::{Event, Trouble};

use super::{Locker, path, whole};
use crate::chip_rules::{ChipRules, project_of};

/// Where the installer looks for them, below `backend/`.
const PYTHON: &str = "python";
const UV: &str = "bin/uv";

/// Distributions that are settled, by project: its pin and its wheel.
type Settled = BTreeMap<String, (Pin, LockedFile)>;

impl Locker<'_> {
    /// Settles every distribution of `python` for `target`.
    pub(super) fn python(
        &mut self,
        backend: &PlanBackend,
        python: &PlanPython,
        target: &WheelTarget,
    ) -> Result<LockedPython, Trouble> {
        let mut wish = Requirements::default();
        wish.add(&python.requirements, "the plan")?;
        let mut settled = Settled::new();
        for source in &python.wheels {
            let (pin, wheel) = self.own_wheel(source, target, &mut wish)?;
            settle(&mut settled, pin, wheel)?;
        }
        for name in &python.requirement_files {
            let file = self.plan_folder.join(name);
            for locked in match kind(&file) {
                Kind::UvLock => self.resolver.read_uv_lock(&file, target)?,
                Kind::Pylock => read_pylock(&file, target)?,
                Kind::Requirements => {
                    wish.add_file(&file)?;
                    continue;
                }
            } {
                let mut wheel = locked.wheel;
                if wheel.size.is_none() {
                    wheel.size = Some(bundle_mirror::size_of(self.web, &wheel.url)?);
                }
                self.pin_package(&wheel, &locked.project, &locked.version, None);
                let file = whole(path(&wheel.file_name, &locked.project)?, wheel.digest);
                let (project, version) = (locked.project, locked.version);
                settle(&mut settled, Pin { project, version }, file)?;
            }
        }
        let rules = ChipRules::of(backend);
        let there: BTreeSet<String> = settled.keys().cloned().collect();
        if let Some(rules) = &rules {
            rules.add_to(&mut wish, &there)?;
        }
        wish.wanted
            .retain(|line| !there.contains(&project_of(line)));
        if !wish.wanted.is_empty() {
            let there: Vec<String> = there.into_iter().collect();
            let pins = self.resolver.resolve(&Wish {
                wanted: &wish.wanted,
                constraints: &wish.constraints,
                there: &there,
                target,
            })?;
            // Before any index is asked for wheels: most of what is forbidden has many.
            refuse(&pins, &python.forbid)?;
            if let Some(rules) = &rules {
                let all = settled.values().map(|(pin, _)| pin).chain(&pins);
                rules.check(&all.cloned().collect::<Vec<_>>())?;
            }
            let wheels = side_by_side(&pins, QUESTIONS, |pin| {
                self.index.find_pinned(pin, target, wish.digests_of(pin))
            })?;
            for (pin, wheel) in pins.into_iter().zip(wheels) {
                self.pin_package(&wheel, &pin.project, &pin.version, None);
                let file = whole(path(&wheel.file_name, &pin.project)?, wheel.digest);
                settle(&mut settled, pin, file)?;
            }
        }
        let pins: Vec<Pin> = settled.values().map(|(pin, _)| pin.clone()).collect();
        refuse(&pins, &python.forbid)?;
        if let Some(rules) = &rules {
            for note in rules.check(&pins)? {
                let args = note
                    .args
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value));
                self.sink.emit(&Event::Warned {
                    code: note.code.to_owned(),
                    args: args.collect(),
                });
            }
        }
        let requirement = |pin: &Pin| format!("{}=={}", pin.project, pin.version);
        Ok(LockedPython {
            version: python.version.clone(),
            requirements: pins.iter().map(requirement).collect(),
            wheels: settled.into_values().map(|(_, wheel)| wheel).collect(),
        })
    }

    /// A wheel that no index has. What it needs is wished for, where it is at hand to say so.
    fn own_wheel(
        &mut self,
        source: &Source,
        target: &WheelTarget,
        wish: &mut Requirements,
    ) -> Result<(Pin, LockedFile), Trouble> {
        let file = PlanFile {
            path: path("wheel", "python.wheels")?,
            executable: false,
            source: source.clone(),
        };
        // `Plan::parse` made sure that it is one file.
        let mut files = self.file(&file, Some(target), None)?;
        let Some(mut wheel) = files.pop() else {
            return Err(no_wheel("python.wheels", target).into());
        };
        let name = match &wheel.member {
            Some(member) => member.rsplit('/').next().unwrap_or(member).to_owned(),
            None => self.artifacts[&wheel.artifact].file_name.clone(),
        };
        let name = name.replace("%2B", "+").replace("%2b", "+");
        let pin = pin_of_wheel(&name, target)?;
        if let (Source::File(local), None) = (source, &wheel.member) {
            let metadata = wheel_metadata(&self.plan_folder.join(&local.path))?;
            wish.wanted
                .extend(needed_by_wheel(&name, &metadata, target)?);
        }
        wheel.path = path(&name, "python.wheels")?;
        Ok((pin, wheel))
    }

    /// What makes the environment on site: a Python where the plan names one, and uv.
    pub(super) fn makers(
        &mut self,
        backend: &PlanBackend,
        python: &PlanPython,
        target: &WheelTarget,
    ) -> Result<Vec<LockedFile>, Trouble> {
        let mut files = Vec::new();
        if let Some(interpreter) = &python.interpreter {
            let file = PlanFile {
                path: path(PYTHON, "python.interpreter")?,
                executable: false,
                source: interpreter.clone().with_all_members(),
            };
            files.extend(self.file(&file, Some(target), None)?);
        }
        if !backend.files.iter().any(|file| file.path.as_str() == UV) {
            files.push(self.uv(python, target)?);
        }
        Ok(files)
    }

    fn uv(&mut self, python: &PlanPython, target: &WheelTarget) -> Result<LockedFile, Trouble> {
        let version = if let Some(version) = &python.uv {
            version.clone()
        } else {
            // uv knows which of its versions is the newest that the target can run.
            let pins = self.resolver.resolve(&Wish {
                wanted: &["uv".to_owned()],
                constraints: &[],
                there: &[],
                target,
            })?;
            let pin = pins.into_iter().find(|pin| pin.project == "uv");
            pin.ok_or_else(|| no_wheel("uv", target))?.version
        };
        let wheel = self
            .index
            .find("uv", &version, ArchiveKind::Wheel, Some(target))?;
        self.pin_package(&wheel, "uv", &version, None);
        let mut parts = wheel.file_name.splitn(3, '-');
        let data = [parts.next(), parts.next()]
            .map(Option::unwrap_or_default)
            .join("-");
        let mut file = whole(path(UV, "uv")?, wheel.digest);
        file.member = Some(format!("{data}.data/scripts/uv"));
        file.executable = true;
        Ok(file)
    }
}

/// How a file of requirements is read.
enum Kind {
    Requirements,
    Pylock,
    UvLock,
}

/// By its name, as their tools have it: `pylock.toml`, `pylock.npu.toml`, `uv.lock`; all others are pip's.
fn kind(path: &Path) -> Kind {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name == "uv.lock" {
        Kind::UvLock
    } else if name.starts_with("pylock.") && name.ends_with(".toml") {
        Kind::Pylock
    } else {
        Kind::Requirements
    }
}

fn settle(settled: &mut Settled, pin: Pin, wheel: LockedFile) -> Result<(), RequirementError> {
    let project = bundle_mirror::normalized(&pin.project);
    let version = pin.version.clone();
    match settled.insert(project, (pin, wheel)) {
        None => Ok(()),
        Some((before, _)) => Err(RequirementError::Twice {
            project: before.project,
            one: before.version,
            other: version,
        }),
    }
}

fn no_wheel(file_name: &str, target: &WheelTarget) -> RequirementError {
    RequirementError::NotForTarget {
        file_name: file_name.to_owned(),
        target: format!("Python {} on {}", target.python, target.arch),
    }
}
