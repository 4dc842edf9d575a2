//! The Python that LLaMA-Factory lives in, and what else is installed there.
//!
//! ```text
//! --python, else $FERRY_HOME/env/bin/python, else env/bin/python of the release around this program
//! ```
//!
//! It is asked once, before anything starts: a few lines of Python that import nothing but the standard library.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use manifest_schema::policy::Policy;
use serde::Deserialize;
use serde_json::{Value, json};

use super::environment::for_python;
use super::error::EngineError;
use crate::exit::ending;
use crate::home::Home;

/// Versions of LLaMA-Factory whose keys are known.
const KNOWN: [&str; 1] = ["0.9.5"];

/// Versions that are likely to take the same keys begin so; they are warned of.
const LIKE_KNOWN: &str = "0.9.";

/// How long Python may take to answer. A cold disk may be slow.
const PATIENCE: Duration = Duration::from_mins(1);

/// More than any answer takes.
const LARGEST: u64 = 1 << 20;

/// Prints what is installed: one line of JSON, the last.
const QUESTION: &str = "\
import importlib.metadata, importlib.util, json, sys, sysconfig
packages = {}
for found in importlib.metadata.distributions():
    name = found.metadata['Name']
    if name:
        packages.setdefault(name.lower().replace('_', '-'), found.version)
spec = importlib.util.find_spec('llamafactory')
print(json.dumps({'version': sys.version.split()[0], 'packages': packages, 'origin': spec.origin if spec else None,
    'libraries': sorted({sysconfig.get_path('purelib'), sysconfig.get_path('platlib')})}))
";

/// A Python with what is installed in it.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    /// The interpreter.
    pub(crate) program: PathBuf,
    /// What it says of itself.
    found: Found,
}

#[derive(Clone, Debug, Deserialize)]
struct Found {
    version: String,
    /// Versions by normalised names.
    packages: BTreeMap<String, String>,
    /// A file of LLaMA-Factory.
    origin: Option<PathBuf>,
    /// Folders that packages lie in.
    libraries: Vec<PathBuf>,
}

impl Python {
    /// Finds the interpreter and asks it.
    pub(crate) fn find(given: Option<&Path>, home: &Home) -> Result<Self, EngineError> {
        let program = place(given, home)?;
        let found = ask(&program, home).map_err(|reason| EngineError::PythonFails {
            python: program.clone(),
            reason,
        })?;
        if found.origin.is_none() || !found.packages.contains_key("llamafactory") {
            return Err(EngineError::NoLlamaFactory { python: program });
        }
        let python = Self { program, found };
        if !python.is_known() && !python.llamafactory().starts_with(LIKE_KNOWN) {
            return Err(EngineError::Version {
                version: python.llamafactory().to_owned(),
                known: KNOWN.join(", "),
            });
        }
        Ok(python)
    }

    /// LLaMA-Factory's version.
    pub(crate) fn llamafactory(&self) -> &str {
        self.package("llamafactory").unwrap_or_default()
    }

    /// Whether this LLaMA-Factory's keys are known.
    pub(crate) fn is_known(&self) -> bool {
        KNOWN.contains(&self.llamafactory())
    }

    /// The version of a package, if it is there.
    pub(crate) fn package(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        self.found.packages.get(&name).map(String::as_str)
    }

    /// Whether a run saves a checkpoint when it is asked to end: transformers 5 does.
    pub(crate) fn saves_on_request(&self) -> bool {
        let version = self.package("transformers").unwrap_or_default();
        let first = version.split('.').next().unwrap_or_default();
        first.parse().is_ok_and(|major: u32| major >= 5)
    }

    /// What it lacks to compute on the devices of a family.
    pub(crate) fn missing(&self, policy: &Policy) -> Option<String> {
        let Some(python) = &policy.python else {
            return Some("torch".to_owned());
        };
        let package = python.package.as_deref().unwrap_or("torch");
        let version = self.package(package);
        // A torch for the processor alone says so.
        let other = version.is_none_or(|version| version.ends_with("+cpu") && package == "torch");
        other.then(|| package.to_owned())
    }

