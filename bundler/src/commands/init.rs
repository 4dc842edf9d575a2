//! `init`: a few answers to a plan.

use std::path::{Path, PathBuf};

use console::View;
use manifest_schema::chip::Chip;
use manifest_schema::plan::{FileSource, Plan, PlanBackend, PlanPython, Source};
use manifest_schema::{Arch, BundleName, GlibcVersion, RepoName};
use report::{Outcome, Trouble};

use crate::error::InputError;
use crate::output::write_whole;
use crate::wizard::{Answers, Repository, Target, backend, plugin_of};
use local::Places;

mod images;
mod local;
mod packages;
mod vendor;

/// Write a plan to start from; what no flag answers is asked
///
/// Without a terminal nothing is asked, and what no flag names is left out of the plan.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write the plan
    #[arg(long, short, default_value = "plan.json", value_name = "FILE")]
    output: PathBuf,
    /// Write over a plan that is there
    #[arg(long)]
    force: bool,
    /// What `ferry-installer` carried out: `probe --json`, a site code (`--letters`, `--qr`) or `inventory`
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Name of the bundle
    #[arg(long)]
    name: Option<String>,
    /// Release number of the bundle
    #[arg(long, default_value_t = 1)]
    release: u64,
    /// What the release numbers count in
    #[arg(long, default_value = "stable")]
    channel: String,
    /// Model on the Hugging Face Hub, as `organisation/name` (can be repeated)
    #[arg(long, value_name = "REPO")]
    model: Vec<String>,
    /// Dataset on the Hugging Face Hub (can be repeated)
    #[arg(long, value_name = "REPO")]
    dataset: Vec<String>,
    #[command(flatten)]
    local: local::Local,
    #[command(flatten)]
    images: images::Images,
    /// A licence, as an SPDX expression; naming it here accepts it (once for all, or once for each)
    ///
    /// In this order: models, datasets, folders of models, folders of datasets, images, layouts, archives.
    #[arg(long, value_name = "SPDX")]
    accept_license: Vec<String>,
    /// Branch, tag or commit of the models and datasets
    #[arg(long)]
    revision: Option<String>,
    /// Take models and datasets from ModelScope
    #[arg(long)]
    modelscope: bool,
    /// Chip to carry a backend for, such as ascend-910b (can be repeated)
    #[arg(long, value_name = "CHIP")]
    chip: Vec<String>,
    /// Architecture of the target [default: the site's, else aarch64]
    #[arg(long, value_name = "ARCH")]
    arch: Option<Arch>,
    /// Oldest glibc of the target [default: the site's, else 2.28]
    #[arg(long, value_name = "VERSION")]
    glibc: Option<GlibcVersion>,
    /// Version that must fit the machine, such as cann=9.0.0 (can be repeated)
    #[arg(long, value_name = "NAME=VERSION", value_parser = pair)]
    with: Vec<(String, String)>,
    /// Python of the environment [default: the site's, else 3.11]
    #[arg(long, value_name = "VERSION")]
    python: Option<String>,
    /// Requirement of the environment, as pip writes it (can be repeated)
    #[arg(long, value_name = "REQUIREMENT")]
    require: Vec<String>,
    /// File of requirements, relative to the plan: requirements.txt, pylock.toml, uv.lock (can be repeated)
    #[arg(long, value_name = "FILE")]
    require_file: Vec<String>,
    /// The installer of an architecture, relative to the plan (can be repeated)
    #[arg(long, value_name = "ARCH=FILE", value_parser = installer)]
    installer: Vec<(Arch, String)>,
    #[command(flatten)]
    vendor: vendor::Vendor,
    #[command(flatten)]
    packages: packages::Packages,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        if self.output.exists() && !self.force {
            return Err(InputError::Exists { path: self.output }.into());
        }
        let target = self.site.as_deref().map(target_of).transpose()?;
        let target = target.unwrap_or_default();
        let places = Places::from(&self.output)?;
        let os_packages = self.packages.set(self.site.as_deref(), &places)?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => view.ask("bundler.ask-name", NONE, Some("demo"), "--name")?,
        };
        let models = words(&self.model, "bundler.ask-models", "--model", view)?;
        let datasets = words(&self.dataset, "bundler.ask-datasets", "--dataset", view)?;
        let images = self.named_images(&places, view)?;
        let mut all = [&models[..], &datasets[..]].concat();
        all.extend(self.local.names());
        all.extend(images.iter().map(|image| image.reference.clone()));
        let mut licenses = self.licenses(&all, view)?.into_iter();
        let models = self.repositories(&models, &mut licenses)?;
        let datasets = self.repositories(&datasets, &mut licenses)?;
        let mut models: Vec<_> = models.into_iter().map(Repository::model).collect();
        let mut datasets: Vec<_> = datasets.into_iter().map(Repository::dataset).collect();
        let mut backends = self.backends(&target, view)?;
        self.vendor.add_to(&mut backends, &places)?;
        let local = self.local.planned(&mut licenses, &places)?;
        models.extend(local.0);
        datasets.extend(local.1);
        let images = self.images.planned(images, licenses.collect(), &backends);
        let nothing = models.is_empty() && datasets.is_empty() && backends.is_empty();
        if nothing && images.is_empty() && os_packages.is_none() {
            let none = InputError::Word {
                text: name,
                expected: "a bundle of anything: name a `--model`, `--dataset`, `--image` or `--chip`",
            };
            return Err(none.into());
        }
        if let (Some(key), Some(site)) = (&target.key, &self.site) {
            let path = site.display().to_string();
            let args = [("path", path), ("key", key.to_string())];
            view.note("bundler.site-key-pinned", &args);
        }
        let installers = self.installer.into_iter();
        let plan = Answers {
            name: BundleName::parse(&name).map_err(|error| word(&name, error.expected))?,
            release: self.release,
            channel: self.channel,
            site_key: target.key,
            models,
            datasets,
            backends,
            images,
            installers: installers
                .map(|(arch, path)| (arch, as_written(path)))
                .collect(),
            os_packages: os_packages.into_iter().collect(),
        }
        .into_plan();
        let text = text_of(&plan, &self.output)?;
        write_whole(&self.output, &text)?;
        let path = self.output.display().to_string();
        view.note("bundler.plan-made", &[("path", path.clone())]);
        let result = serde_json::json!({ "plan": self.output, "site_key": plan.site_key });
        view.result(&result, &path);
        Ok(Outcome::Done)
    }

    /// The images of the flags, else of a line that is asked for.
    fn named_images(&self, places: &Places, view: &View) -> Result<Vec<images::Named>, Trouble> {
        let asked = if self.images.is_empty() {
            words(&[], "bundler.ask-images", "--image", view)?
        } else {
            Vec::new()
        };
        self.images.named(&asked, places)
    }

    /// The licence of each thing, from flags or from whoever is asked.
    fn licenses(&self, things: &[String], view: &View) -> Result<Vec<String>, Trouble> {
        let given = &self.accept_license;
        match given.len() {
            0 => {
                let ask = |thing: &String| {
                    let args = [("repo", thing.clone())];
                    view.ask("bundler.ask-license", &args, None, "--accept-license")
                };
                Ok(things.iter().map(ask).collect::<Result<_, _>>()?)
            }
            1 => Ok(vec![given[0].clone(); things.len()]),
            count if count == things.len() => Ok(given.clone()),
            _ => {
                let expected = "one licence for all, or one for each";
                Err(word(&given.join(", "), expected).into())
            }
        }
    }

    fn repositories(
        &self,
        names: &[String],
        licenses: &mut impl Iterator<Item = String>,
    ) -> Result<Vec<Repository>, InputError> {
        let repository = |(name, license): (&String, String)| {
            Ok(Repository {
                name: RepoName::parse(name).map_err(|error| word(name, error.expected))?,
                revision: self.revision.clone(),
                license,
                on_modelscope: self.modelscope,
            })
        };
        names.iter().zip(licenses).map(repository).collect()
    }

    fn backends(&self, target: &Target, view: &View) -> Result<Vec<PlanBackend>, Trouble> {
        let chips = self.chips(target, view)?;
        let mut backends = Vec::new();
        for chip in chips {
            let arch = match self.arch.or(target.arch) {
                Some(arch) => arch,
                None if view.can_ask() => {
                    let args = [("chip", chip.title.clone())];
                    let asked = view.ask("bundler.ask-arch", &args, Some("aarch64"), "--arch")?;
                    asked
                        .parse()
                        .map_err(|_| word(&asked, "aarch64 or x86_64"))?
                }
                None => Arch::Aarch64,
            };
            let glibc = self.glibc.or(target.glibc).unwrap_or(GlibcVersion {
                major: 2,
                minor: 28,
            });
            let version = self.python.clone().or_else(|| target.python.clone());
            let version = version.unwrap_or_else(|| "3.11".to_owned());
            let mut versions = target.versions(chip, &version);
            versions.named.extend(self.with.iter().cloned());
            if view.can_ask() && self.with.is_empty() && !versions.named.is_empty() {
                for (name, version) in &mut versions.named {
                    let args = [("chip", chip.title.clone()), ("name", name.clone())];
                    *version = view.ask("bundler.ask-version", &args, Some(version), "--with")?;
                }
            }
            let python = self.environment(chip, version, view)?;
            let made = backend(chip, arch, glibc, versions, python);
            backends.push(made.ok_or_else(|| word(&chip.name, "a backend's name"))?);
        }
        Ok(backends)
    }

    fn chips(&self, target: &Target, view: &View) -> Result<Vec<&'static Chip>, Trouble> {
        if !self.chip.is_empty() {
            let named = self.chip.iter().map(|name| {
                let expected = "a chip that the tables have, such as `ascend-910b` or `cpu`";
                Chip::named(name).ok_or_else(|| word(name, expected))
            });
            return Ok(named.collect::<Result<_, _>>()?);
        }
        if !view.can_ask() {
            return Ok(target.chips.clone());
        }
        let all: Vec<&Chip> = Chip::all().collect();
        let titles: Vec<String> = all
            .iter()
            .map(|chip| format!("{} ({})", chip.title, chip.name))
            .collect();
        let there = |chip: &&Chip| target.chips.iter().any(|known| known.name == chip.name);
        let marked: Vec<usize> = (0..all.len()).filter(|at| there(&all[*at])).collect();
        let taken = view.choose("bundler.ask-chips", NONE, &titles, &marked, "--chip")?;
        Ok(taken.into_iter().map(|at| all[at]).collect())
    }

    /// A Python environment, where one is asked for.
    fn environment(
        &self,
        chip: &Chip,
        version: String,
        view: &View,
    ) -> Result<Option<PlanPython>, Trouble> {
        let mut requirements = self.require.clone();
        let flags = !self.require.is_empty() || !self.require_file.is_empty();
        if !flags && view.can_ask() {
            let usual = plugin_of(chip).map(|plugin| format!("llamafactory {plugin}"));
            let args = [("chip", chip.title.clone()), ("python", version.clone())];
            let asked = view.ask(
                "bundler.ask-requirements",
                &args,
                usual.as_deref().or(Some("-")),
                "--require",
            )?;
            requirements.extend(
                asked
                    .split_whitespace()
                    .filter(|word| *word != "-")
                    .map(str::to_owned),
            );
        }
        if requirements.is_empty() && self.require_file.is_empty() {
            return Ok(None);
        }
        Ok(Some(PlanPython {
            version,
            requirements,
            requirement_files: self.require_file.clone(),
            wheels: Vec::new(),
            forbid: Vec::new(),
            override_rules: Vec::new(),
            interpreter: None,
            uv: None,
        }))
    }
}

