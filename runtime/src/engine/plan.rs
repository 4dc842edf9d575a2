//! Everything that is settled before LLaMA-Factory starts; `check` shows it, `train` does it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use console::View;
use report::{Event, Sink as _, Trouble};
use serde_json::{Value, json};
use train::{HANDED_JOB, OTHER_MACHINE};

use super::change::Change;
use super::environment::{Team, Variables, Wanted};
use super::error::EngineError;
use super::handed::{Given, Handed};
use super::handing::{Around, hand_over};
use super::python::Python;
use super::resume::{self, From};
use super::{Asked, EngineArguments};
use crate::device::Chosen;
use crate::home::Home;
use crate::job_file;
use crate::rules::{self, Applied};

/// A run of LLaMA-Factory, ready to start.
pub(crate) struct Plan {
    pub(crate) python: Python,
    pub(crate) chosen: Chosen,
    pub(crate) applied: Applied,
    pub(crate) handed: Handed,
    /// The run's folder: `output_dir`, or for a machine beyond the first `node-<number>` in it.
    pub(crate) folder: PathBuf,
    pub(crate) from: Option<From>,
    pub(crate) team: Team,
    pub(crate) variables: Variables,
}

impl Plan {
    /// Settles it. Nothing is written but what a model in one file is unfolded to.
    pub(crate) fn make(asked: &Asked<'_>, view: &View) -> Result<Self, Trouble> {
        let home = Home::find();
        let team = team(asked)?;
        let python = Python::find(asked.engine.python.as_deref(), &home)?;
        let (path, settings) = (&asked.job.job, &asked.job.settings);
        let (origin, mut given) = job_file::given(path, settings, view)?;
        let mut chosen = Chosen::by_what_is_missing(asked.device, |policy| python.missing(policy));
        if given
            .get("use_cpu")
            .is_some_and(|(_, value)| value == &Value::Bool(true))
            && !chosen.asked
        {
            chosen = Chosen::processor();
            chosen.asked = true;
        }
        let applied = rules::apply(&chosen, &values(&given), true)?;
        if !applied.settings.is_empty() {
            let settings = [&settings[..], &applied.settings].concat();
            given = job_file::given(path, &settings, view)?.1;
        }
        let hides_devices = chosen.is_processor() && chosen.asked;
        let around = Around {
            python: &python,
            home: &home,
            left_out: &applied.left_out,
            on_processor: hides_devices || chosen.is_processor() && team.processes > 1,
            unfold: &|path| unfolded(path, &home, view),
        };
        let mut handed = hand_over(&origin, &given, &around)?;
        let team = Team {
            forced: ["deepspeed", "fsdp"].iter().any(|key| {
                let value = handed.job.get(*key);
                value.is_some_and(|value| !train::asks_for_nothing(value))
            }),
            ..team
        };
        let from = resume::begin(&handed, team.rank == 0)?;
        if let Some(from) = from.as_ref().filter(|from| from.skips.is_some()) {
            handed.go_on_from(&from.path);
        }
        let folder = folder(&handed, &team);
        let libraries = python.library_folders();
        let variables = Variables::of(&Wanted {
            python: &python.program,
            libraries: &libraries,
            home: &home,
            chosen: &chosen,
            hides_devices,
            folder: &real(&folder),
            threads: asked.threads,
            team: &team,
        });
        let plan = Self {
            python,
            chosen,
            applied,
            handed,
            folder,
            from,
            team,
            variables,
        };
        plan.refuse_blanks()?;
        Ok(plan)
    }

    /// Warns of what is not as the user has it.
    pub(crate) fn warn(&self, view: &View) {
        if !self.python.is_known() {
            view.emit(&Event::Warned {
                code: "engine.version-near".to_owned(),
                args: vec![("version".to_owned(), self.python.llamafactory().to_owned())],
            });
        }
        if let Some(skipped) = self.from.as_ref().and_then(|from| from.skips.as_ref()) {
            view.emit(&Event::Warned {
                code: "engine.skips-checkpoint".to_owned(),
                args: vec![("path".to_owned(), skipped.display().to_string())],
            });
        }
        self.chosen.warn_of_unused(view);
        self.applied.warn(view);
        self.handed.warn(view);
    }

