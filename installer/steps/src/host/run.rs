//! Carries out a [`HostPlan`]: stage, check, log, run, log.
//!
//! A command is logged before it runs and after it ended, so one that power cut off is seen by the entry that has
//! no end. Doing a step again is how it is taken up: vendors' installers go over what a cut run left.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bundle_format::Verified;
use host_probe::{Host, installed_release};
use manifest_schema::chip::Family;
use manifest_schema::{Backend, Digest, HostItem, HostKind};
use report::{Event, Sink};

use super::HostError;
use super::command::Command;
use super::error::{After, FailedRun};
use super::plan::{HostPlan, Work, boot_id, staged};
use super::runner::{Ended, Places, Runner};
use super::state::{Resume, State, Waits};
use super::step::HostStep;
use crate::disk::{Disk, DiskError};
use crate::guard::Guard;
use crate::journal::{Action, HostEnded, Journal, JournalError};
use crate::prefix::Prefix;
use crate::vendor::check_staged;

/// What [`run_host`] works with.
pub struct HostWork<'a> {
    /// The disk below the prefix.
    pub disk: &'a dyn Disk,
    /// Runs the commands.
    pub runner: &'a dyn Runner,
    /// The machine, to look whether what ran had an effect.
    pub host: &'a dyn Host,
    /// Where everything is.
    pub prefix: &'a Prefix,
    /// The signed bundle.
    pub bundle: &'a Verified,
    /// The chosen backend.
    pub backend: &'a Backend,
    /// How to take the work up again; none where this is work that was taken up.
    pub resume: Option<Resume>,
    /// Whether a person asked to stop. Asked between two commands.
    pub stop: &'a dyn Fn() -> bool,
    /// Where events go.
    pub sink: &'a dyn Sink,
}

/// Carries out `plan`. Returns what the machine must be started anew for; nothing when all is done.
///
/// # Errors
/// When a file is not what was signed, or a command fails. What ended well before stays, and is not done again.
pub fn run_host(
    work: &HostWork<'_>,
    _guard: &Guard,
    plan: &HostPlan,
) -> Result<Vec<HostKind>, HostError> {
    if plan.is_empty() {
        work.clear()?;
        return Ok(Vec::new());
    }
    work.only_ours()?;
    let mut state = State::read(work.prefix)?.unwrap_or_else(|| State {
        format: 1,
        first: !plan.steps.iter().any(is_upgrade),
        ..State::default()
    });
    if let Some(resume) = &work.resume {
        state.resume = resume.clone();
    }
    state.reboot = None;
    state.write(work.disk, work.prefix)?;
    for (number, step) in plan.steps.iter().enumerate() {
        let one = plan.work.iter().find(|one| one.step == number);
        match step {
            HostStep::AlreadyThere { .. } => {}
            HostStep::MakeAccount { name, command } => {
                work.may_go_on(name)?;
                work.account(name, command)?;
            }
            HostStep::Install { kind, .. } => {
                work.may_go_on(kind.as_str())?;
                if let Some(one) = one {
                    work.install(one, step)?;
                    state.done.push(one.item.file.digest);
                    state.boot = boot_id(work.host);
                    state.write(work.disk, work.prefix)?;
                }
            }
            HostStep::Reboot { after } => {
                state.reboot = Some(Waits {
                    boot: boot_id(work.host),
                    after: after.clone(),
                });
                state.write(work.disk, work.prefix)?;
                return Ok(after.clone());
            }
        }
    }
    work.clear()?;
    Ok(Vec::new())
}

fn is_upgrade(step: &HostStep) -> bool {
    matches!(step, HostStep::Install { over: Some(_), .. })
}