    /// Folders whose libraries it loads.
    pub(crate) fn library_folders(&self) -> Vec<PathBuf> {
        let of = |folder: &PathBuf| {
            ["torch.libs", "torch/lib", "scikit_learn.libs"].map(|name| folder.join(name))
        };
        let folders = self.found.libraries.iter().flat_map(of);
        folders.filter(|folder| folder.is_dir()).collect()
    }

    /// The words of a command line that has LLaMA-Factory do `command` with a file: what its script `llamafactory-cli`
    /// does, which names its Python by a path that another prefix does not have.
    pub(crate) fn words(&self, command: &str, file: &Path) -> Vec<std::ffi::OsString> {
        vec![
            self.program.clone().into(),
            "-m".into(),
            "llamafactory.cli".into(),
            command.into(),
            file.into(),
        ]
    }

    /// For a program to read: interpreter, versions, and which folder it was found in.
    pub(crate) fn to_json(&self) -> Value {
        let told = [
            "torch",
            "torch-npu",
            "torch-mlu",
            "transformers",
            "peft",
            "trl",
            "accelerate",
            "datasets",
            "deepspeed",
            "bitsandbytes",
        ];
        let packages = told.iter().filter_map(|name| {
            let version = self.package(name)?;
            Some(((*name).to_owned(), Value::from(version)))
        });
        json!({
            "python": self.program, "python_version": self.found.version, "llamafactory": self.llamafactory(),
            "known": self.is_known(), "origin": self.found.origin,
            "packages": packages.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// The same in a few words.
    pub(crate) fn title(&self) -> String {
        let torch = self.package("torch").unwrap_or("-");
        let transformers = self.package("transformers").unwrap_or("-");
        format!(
            "LLaMA-Factory {}, transformers {transformers}, torch {torch}, Python {}: {}",
            self.llamafactory(),
            self.found.version,
            self.program.display()
        )
    }
}

/// Where the interpreter should be; a path with a folder in it, so that it is found from any folder.
fn place(given: Option<&Path>, home: &Home) -> Result<PathBuf, EngineError> {
    let of_release = home
        .release
        .iter()
        .map(|release| release.join("env/bin/python"));
    let places: Vec<PathBuf> = match given {
        Some(given) if given.is_dir() => vec![given.join("bin/python")],
        Some(given) => vec![given.to_owned()],
        None => of_release.collect(),
    };
    let there = places.iter().find(|path| path.is_file());
    let found = there.and_then(|path| std::path::absolute(path).ok());
    found.ok_or_else(|| {
        let looked = places.iter().map(|path| format!("`{}`", path.display()));
        let looked: Vec<String> = looked.collect();
        EngineError::NoPython {
            looked: if looked.is_empty() {
                "FERRY_HOME".to_owned()
            } else {
                looked.join(", ")
            },
        }
    })
}

fn ask(program: &Path, home: &Home) -> Result<Found, String> {
    let mut command = Command::new(program);
    command.args(["-c", QUESTION]).stdin(Stdio::null());
    for_python(home, &mut command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (said, complained) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let answer = said.recv_timeout(PATIENCE);
    let Ok(answer) = answer else {
        end(&mut child);
        return Err(format!("no answer within {} seconds", PATIENCE.as_secs()));
    };
    let status = child.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        let complained = complained.recv_timeout(PATIENCE).unwrap_or_default();
        let last = complained.trim().lines().last().unwrap_or_default();
        return Err(format!("{}: {last}", ending(status)));
    }
    let line = answer.trim().lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| error.to_string())
}

/// Reads all of a pipe on a thread of its own: a process that closes it late must not hold this one up for ever.
fn reader(pipe: Option<impl std::io::Read + Send + 'static>) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(LARGEST).read_to_end(&mut bytes);
        }
        // Nobody waits any more where the time was up.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn end(child: &mut Child) {
    let _gone = child.kill();
    let _status = child.wait();
}

/// Whether a release's Python is there; nothing is started.
pub(crate) fn is_installed(home: &Home) -> bool {
    place(None, home).is_ok()
}
