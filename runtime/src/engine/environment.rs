//! The environment that LLaMA-Factory runs in: offline, the release's caches, the chip's variables.
//!
//! What would have it open a connection is taken away, also where the user has set it, and what tells it to stay offline
//! is set. A variable of a chip is set where nobody has set it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use manifest_schema::policy::Policy;
use serde_json::{Value, json};

use crate::device::Chosen;
use crate::home::Home;
use crate::start;

/// Names the folder of a run to every process of it.
pub(crate) const MARK: &str = "FERRY_RUN";

/// Variables that are taken away: tokens, switches that make another program of LLaMA-Factory, what torchrun or a launcher
/// left, and what would have another Python start.
const REMOVED: [&str; 27] = [
    "ALLOW_EXTRA_ARGS",
    "FORCE_TORCHRUN",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN",
    "LLAMABOARD_ENABLED",
    "LLAMABOARD_WORKDIR",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "MAX_NNODES",
    "MAX_RESTARTS",
    "MIN_NNODES",
    "NNODES",
    "NODE_RANK",
    "NPROC_PER_NODE",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONSTARTUP",
    "RANK",
    "RDZV_ID",
    "USE_KT",
    "USE_MCA",
    "USE_RAY",
    "USE_V1",
    "WORLD_SIZE",
];

/// Ends of names that are taken away (other places of a hub, proxies), and starts (services that are reported to).
const REMOVED_ENDS: [&str; 3] = ["_ENDPOINT", "_ENDPOINT_URL", "_PROXY"];
const REMOVED_STARTS: [&str; 10] = [
    "CLEARML_",
    "COMET_",
    "MLFLOW_",
    "MODELSCOPE_",
    "NEPTUNE_",
    "OPENMIND_",
    "SWANLAB_",
    "TORCHELASTIC_",
    "TRACKIO_",
    "WANDB_",
];

/// What a run asks of its environment.
pub(crate) struct Wanted<'a> {
    /// The interpreter.
    pub(crate) python: &'a Path,
    /// Folders whose libraries may have to be loaded first.
    pub(crate) libraries: &'a [PathBuf],
    pub(crate) home: &'a Home,
    pub(crate) chosen: &'a Chosen,
    /// The processor, and no accelerator, computes.
    pub(crate) hides_devices: bool,
    /// The run's folder.
    pub(crate) folder: &'a Path,
    pub(crate) threads: Option<u16>,
    pub(crate) team: &'a Team,
}

/// Several processes, or one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Team {
    /// Processes of this machine.
    pub(crate) processes: u16,
    /// Machines.
    pub(crate) nodes: u16,
    /// This machine's number.
    pub(crate) rank: u16,
    /// Where they meet.
    pub(crate) master: Option<String>,
    pub(crate) port: Option<u16>,
    /// One process, but torchrun starts it.
    pub(crate) forced: bool,
}

impl Team {
    /// Whether torchrun starts the processes.
    pub(crate) fn is_torchrun(&self) -> bool {
        self.forced || self.processes > 1 || self.nodes > 1
    }
}

/// What is set and what is taken away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    pub(crate) set: BTreeMap<String, OsString>,
    pub(crate) removed: Vec<String>,
    /// Of the chip, not certain, so not set.
    pub(crate) may_help: Vec<String>,
}

impl Variables {
    /// Settles them by what a run wants and what this process has.
    pub(crate) fn of(wanted: &Wanted<'_>) -> Self {
        let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::settle(wanted, names, &|name| env::var_os(name))
    }

