//! `lock`: a plan to a lock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundle_mirror::{Cache, Hub, ModelScope, PackageIndex, Resolver, registry_address};
use console::View;
use manifest_schema::Digest;
use manifest_schema::lock::{Lock, LockedComponent, LockedFile};
use manifest_schema::plan::{ImageSource, Login, Plan};
use report::{Outcome, Trouble};

use crate::commands::diff::lock_of;
use crate::error::InputError;
use crate::gate::Gate;
use crate::locking::{Locker, named};
use crate::output::write_whole;
use crate::settings::{self, CacheFlag};

/// Pin everything a plan names to an address, a size and a SHA-256
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The plan
    plan: PathBuf,
    /// Where to write the lock
    #[arg(long, short, default_value = "ferry.lock", value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    sources: Sources,
    /// Take other bytes under a revision that the old lock names too: the revision was moved or rewritten
    #[arg(long)]
    accept_changed: bool,
    #[command(flatten)]
    cache: CacheFlag,
}

/// Where a plan's words are looked up.
#[derive(clap::Args)]
pub(crate) struct Sources {
    /// Python package index [default: $UV_DEFAULT_INDEX, $UV_INDEX_URL, $PIP_INDEX_URL, PyPI]
    #[arg(long, value_name = "URL")]
    index_url: Option<String>,
    /// The uv program, which resolves requirements [default: $FERRY_UV, else uv on the path]
    #[arg(long, value_name = "FILE")]
    uv: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let cache = self.cache.open()?;
        let lock = self
            .sources
            .lock(&self.plan, &self.output, Some(&cache), view)?;
        cache.settle()?;
        if self.output.is_file() && !self.accept_changed {
            // An old lock that cannot be read has nothing to say about revisions.
            if let Ok(old) = lock_of(&self.output) {
                revisions(&old, &lock, view)?;
                tags(&old, &lock, view);
            }
        }
        write_whole(&self.output, &lock.to_bytes())?;
        let bytes: u64 = lock.artifacts.iter().map(|artifact| artifact.size.0).sum();
        view.note(
            "bundler.locked",
            &[
                ("files", lock.artifacts.len().to_string()),
                ("size", manifest_schema::ByteSize(bytes).to_string()),
            ],
        );
        let programs = programs(&lock, view)?;
        let result = serde_json::json!({
            "lock": self.output, "artifacts": lock.artifacts.len(), "bytes": bytes, "programs": programs,
        });
        view.result(&result, &self.output.display().to_string());
        Ok(Outcome::Done)
    }
}

impl Sources {
    /// Locks a plan. `output` is where the lock is to be; small files that are fetched on the way go to `cache`.
    pub(crate) fn lock(
        &self,
        plan_path: &Path,
        output: &Path,
        cache: Option<&Cache>,
        view: &View,
    ) -> Result<Lock, Trouble> {
        let text = std::fs::read(plan_path).map_err(InputError::file(plan_path))?;
        let plan = parsed(plan_path, &text)?;
        // uv takes the login from the address; no address in a lock may have one.
        let with_login = settings::index_url(self.index_url.as_deref());
        let (mut web, index_url) = settings::web()?.with_login(&with_login)?;
        if !plan.images.is_empty() {
            web = settings::with_registries(web, &logins(&plan))?;
        }
        let mut locker = Locker {
            index: PackageIndex::new(&web, &index_url),
            hub: Hub::new(&web, &settings::hub_endpoint()),
            modelscope: ModelScope::new(&web, &settings::modelscope_endpoint()),
            web: &web,
            cache,
            resolver: Resolver {
                program: settings::uv(self.uv.as_deref()),
                index_url: with_login,
            },
            gpgv: settings::gpgv(),
            plan_folder: folder_of(plan_path)?,
            lock_folder: folder_of(output)?,
            sink: view,
            artifacts: BTreeMap::new(),
            logins: BTreeMap::new(),
        };
        locker.lock(&plan, Digest::of(&text))
    }
}