const NONE: &[(&str, String)] = &[];

/// Names from flags, else from one line that is asked for: none where nobody can be asked.
fn words(flags: &[String], code: &str, flag: &str, view: &View) -> Result<Vec<String>, Trouble> {
    if !flags.is_empty() || !view.can_ask() {
        return Ok(flags.to_vec());
    }
    let asked = view.ask(code, NONE, Some("-"), flag)?;
    let names = asked.split_whitespace().filter(|name| *name != "-");
    Ok(names.map(str::to_owned).collect())
}

/// A file that need not be there yet, relative to the plan.
fn as_written(path: String) -> Source {
    Source::File(FileSource {
        path,
        member: None,
        members: Vec::new(),
        strip: String::new(),
    })
}

fn target_of(path: &Path) -> Result<Target, InputError> {
    let text = std::fs::read(path).map_err(InputError::file(path))?;
    Target::read(&text).map_err(|problem| InputError::Site {
        path: path.to_owned(),
        problem,
    })
}

/// The plan as it is written. It is read again first: what `init` writes, `lock` accepts.
fn text_of(plan: &Plan, path: &Path) -> Result<Vec<u8>, InputError> {
    let mut text = serde_json::to_vec_pretty(plan).unwrap_or_default();
    text.push(b'\n');
    Plan::parse(&text).map_err(|problem| InputError::Manifest {
        path: path.to_owned(),
        problem,
    })?;
    Ok(text)
}

fn word(text: &str, expected: &'static str) -> InputError {
    InputError::Word {
        text: text.to_owned(),
        expected,
    }
}

/// Reads `NAME=VERSION`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, version) = text.split_once('=').ok_or("write it as NAME=VERSION")?;
    Ok((name.to_owned(), version.to_owned()))
}

/// Reads `ARCH=FILE`.
fn installer(text: &str) -> Result<(Arch, String), String> {
    let (arch, file) = text.split_once('=').ok_or("write it as ARCH=FILE")?;
    let arch = arch.parse().map_err(|_| "aarch64 or x86_64".to_owned())?;
    Ok((arch, file.to_owned()))
}
