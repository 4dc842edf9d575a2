//! `modules.yaml`: which packages belong to a stream of a module, and which streams dnf uses unasked.
//!
//! A stream such as `nodejs:18` is on or off as a whole. Packages of streams that are off are not there at all, however
//! new they are; packages of no module are hidden behind those of a stream that is on and has their name. That is
//! what `man dnf.modularity` says, and what a machine with dnf does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::Deserialize;

use super::repomd::Listed;
use crate::error::PackageError;
use crate::installed::Installed;
use crate::package::Package;
use crate::unpacked::unpacked;

/// The modules of all repositories.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    builds: Vec<Build>,
    /// The stream that is on unasked; `None` where repositories do not agree.
    defaults: BTreeMap<String, Option<String>>,
}

/// What repositories offer once streams are on or off.
#[derive(Debug)]
pub struct Visible {
    /// Packages that can be chosen.
    pub packages: Vec<Package>,
    /// Packages that cannot.
    pub hidden: Hidden,
}

/// By the name of a package that cannot be chosen: the streams that have it.
#[derive(Debug, Default)]
pub struct Hidden(BTreeMap<String, BTreeSet<String>>);

/// One build of a stream. The same stream may be built against several streams of another module.
#[derive(Clone, Debug)]
struct Build {
    module: String,
    stream: String,
    /// One of these must hold: by module, the streams of it that will do.
    requires: Vec<BTreeMap<String, Vec<String>>>,
    packages: BTreeSet<Identity>,
}

/// Name, version as packages write it, architecture.
type Identity = (String, String, String);

impl Modules {
    /// Adds the modules of the file that a list names.
    ///
    /// # Errors
    /// When `bytes` are not that file, or it is not in its format.
    pub fn add(&mut self, listed: &Listed, bytes: &[u8]) -> Result<(), PackageError> {
        listed.check(bytes)?;
        let file = listed.location.as_str();
        let wrong = |problem: String| PackageError::metadata(file, problem);
        let limit = listed.open_limit().min(LARGEST);
        let mut text = String::new();
        unpacked(file, bytes, limit)
            .and_then(|mut source| source.read_to_string(&mut text))
            .map_err(|error| wrong(error.to_string()))?;
        for document in documents(&text) {
            self.document(document).map_err(wrong)?;
        }
        Ok(())
    }

    /// Adds what another repository has.
    pub fn join(&mut self, other: Self) {
        self.builds.extend(other.builds);
        for (module, stream) in other.defaults {
            self.by_default(module, stream);
        }
    }

    /// Leaves of `offered` what dnf would see: streams that `chosen` names (`nodejs:18`) or that something installed is
    /// from are on, else a module's default.
    ///
    /// # Errors
    /// When there is no stream that `chosen` names.
    pub fn visible(
        &self,
        offered: Vec<Package>,
        installed: &Installed,
        chosen: &[String],
    ) -> Result<Visible, PackageError> {
        let on = self.on(installed, chosen)?;
        let usable =
            |build: &&Build| on.get(&build.module) == Some(&build.stream) && build.fits(&on);
        let all: BTreeMap<&Identity, &Build> = self.by_package(|_| true);
        let active: BTreeMap<&Identity, &Build> = self.by_package(|build| usable(&build));
        let names: BTreeSet<&str> = active
            .keys()
            .filter(|(_, _, arch)| arch != "src")
            .map(|(name, _, _)| name.as_str())
            .collect();
        let mut hidden = Hidden::default();
        let mut packages = offered;
        packages.retain(|package| {
            let own = identity(package);
            if active.contains_key(&own) {
                return true;
            }
            if let Some(build) = all.get(&own) {
                let stream = format!("{}:{}", build.module, build.stream);
                hidden.0.entry(own.0).or_default().insert(stream);
                return false;
            }
            let provided = package.provides.iter().map(|one| one.name.as_str());
            !names.contains(package.name.as_str())
                && !provided.into_iter().any(|n| names.contains(n))
        });
        Ok(Visible { packages, hidden })
    }

    fn by_package(&self, takes: impl Fn(&Build) -> bool) -> BTreeMap<&Identity, &Build> {
        let builds = self.builds.iter().filter(|build| takes(build));
        builds
            .flat_map(|build| build.packages.iter().map(move |package| (package, build)))
            .collect()
    }