/// Names the Python programs that models and datasets bring: they run where someone passes `trust_remote_code`.
fn programs(lock: &Lock, view: &View) -> Result<BTreeMap<String, Vec<String>>, Trouble> {
    let mut programs = BTreeMap::new();
    for component in &lock.components {
        let found = Gate::of(component)?.names(named(component))?;
        if !found.is_empty() {
            let name = component.name.to_string();
            let args = [("component", name.clone()), ("files", found.join(", "))];
            view.note("gate.programs", &args);
            programs.insert(name, found.into_iter().map(str::to_owned).collect());
        }
    }
    Ok(programs)
}

/// Reads a plan.
pub(crate) fn plan_of(path: &Path) -> Result<Plan, InputError> {
    let text = std::fs::read(path).map_err(InputError::file(path))?;
    parsed(path, &text)
}

fn parsed(path: &Path, text: &[u8]) -> Result<Plan, InputError> {
    Plan::parse(text).map_err(|problem| InputError::Manifest {
        path: path.to_owned(),
        problem,
    })
}

/// Where a plan logs in, and with which variables.
fn logins(plan: &Plan) -> BTreeMap<String, Login> {
    let mut logins = BTreeMap::new();
    for image in &plan.images {
        if let ImageSource::Oci(source) = &image.source
            && let Some(login) = &source.login
        {
            let usual = registry_address(&image.name);
            logins.insert(source.endpoint.clone().unwrap_or(usual), login.clone());
        }
    }
    logins
}

/// Says which revisions moved on, and refuses one that is the same with other files.
fn revisions(old: &Lock, new: &Lock, view: &View) -> Result<(), InputError> {
    for component in &new.components {
        let same = |c: &&LockedComponent| c.kind == component.kind && c.name == component.name;
        let Some(before) = old.components.iter().find(same) else {
            continue;
        };
        let (Some(was), Some(is)) = (&before.revision, &component.revision) else {
            continue;
        };
        let name = component.name.to_string();
        if was != is {
            let args = [("name", name), ("old", was.clone()), ("new", is.clone())];
            view.note("bundler.revision-moved", &args);
            continue;
        }
        let pinned = |lock: &Lock, file: &LockedFile| {
            let mut artifacts = lock.artifacts.iter();
            artifacts.any(|a| a.digest == file.artifact && a.revision.as_ref() == Some(is))
        };
        let changed = component.files.iter().filter(|file| {
            let mut there = before.files.iter().filter(|old| old.path == file.path);
            there.any(|old_file| {
                old_file.artifact != file.artifact && pinned(old, old_file) && pinned(new, file)
            })
        });
        let files: Vec<String> = changed.map(|file| file.path.to_string()).collect();
        if !files.is_empty() {
            let (revision, files) = (is.clone(), files.join(", "));
            return Err(InputError::RevisionChanged {
                name,
                revision,
                files,
            });
        }
    }
    Ok(())
}

/// Says which tags name another image now.
fn tags(old: &Lock, new: &Lock, view: &View) {
    for image in &new.images {
        let reference = image.reference();
        let mut before = old.images.iter();
        let Some(before) = before.find(|before| before.reference() == reference) else {
            continue;
        };
        if before.root.digest != image.root.digest {
            let (was, is) = (before.root.digest, image.root.digest);
            let args = [
                ("name", reference),
                ("old", was.to_string()),
                ("new", is.to_string()),
            ];
            view.note("bundler.revision-moved", &args);
        }
    }
}

/// The folder that a file is in, without links.
pub(crate) fn folder_of(file: &Path) -> Result<PathBuf, InputError> {
    let parent = file.parent().filter(|parent| *parent != Path::new(""));
    let folder = parent.unwrap_or(Path::new("."));
    folder.canonicalize().map_err(InputError::file(folder))
}