    fn settle(
        wanted: &Wanted<'_>,
        names: impl Iterator<Item = String>,
        read: &dyn Fn(&str) -> Option<OsString>,
    ) -> Self {
        let mut variables = Self {
            removed: names.filter(|name| is_removed(name)).collect(),
            ..Self::default()
        };
        variables.removed.sort();
        let always = offline(wanted.home).into_iter().chain(own(wanted, read));
        variables.set.extend(always);
        for (name, value) in unless_set(wanted) {
            if read(&name).is_none_or(|value| value.is_empty()) {
                variables.set.insert(name, value);
            }
        }
        let policy = wanted.chosen.policy;
        let guesses = policy.environment.iter().filter(|row| !row.certain);
        let shown = guesses.map(|row| format!("{}={}", row.name, row.value));
        variables.may_help = shown.collect();
        let first = start::preload(policy, wanted.libraries, read);
        variables.set.extend(first);
        variables
    }

    /// Gives them to a command.
    pub(crate) fn give(&self, command: &mut Command) {
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(&self.set);
    }

    /// For a program to read.
    pub(crate) fn to_json(&self) -> Value {
        let set = self.set.iter();
        let set = set.map(|(name, value)| (name.clone(), value.to_string_lossy().into()));
        json!({
            "set": set.collect::<serde_json::Map<String, Value>>(), "removed": self.removed,
            "may help": self.may_help,
        })
    }
}

/// Gives a command that only asks Python what it needs: no connection, and no file beside the modules that it reads.
pub(crate) fn for_python(home: &Home, command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_removed) {
            command.env_remove(&name);
        }
    }
    command.envs(offline(home)).envs(python(home));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.envs(library_path(&|name| env::var_os(name)));
}

fn is_removed(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let upper = upper.as_str();
    REMOVED.contains(&upper)
        || REMOVED_ENDS.iter().any(|end| upper.ends_with(end))
        || REMOVED_STARTS.iter().any(|start| upper.starts_with(start))
}