impl HostWork<'_> {
    fn may_go_on(&self, next: &str) -> Result<(), HostError> {
        if (self.stop)() {
            let next = next.to_owned();
            return Err(HostError::Stopped { next });
        }
        Ok(())
    }

    /// What runs as root must lie where nobody else can swap it after it was checked.
    fn only_ours(&self) -> Result<(), HostError> {
        let path = self.prefix.host();
        self.disk.create_dir(&path)?;
        self.disk.set_mode(&path, 0o700)?;
        for path in [self.prefix.path().to_owned(), path] {
            let found = fs::symlink_metadata(&path).map_err(DiskError::of("read", &path))?;
            let ours = found.uid() == rustix::process::geteuid().as_raw();
            if !found.is_dir() || !ours || found.mode() & 0o022 != 0 {
                return Err(HostError::Place { path });
            }
        }
        Ok(())
    }

    /// Nothing of the vendors' files is needed any more.
    fn clear(&self) -> Result<(), DiskError> {
        for (field, file) in self.backend.host.iter().flat_map(HostItem::files) {
            let blob = self.prefix.blob(&file.digest);
            let ours = fs::symlink_metadata(&blob).is_ok_and(|found| found.nlink() == 1);
            if ours && field != "eula.text" {
                self.disk.remove_file(&blob)?;
            }
        }
        self.disk.remove_tree(&self.prefix.host())
    }

    fn account(&self, name: &str, command: &Command) -> Result<(), HostError> {
        let what = format!("account {name}");
        let limit = Duration::from_mins(1);
        let (ended, log) = self.command(&what, None, command, limit)?;
        let good = ended == Ended::Status(0);
        let word = if good {
            HostEnded::Done
        } else {
            HostEnded::Failed
        };
        self.log_other_end(&what, word)?;
        if good {
            return Ok(());
        }
        let run = FailedRun {
            what,
            command: command.to_string(),
            log,
            after: After::CannotUndo,
        };
        Err(failed(run, ended, 1))
    }

    fn install(&self, one: &Work, step: &HostStep) -> Result<(), HostError> {
        let HostStep::Install {
            command,
            then,
            undo,
            ..
        } = step
        else {
            return Ok(());
        };
        let (item, recipe) = (&one.item, one.recipe);
        self.stage(item)?;
        let (bundle, path) = (self.bundle, staged(self.prefix, item));
        check_staged(bundle, self.prefix, item, &path, self.sink)?;
        self.take_member(item)?;
        let (what, file) = (item.kind.as_str(), item.file.digest);
        if self.was_cut_off(&file)? {
            self.sink.emit(&Event::Warned {
                code: "install.host-after-cut".to_owned(),
                args: vec![("kind".to_owned(), what.to_owned())],
            });
        }
        let limit = Duration::from_secs(recipe.minutes.saturating_mul(60));
        self.disk.remove_tree(&self.scratch())?;
        let (mut ended, mut log) = self.command(what, Some(file), command, limit)?;
        let mut good = matches!(ended, Ended::Status(status) if recipe.succeeds.contains(&status));
        let mut command = command;
        for next in then {
            if good {
                (ended, log) = self.command(what, Some(file), next, limit)?;
                good = ended == Ended::Status(0);
                command = next;
            }
        }
        if good {
            self.log_end(one, HostEnded::Done)?;
            self.disk.remove_tree(&self.scratch())?;
            return self.check_there(one);
        }
        let after = match undo {
            None => After::CannotUndo,
            Some(undo) => {
                let way_back = format!("undo {what}");
                let (ended, _) = self.command(&way_back, None, undo, limit)?;
                let good = ended == Ended::Status(0);
                let word = if good {
                    HostEnded::Done
                } else {
                    HostEnded::Failed
                };
                self.log_other_end(&way_back, word)?;
                if good {
                    After::Undone
                } else {
                    After::UndoFailed
                }
            }
        };
        let word = match after {
            After::Undone => HostEnded::Undone,
            _ => HostEnded::Failed,
        };
        self.log_end(one, word)?;
        self.disk.remove_tree(&self.scratch())?;
        let run = FailedRun {
            what: what.to_owned(),
            command: command.to_string(),
            log,
            after,
        };
        Err(failed(run, ended, recipe.minutes))
    }

    /// Ends well and shows nothing: then it did not end well.
    fn check_there(&self, one: &Work) -> Result<(), HostError> {
        let Some(family) = Family::of_chip(&self.backend.chip) else {
            return Ok(());
        };
        // What a running driver says of itself is that of the one before until the next start.
        if one.recipe.marks.is_empty() || one.recipe.marks_wait {
            return Ok(());
        }
        let found = installed_release(self.host, family, &one.recipe.marks);
        let found = found.map_or_else(|| "-".to_owned(), |found| found.version);
        if found.eq_ignore_ascii_case(one.item.version.as_str()) {
            return Ok(());
        }
        Err(HostError::NotThere {
            kind: one.item.kind.clone(),
            wanted: one.item.version.to_string(),
            found,
        })
    }

    /// Where an installer and what follows it work. What is unpacked there is gone when the next one begins, and in the end.
    fn scratch(&self) -> PathBuf {
        self.prefix.host().join("work")
    }

    fn was_cut_off(&self, file: &Digest) -> Result<bool, JournalError> {
        let journal = Journal::read(self.prefix)?;
        let ran = journal.entries().iter().any(
            |entry| matches!(&entry.action, Action::HostRun { file: known, .. } if known.as_ref() == Some(file)),
        );
        Ok(ran && journal.host_ended(file).is_none())
    }

    /// Runs one command, with its entry in the log before it. Returns how it ended and where what it said is.
    fn command(
        &self,
        what: &str,
        file: Option<Digest>,
        command: &Command,
        limit: Duration,
    ) -> Result<(Ended, PathBuf), HostError> {
        let mut journal = Journal::read(self.prefix)?;
        let number = journal.entries().len() + 1;
        let word = what.replace(' ', "-");
        let log = self
            .prefix
            .log()
            .with_file_name(format!("host-{number}-{word}.txt"));
        let (scratch, temporary) = (self.scratch(), self.prefix.host().join("tmp"));
        self.disk.remove_tree(&temporary)?;
        self.disk.create_dir(&temporary)?;
        self.disk.create_dir(&scratch)?;
        journal.add(
            self.disk,
            self.prefix,
            Action::HostRun {
                what: what.to_owned(),
                file,
                command: command.words().to_vec(),
            },
        )?;
        // A cut run may have left a text of this number.
        self.disk.remove_file(&log)?;
        let step = report::Step::start(self.sink, "install.working.host-run", what, None, "steps");
        let places = Places {
            folder: &scratch,
            temporary: &temporary,
            log: &log,
        };
        let ended = self.runner.run(command, &places, limit);
        let ended = ended.map_err(|source| HostError::Start {
            command: command.to_string(),
            source,
        })?;
        step.finish();
        self.disk.remove_tree(&temporary)?;
        Ok((ended, log))
    }

    /// Logs how a vendor's installer ended, with what is needed to tell later what it put on the machine.
    fn log_end(&self, one: &Work, ended: HostEnded) -> Result<(), JournalError> {
        let action = Action::HostEnd {
            what: one.item.kind.to_string(),
            file: Some(one.item.file.digest),
            ended,
            chip: Some(self.backend.chip.clone()),
            version: Some(one.item.version.to_string()),
            program: Some(one.item.program(|file| &file.path).to_owned()),
        };
        Journal::read(self.prefix)?.add(self.disk, self.prefix, action)
    }

    fn log_other_end(&self, what: &str, ended: HostEnded) -> Result<(), JournalError> {
        let action = Action::HostEnd {
            what: what.to_owned(),
            file: None,
            ended,
            chip: None,
            version: None,
            program: None,
        };
        Journal::read(self.prefix)?.add(self.disk, self.prefix, action)
    }
}

fn failed(run: FailedRun, ended: Ended, minutes: u64) -> HostError {
    let run = Box::new(run);
    let status = match ended {
        Ended::TimedOut => return HostError::TimedOut { run, minutes },
        Ended::Status(status) => status.to_string(),
        Ended::Signal(signal) => format!("signal {signal}"),
    };
    HostError::Failed {
        status,
        said: last_lines(&run.log).unwrap_or_default(),
        run,
    }
}

/// The end of a text, which may be huge.
fn last_lines(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().rev().take(12).collect();
    Ok(lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