    /// Which stream of each module is on.
    fn on(
        &self,
        installed: &Installed,
        chosen: &[String],
    ) -> Result<BTreeMap<String, String>, PackageError> {
        let mut on: BTreeMap<String, String> = BTreeMap::new();
        for (module, stream) in &self.defaults {
            on.extend(stream.clone().map(|stream| (module.clone(), stream)));
        }
        let is_there: BTreeSet<Identity> =
            (installed.packages.iter().map(|one| bare(&identity(one)))).collect();
        for build in &self.builds {
            let default = self.defaults.get(&build.module).cloned().flatten();
            let mut packages = build.packages.iter();
            if default.as_ref() != Some(&build.stream)
                && packages.any(|one| is_there.contains(&bare(one)))
            {
                on.insert(build.module.clone(), build.stream.clone());
            }
        }
        for one in chosen {
            let (module, stream) = one.split_once(':').unwrap_or((one, ""));
            let mut of_module = self.builds.iter().filter(|build| build.module == module);
            if !of_module.clone().any(|build| build.stream == stream) {
                let known: BTreeSet<String> = of_module
                    .by_ref()
                    .map(|build| format!("{module}:{}", build.stream))
                    .collect();
                return Err(PackageError::NoSuchModule {
                    wanted: one.clone(),
                    known: known.into_iter().collect::<Vec<_>>().join(", "),
                });
            }
            on.insert(module.to_owned(), stream.to_owned());
        }
        // What a stream needs of other modules is on too; each round adds a module, so this ends.
        while let Some((module, stream)) = self.needed(&on) {
            on.insert(module, stream);
        }
        Ok(on)
    }

    /// A stream that some stream needs before any build of it can be used, of a module that is not on.
    fn needed(&self, on: &BTreeMap<String, String>) -> Option<(String, String)> {
        for (module, stream) in on {
            let of = |build: &&Build| build.module == *module && build.stream == *stream;
            let builds = || self.builds.iter().filter(of);
            if builds().any(|build| build.fits(on)) {
                continue;
            }
            let alternatives = builds().flat_map(|build| &build.requires);
            let free = |needs: &BTreeMap<String, Vec<String>>| {
                let mut missing = needs.iter().filter(|need| !holds(need, on));
                // Another stream of a module is on: nothing helps this build.
                if missing.clone().any(|(module, _)| on.contains_key(module)) {
                    return None;
                }
                let (module, streams) = missing.next()?;
                let stream = streams.iter().find(|stream| !stream.starts_with('-'))?;
                Some((module.clone(), stream.clone()))
            };
            if let Some(found) = alternatives.into_iter().find_map(free) {
                return Some(found);
            }
        }
        None
    }

    fn by_default(&mut self, module: String, stream: Option<String>) {
        match self.defaults.get_mut(&module) {
            Some(known) if *known == stream => {}
            Some(known) => *known = None,
            None => {
                self.defaults.insert(module, stream);
            }
        }
    }

    fn document(&mut self, text: &str) -> Result<(), String> {
        match top(text, "document") {
            Some("modulemd") if top(text, "version") == Some("2") => {
                let read: Document<StreamData> = read(text)?;
                let packages = read.data.artifacts.rpms.iter();
                self.builds.push(Build {
                    module: read.data.name,
                    stream: read.data.stream,
                    requires: (read.data.dependencies.into_iter())
                        .map(|one| one.requires)
                        .collect(),
                    packages: packages.filter_map(|name| artifact(name)).collect(),
                });
                if self.builds.len() > MOST_BUILDS {
                    return Err("it lists more modules than any distribution has".to_owned());
                }
            }
            Some("modulemd") => return Err("it has modules in another version than 2".to_owned()),
            Some("modulemd-defaults") => {
                let read: Document<DefaultData> = read(text)?;
                // Without a stream there is none by default.
                let stream = read.data.stream;
                self.by_default(read.data.module, stream);
            }
            // Translations, dates of ending, and whatever comes.
            Some(_) => {}
            None => return Err("one of its documents does not say what it is".to_owned()),
        }
        Ok(())
    }
}

impl Hidden {
    /// Says of a package that cannot be found in which streams it is, where that is why.
    #[must_use]
    pub fn explain(&self, error: PackageError) -> PackageError {
        let PackageError::NoSuchPackage { wanted, .. } = &error else {
            return error;
        };
        let name = wanted.split('=').next().unwrap_or(wanted);
        match self.0.get(name) {
            None => error,
            Some(streams) => PackageError::ModuleOff {
                wanted: wanted.clone(),
                streams: streams.iter().cloned().collect::<Vec<_>>().join(", "),
            },
        }
    }
}

impl Build {
    /// Whether the streams that it needs are on.
    fn fits(&self, on: &BTreeMap<String, String>) -> bool {
        let met = |needs: &BTreeMap<String, Vec<String>>| needs.iter().all(|need| holds(&need, on));
        self.requires.is_empty() || self.requires.iter().any(met)
    }
}