/// What keeps it off the network.
fn offline(home: &Home) -> Vec<(String, OsString)> {
    let own = home.cache.join("huggingface");
    let hub = home.release.as_ref().map(|release| release.join("hub"));
    let hub = hub.filter(|hub| hub.is_dir());
    let mut variables: Vec<(String, OsString)> = [
        ("DO_NOT_TRACK", "1"),
        ("HF_DATASETS_OFFLINE", "1"),
        ("HF_EVALUATE_OFFLINE", "1"),
        ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("SWANLAB_MODE", "disabled"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("USE_MODELSCOPE_HUB", "0"),
        ("USE_OPENMIND_HUB", "0"),
        ("WANDB_MODE", "disabled"),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .to_vec();
    // A release cannot be written to; what is made of its models and data goes beside it.
    let hub = hub.unwrap_or_else(|| own.join("hub"));
    variables.push(("HF_HUB_CACHE".to_owned(), hub.into()));
    variables.push(("HF_DATASETS_CACHE".to_owned(), own.join("datasets").into()));
    variables.push(("HF_HOME".to_owned(), own.into()));
    variables
}

/// Of Python itself.
fn python(home: &Home) -> Vec<(String, OsString)> {
    vec![
        ("PYTHONNOUSERSITE".to_owned(), "1".into()),
        // The folder that the command is started in holds data, and no modules.
        ("PYTHONSAFEPATH".to_owned(), "1".into()),
        ("PYTHONUNBUFFERED".to_owned(), "1".into()),
        // Files are read as UTF-8 whatever the locale.
        ("PYTHONUTF8".to_owned(), "1".into()),
        (
            "PYTHONPYCACHEPREFIX".to_owned(),
            home.cache.join("pycache").into(),
        ),
    ]
}

/// What is this run's, whatever the user has set.
fn own(wanted: &Wanted<'_>, read: &dyn Fn(&str) -> Option<OsString>) -> Vec<(String, OsString)> {
    let mut variables = python(wanted.home);
    let mut put = |name: &str, value: OsString| variables.push((name.to_owned(), value));
    put(MARK, wanted.folder.into());
    // LLaMA-Factory starts `torchrun` by its name.
    if let Some(folder) = wanted.python.parent() {
        let before = read("PATH").unwrap_or_default();
        let path = [folder.to_owned()];
        let path = path.into_iter().chain(env::split_paths(&before));
        put("PATH", env::join_paths(path).unwrap_or(before));
    }
    if let Some(threads) = wanted.threads {
        put("OMP_NUM_THREADS", threads.to_string().into());
        put("MKL_NUM_THREADS", threads.to_string().into());
    }
    for (name, value) in torchrun(wanted.team) {
        put(name, value.into());
    }
    for (name, value) in devices(wanted, read) {
        put(&name, value.into());
    }
    variables.extend(library_path(read));
    variables
}

/// The words that LLaMA-Factory's launcher has for several processes.
fn torchrun(team: &Team) -> Vec<(&'static str, String)> {
    if !team.is_torchrun() {
        return Vec::new();
    }
    let here = team.nodes == 1;
    let mut variables = vec![
        ("FORCE_TORCHRUN", "1".to_owned()),
        ("NPROC_PER_NODE", team.processes.to_string()),
        ("NNODES", team.nodes.to_string()),
        ("NODE_RANK", team.rank.to_string()),
    ];
    let master = team.master.clone();
    let master = master.or(here.then(|| "127.0.0.1".to_owned()));
    variables.extend(master.map(|master| ("MASTER_ADDR", master)));
    // On one machine its launcher finds a free one.
    let port = team.port.or((!here).then_some(USUAL_PORT));
    variables.extend(port.map(|port| ("MASTER_PORT", port.to_string())));
    variables
}

/// Which devices the run may use. A row that is not certain counts only where the user names a device.
fn devices(wanted: &Wanted<'_>, read: &dyn Fn(&str) -> Option<OsString>) -> Vec<(String, String)> {
    let chosen = wanted.chosen;
    if wanted.hides_devices {
        let rows = Policy::all()
            .iter()
            .filter_map(|policy| policy.python.as_ref());
        let rows = rows.filter(|row| row.certain);
        return rows
            .map(|row| (row.visible.clone(), String::new()))
            .collect();
    }
    let row = chosen.policy.python.as_ref();
    let Some(row) = row.filter(|row| chosen.asked || row.certain) else {
        return Vec::new();
    };
    let last = chosen.index + usize::from(wanted.team.processes);
    let numbers = (chosen.index..last).map(|number| number.to_string());
    let numbers: Vec<String> = numbers.collect();
    let set = (row.visible.clone(), numbers.join(","));
    // What the user has let in is right unless a device is named.
    if !chosen.asked && read(&row.visible).is_some_and(|value| !value.is_empty()) {
        return Vec::new();
    }
    vec![set]
}

/// The loader's folders without those of another libtorch, such as the one that this program computes with: Python's own
/// would be mixed with it.
fn library_path(read: &dyn Fn(&str) -> Option<OsString>) -> Option<(String, OsString)> {
    const NAME: &str = "LD_LIBRARY_PATH";
    let before = read(NAME)?;
    let folders = env::split_paths(&before).filter(|folder| !is_libtorch(folder));
    let after = env::join_paths(folders).unwrap_or_default();
    (after.as_os_str() != OsStr::new(&before)).then(|| (NAME.to_owned(), after))
}

fn is_libtorch(folder: &Path) -> bool {
    folder.join("libtorch_cpu.so").exists()
}

/// What the user may set otherwise.
fn unless_set(wanted: &Wanted<'_>) -> Vec<(String, OsString)> {
    let rows = wanted.chosen.policy.environment.iter();
    let rows = rows.filter(|row| row.certain);
    let mut variables: Vec<(String, OsString)> = rows
        .map(|row| (row.name.clone(), row.value.clone().into()))
        .collect();
    let (name, value) = start::WAITING;
    variables.push((name.to_owned(), value.into()));
    if wanted.team.is_torchrun() && wanted.team.nodes == 1 {
        // Processes of one machine need not be reached from any other.
        variables.push(("GLOO_SOCKET_IFNAME".to_owned(), "lo".into()));
    }
    variables
}

/// Torch's own, where the machines must know it beforehand.
const USUAL_PORT: u16 = 29500;