    /// Where the job that is handed over goes.
    pub(crate) fn job_path(&self) -> PathBuf {
        self.folder.join(HANDED_JOB)
    }

    /// What the processes of the run are known by.
    pub(crate) fn mark(&self) -> PathBuf {
        real(&self.folder)
    }

    /// The command line.
    pub(crate) fn command(&self) -> Vec<OsString> {
        self.python.words("train", &self.job_path())
    }

    /// For a program to read.
    pub(crate) fn to_json(&self) -> Value {
        let words = self.command().into_iter();
        let words: Vec<String> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let changes: Vec<Value> = self.handed.changes.iter().map(Change::to_json).collect();
        let data = self.handed.data.iter();
        let data: Vec<Value> = data
            .map(|(name, path)| json!({"name": name, "path": path}))
            .collect();
        json!({
            "engine": "llamafactory", "environment_found": self.python.to_json(),
            "device": self.chosen.label(), "chip": self.chosen.chip.map(|chip| &chip.name),
            "rules": self.applied.to_json(), "changes": changes, "job": self.handed.job,
            "model": {"name": self.handed.model.0, "path": self.handed.model.1}, "datasets": data,
            "command": words, "environment": self.variables.to_json(),
            "processes": self.team.processes, "nodes": self.team.nodes, "node_rank": self.team.rank,
            "output_dir": self.handed.text("output_dir"), "folder": self.folder,
            "resumes_from": self.from.as_ref().map(|from| &from.path),
            "resumes_at": self.from.as_ref().map(|from| from.step),
        })
    }

    /// LLaMA-Factory's launcher cuts torchrun's command line at every blank.
    fn refuse_blanks(&self) -> Result<(), EngineError> {
        if !self.team.is_torchrun() {
            return Ok(());
        }
        let paths = [self.job_path(), self.python.program.clone()];
        let blank = |path: &&PathBuf| path.to_string_lossy().contains(char::is_whitespace);
        match paths.iter().find(blank) {
            Some(path) => Err(EngineError::Blank { path: path.clone() }),
            None => Ok(()),
        }
    }
}

/// How many processes there are and where they meet, as the command line says.
fn team(asked: &Asked<'_>) -> Result<Team, EngineError> {
    let EngineArguments {
        nodes,
        node_rank,
        master_addr,
        master_port,
        ..
    } = asked.engine;
    let (nodes, rank) = (*nodes, *node_rank);
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if set("RANK") && set("WORLD_SIZE") {
        return Err(EngineError::UnderTorchrun);
    }
    if rank >= nodes {
        return Err(EngineError::NodeRank { rank, nodes });
    }
    if nodes > 1 && master_addr.is_none() {
        return Err(EngineError::NoMaster { nodes });
    }
    Ok(Team {
        processes: asked.processes,
        nodes,
        rank,
        master: master_addr.clone(),
        port: *master_port,
        forced: false,
    })
}

/// Machines may share `output_dir`, and only the first one writes results there.
fn folder(handed: &Handed, team: &Team) -> PathBuf {
    let folder = PathBuf::from(handed.text("output_dir").unwrap_or_default());
    match team.rank {
        0 => folder,
        rank => folder.join(format!("{OTHER_MACHINE}{rank}")),
    }
}

/// The path without links and dots as far as it is there, so that it is the same however it is written.
pub(super) fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path
        .ancestors()
        .find_map(|one| Some((one, one.canonicalize().ok()?)));
    let Some((there, real)) = there else {
        return path;
    };
    let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
    if rest.as_os_str().is_empty() {
        real
    } else {
        real.join(rest)
    }
}

fn values(given: &Given) -> Value {
    let pairs = given.iter();
    Value::Object(
        pairs
            .map(|(key, (_, value))| (key.clone(), value.clone()))
            .collect(),
    )
}

/// The folder that a model in one file is converted to.
#[cfg(feature = "native")]
fn unfolded(path: &Path, home: &Home, view: &View) -> Result<PathBuf, Trouble> {
    Ok(torch_backend::open(path, &home.cache, view)?
        .folder()
        .to_owned())
}

#[cfg(not(feature = "native"))]
fn unfolded(path: &Path, _home: &Home, _view: &View) -> Result<PathBuf, Trouble> {
    Err(EngineError::ModelIsFile {
        path: path.to_owned(),
    }
    .into())
}