/// Whether one need is met: any stream where none is named, else one of those named, or none of those with a minus.
fn holds((module, streams): &(&String, &Vec<String>), on: &BTreeMap<String, String>) -> bool {
    // A repository is for one platform.
    if *module == "platform" || streams.is_empty() {
        return true;
    }
    let Some(stream) = on.get(*module) else {
        return false;
    };
    let excluded = |one: &String| one.strip_prefix('-') == Some(stream.as_str());
    let only_exclusions = streams.iter().all(|one| one.starts_with('-'));
    streams.contains(stream) || only_exclusions && !streams.iter().any(excluded)
}

fn identity(package: &Package) -> Identity {
    let (name, version, arch) = (&package.name, &package.version, &package.arch);
    (name.clone(), version.clone(), arch.clone())
}

/// Without the epoch: `rpm -qa` does not print it.
fn bare((name, version, arch): &Identity) -> Identity {
    let version = version
        .split_once(':')
        .map_or(version.as_str(), |(_, rest)| rest);
    (name.clone(), version.to_owned(), arch.clone())
}

/// `name-epoch:version-release.arch`.
fn artifact(text: &str) -> Option<Identity> {
    let (rest, arch) = text.rsplit_once('.')?;
    let (before, release) = rest.rsplit_once('-')?;
    let (name, version) = before.rsplit_once('-')?;
    let version = version.strip_prefix("0:").unwrap_or(version);
    Some((
        name.to_owned(),
        format!("{version}-{release}"),
        arch.to_owned(),
    ))
}

#[derive(Deserialize)]
struct Document<T> {
    data: T,
}

#[derive(Deserialize)]
struct StreamData {
    name: String,
    stream: String,
    #[serde(default)]
    dependencies: Vec<Dependencies>,
    #[serde(default)]
    artifacts: Artifacts,
}

#[derive(Default, Deserialize)]
struct Dependencies {
    #[serde(default)]
    requires: BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
struct Artifacts {
    #[serde(default)]
    rpms: Vec<String>,
}

#[derive(Deserialize)]
struct DefaultData {
    module: String,
    stream: Option<String>,
}

/// Typed, so that the stream `5.30` stays what it is and does not become the number 5.3.
fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_yaml_ng::from_str(text).map_err(|error| error.to_string())
}

/// The documents of a file. A line `---` cannot stand inside of one.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let parts = std::iter::from_fn(move || {
        let text = rest?;
        let end = text.find("\n---").map(|end| end + 1);
        rest = end.map(|end| &text[end..]);
        Some(&text[..end.unwrap_or(text.len())])
    });
    let blank =
        |line: &str| line.is_empty() || line == "---" || line == "..." || line.starts_with('#');
    parts.filter(move |part| !part.lines().all(|line| blank(line.trim())))
}

/// The value of a key at the top of a document.
fn top<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    let value = text.lines().find_map(value)?.trim();
    Some(value.trim_matches(['"', '\'']))
}

/// Several times what the largest distribution has.
const LARGEST: u64 = 256 << 20;
const MOST_BUILDS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::Relation;

    fn stream(name: &str, requires: &str, packages: &[&str]) -> String {
        let (module, stream) = name.split_once(':').unwrap();
        let lines: Vec<String> = packages.iter().map(|one| format!("    - {one}")).collect();
        let packages = lines.join("\n");
        format!(
            "---\ndocument: modulemd\nversion: 2\ndata:\n  name: {module}\n  stream: {stream}\n  version: 820\n  context: 9edba152\n  \
             summary: >-\n    Text of\n    a module\n  dependencies:\n  - buildrequires:\n      platform: [el8.1.0]\n    \
             requires:\n      platform: [el8]\n{requires}  artifacts:\n    rpms:\n{packages}\n...\n"
        )
    }

    fn default(module: &str, stream: &str) -> String {
        format!(
            "---\ndocument: modulemd-defaults\nversion: 1\ndata:\n  module: {module}\n  stream: {stream}\n  profiles:\n    x: [common]\n...\n"
        )
    }

    fn modules(text: &str) -> Result<Modules, String> {
        let mut modules = Modules::default();
        for document in documents(text) {
            modules.document(document)?;
        }
        Ok(modules)
    }

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: "aarch64".to_owned(),
            ..Package::default()
        }
    }

    fn seen(modules: &Modules, installed: &[Package], chosen: &[&str]) -> Vec<String> {
        let mut other = package("other-perl", "9-1");
        other.provides.push(Relation::any("perl"));
        let offered = vec![
            package("perl", "4:5.24-1.m"),
            package("perl", "4:5.26-1.m"),
            package("perl", "4:5.30-1.m"),
            package("perl", "4:5.99-1"),
            package("perl-DBI", "1.6-1.m24"),
            package("perl-DBI", "1.6-1.m26"),
            package("nodejs", "1:18-1.m"),
            package("gcc", "12-1"),
            other,
        ];
        let installed = Installed {
            packages: installed.to_vec(),
            relations: true,
        };
        let chosen: Vec<String> = chosen.iter().map(|one| (*one).to_owned()).collect();
        let visible = modules.visible(offered, &installed, &chosen).unwrap();
        let labels = visible.packages.iter();
        labels
            .map(|one| format!("{} {}", one.name, one.version))
            .collect()
    }

    fn real() -> String {
        [
            stream(
                "perl:5.24",
                "",
                &["perl-4:5.24-1.m.aarch64", "perl-4:5.24-1.m.src"],
            ),
            stream("perl:\"5.26\"", "", &["perl-4:5.26-1.m.aarch64"]),
            stream("perl:5.30", "", &["perl-4:5.30-1.m.aarch64"]),
            stream(
                "perl-DBI:1.6",
                "      perl: [5.24]\n",
                &["perl-DBI-0:1.6-1.m24.aarch64"],
            ),
            stream(
                "perl-DBI:1.6",
                "      perl: [5.26]\n",
                &["perl-DBI-0:1.6-1.m26.aarch64"],
            ),
            stream("nodejs:18", "", &["nodejs-1:18-1.m.aarch64"]),
            default("perl", "5.26"),
            default("perl-DBI", "1.6"),
            "---\ndocument: modulemd-obsoletes\nversion: 1\ndata:\n  module: perl\n...\n"
                .to_owned(),
        ]
        .concat()
    }

    #[test]
    fn default_streams_are_on_and_hide_what_has_their_names() {
        let modules = modules(&real()).unwrap();
        assert_eq!(
            seen(&modules, &[], &[]),
            ["perl 4:5.26-1.m", "perl-DBI 1.6-1.m26", "gcc 12-1"]
        );
        assert_eq!(seen(&Modules::default(), &[], &[]).len(), 9);
    }

    #[test]
    fn a_stream_is_chosen_by_name_by_what_is_installed_and_by_what_needs_it() {
        let modules = modules(&real()).unwrap();
        // The stream `5.30` is not the number 5.3, and nothing of DBI was built for it.
        assert_eq!(
            seen(&modules, &[], &["perl:5.30", "nodejs:18"]),
            ["perl 4:5.30-1.m", "nodejs 1:18-1.m", "gcc 12-1"]
        );
        // As a list has it that `rpm -qa` printed.
        let old = package("perl", "5.24-1.m");
        assert_eq!(
            seen(&modules, std::slice::from_ref(&old), &[]),
            ["perl 4:5.24-1.m", "perl-DBI 1.6-1.m24", "gcc 12-1"]
        );
        let without_default =
            super::tests::modules(&real().replace("module: perl\n", "module: x\n")).unwrap();
        assert_eq!(
            seen(&without_default, &[], &[]),
            ["perl 4:5.24-1.m", "perl-DBI 1.6-1.m24", "gcc 12-1"]
        );
    }

    #[test]
    fn repositories_that_do_not_agree_have_no_default() {
        let mut one = modules(&real()).unwrap();
        one.join(modules(&default("perl", "5.30")).unwrap());
        assert_eq!(one.defaults["perl"], None);
    }

    #[test]
    fn what_is_not_to_be_had_says_why() {
        let modules = modules(&real()).unwrap();
        let none = Installed::default();
        let offered = vec![package("nodejs", "1:18-1.m")];
        let visible = modules.visible(offered, &none, &[]).unwrap();
        let absent = |wanted: &str| PackageError::NoSuchPackage {
            wanted: wanted.to_owned(),
            known: String::new(),
        };
        let said = visible
            .hidden
            .explain(absent("nodejs=1:18-1.m"))
            .to_string();
        assert!(said.contains("nodejs:18"), "{said}");
        assert_eq!(visible.hidden.explain(absent("gcc")), absent("gcc"));
        let error = modules.visible(vec![], &none, &["perl:5".to_owned()]);
        let said = error.unwrap_err().to_string();
        assert!(said.contains("perl:5.24, perl:5.26, perl:5.30"), "{said}");
    }

    #[test]
    fn what_is_no_module_is_named() {
        for (text, expected) in [
            ("document: modulemd\nversion: 1\ndata: {}\n", "version"),
            ("data: {}\n", "what it is"),
            ("document: modulemd\nversion: 2\ndata: []\n", "data"),
            (
                "document: modulemd\nversion: 2\ndata: {name: a}\n",
                "stream",
            ),
            ("document: modulemd\nversion: 2\ndata: &a {name: *a}\n", ""),
        ] {
            let error = modules(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(modules("---\n...\n---\n# nothing\n").is_ok());
    }
}
