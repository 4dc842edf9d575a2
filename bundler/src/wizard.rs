//! Answers to a plan: what `init` knows beside its questions.

use std::collections::BTreeMap;

use bundle_format::Received;
use manifest_schema::chip::{Chip, Family, FrameworkPair, Pairing};
use manifest_schema::plan::{
    HubSource, Plan, PlanBackend, PlanComponent, PlanImage, PlanOsPackages, PlanPython, Source,
};
use manifest_schema::site::{Interpreter, Site};
use manifest_schema::{Arch, BackendName, BundleName, GlibcVersion, KeyId, RepoName, site_code};

/// What was asked for.
pub(crate) struct Answers {
    pub(crate) name: BundleName,
    pub(crate) release: u64,
    pub(crate) channel: String,
    pub(crate) site_key: Option<KeyId>,
    pub(crate) models: Vec<PlanComponent>,
    pub(crate) datasets: Vec<PlanComponent>,
    pub(crate) backends: Vec<PlanBackend>,
    pub(crate) images: Vec<PlanImage>,
    pub(crate) installers: BTreeMap<Arch, Source>,
    pub(crate) os_packages: Vec<PlanOsPackages>,
}

/// A repository on a hub.
pub(crate) struct Repository {
    pub(crate) name: RepoName,
    pub(crate) revision: Option<String>,
    pub(crate) license: String,
    pub(crate) on_modelscope: bool,
}

/// Versions that go together on a chip.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Versions {
    /// By the names that a backend's `versions` use.
    pub(crate) named: BTreeMap<String, String>,
}

/// What a site's own survey says of the machine that a bundle is for.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) chips: Vec<&'static Chip>,
    pub(crate) arch: Option<Arch>,
    pub(crate) glibc: Option<GlibcVersion>,
    pub(crate) python: Option<String>,
    /// The key that signed the survey, where it is an inventory.
    pub(crate) key: Option<KeyId>,
    /// Installed toolkits, by family.
    toolkits: BTreeMap<String, String>,
    /// Installed drivers, by family.
    drivers: BTreeMap<String, String>,
}

/// What the weights and the tokenizer of a model are called, and nothing that runs code when it is read.
pub(crate) const MODEL_FILES: [&str; 6] = [
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "LICENSE*",
];

impl Answers {
    pub(crate) fn into_plan(self) -> Plan {
        let components = self.models.iter().chain(&self.datasets);
        let mut accepted: Vec<String> = components.map(|one| one.license.clone()).collect();
        accepted.extend(self.images.iter().map(|image| image.license.clone()));
        accepted.sort();
        accepted.dedup();
        Plan {
            format: 1,
            name: self.name,
            release: self.release,
            channel: self.channel,
            site_key: self.site_key,
            accept_licenses: accepted,
            wheel_licenses: manifest_schema::plan::WheelLicenses::default(),
            models: self.models,
            datasets: self.datasets,
            backends: self.backends,
            images: self.images,
            installers: self.installers,
            os_packages: self.os_packages,
        }
    }
}

impl Repository {
    /// The model, with what can be loaded without running code.
    pub(crate) fn model(self) -> PlanComponent {
        self.component(&MODEL_FILES)
    }

    /// The dataset, whole.
    pub(crate) fn dataset(self) -> PlanComponent {
        self.component(&[])
    }

    fn component(self, include: &[&str]) -> PlanComponent {
        let source = HubSource {
            repo: self.name.clone(),
            revision: self.revision,
            include: include
                .iter()
                .map(|pattern| (*pattern).to_owned())
                .collect(),
            exclude: Vec::new(),
        };
        let (hub, modelscope) = if self.on_modelscope {
            (None, Some(source))
        } else {
            (Some(source), None)
        };
        PlanComponent {
            hub,
            modelscope,
            ..component(self.name, self.license)
        }
    }
}

/// A model or dataset of no files yet.
pub(crate) fn component(name: RepoName, license: String) -> PlanComponent {
    PlanComponent {
        name,
        license,
        files: Vec::new(),
        hub: None,
        modelscope: None,
        allow_code_on_load: Vec::new(),
        fill: BTreeMap::new(),
        dataset_info: None,
        eulas: Vec::new(),
    }
}

impl Target {
    /// Reads what `ferry-installer` carried out: `probe --json`, `probe --letters` or `--qr`, `inventory`.
    ///
    /// # Errors
    /// Says why the text describes no machine.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let (site, interpreters, key) = survey(text)?;
        let mut target = Self {
            key,
            arch: site.arch.as_ref().map(|fact| fact.value),
            glibc: site.glibc.as_ref().map(|fact| fact.value),
            ..Self::default()
        };
        for device in &site.devices {
            let chip = device.chip.as_deref().and_then(Chip::named);
            let Some(chip) = chip else { continue };
            if !target.chips.iter().any(|known| known.name == chip.name) {
                target.chips.push(chip);
            }
        }
        for vendor in &site.vendors {
            let family = vendor.family.clone();
            if let Some(toolkit) = &vendor.toolkit {
                target
                    .toolkits
                    .insert(family.clone(), toolkit.value.version.clone());
            }
            if let Some(driver) = &vendor.driver {
                target.drivers.insert(family, driver.value.version.clone());
            }
        }
        // The newest Python there that an environment can be made from; a bundle may bring its own.
        let mut pythons: Vec<u8> = interpreters
            .iter()
            .filter_map(|python| python.interpreter.strip_prefix("cp3")?.parse().ok())
            .filter(|minor| *minor >= OLDEST_PYTHON)
            .collect();
        pythons.sort_unstable();
        target.python = pythons.pop().map(|minor| format!("3.{minor}"));
        Ok(target)
    }

    /// Versions that go together on `chip` with `python`: the toolkit that is there, else the newest that the
    /// vendor lists for the driver that is there, else the newest; the newest adapter for it.
    pub(crate) fn versions(&self, chip: &Chip, python: &str) -> Versions {
        let mut versions = Versions::default();
        let Some(family) = Family::of_chip(&chip.name) else {
            return versions;
        };
        let Some(stack) = &family.stack else {
            return versions;
        };
        let there = self.toolkits.get(&family.name).cloned();
        let driver = self.drivers.get(&family.name);
        let tables = || stack.plugin_for_toolkit.iter().filter(|row| row.certain);
        let suits = |row: &&Pairing| {
            let Some(driver) = driver else { return true };
            let mut rows = stack.driver_for_toolkit.iter();
            let lists = |row: &Pairing| row.with.iter().any(|listed| begins(driver, listed));
            rows.any(|known| begins(&row.toolkit, &known.toolkit) && lists(known))
        };
        let toolkit = there.or_else(|| {
            let row = tables().find(|row| suits(row)).or_else(|| tables().next());
            row.map(|row| row.toolkit.clone())
        });
        let Some(toolkit) = toolkit else {
            return versions;
        };
        versions
            .named
            .insert(stack.toolkit_name.clone(), toolkit.clone());
        let (Some(name), Some(rules)) = (&stack.plugin_name, &family.python) else {
            return versions;
        };
        let fits = |pair: &FrameworkPair| {
            let built = rules.cpu_builds.as_ref();
            pair.python.iter().any(|listed| listed == python)
                && built.is_none_or(|built| built.hold(&pair.framework))
        };
        let rows = stack.plugins_for(&toolkit);
        let plugins = rows
            .iter()
            .filter(|row| row.certain)
            .flat_map(|row| &row.with);
        let pairs = plugins.filter_map(|plugin| Some((plugin, rules.pair_of(plugin)?)));
        if let Some((plugin, pair)) = pairs.into_iter().find(|(_, pair)| fits(pair)) {
            versions.named.insert(name.clone(), plugin.clone());
            versions
                .named
                .insert(rules.framework.clone(), pair.framework.clone());
        }
        versions
    }
}

/// A machine, its Pythons and who signed for them, from any of the forms that leave a site.
fn survey(text: &[u8]) -> Result<(Site, Vec<Interpreter>, Option<KeyId>), String> {
    if !text.trim_ascii_start().starts_with(b"{") {
        let letters = String::from_utf8_lossy(text);
        let site = site_code::decode(&letters).map_err(|error| error.to_string())?;
        return Ok((site, Vec::new(), None));
    }
    let json: serde_json::Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if json.get("payload").is_some() || json.get("site").is_some() {
        // A signature that does not hold is refused.
        let received = Received::read(text).map_err(|error| error.to_string())?;
        let inventory = received.inventory;
        return Ok((inventory.site, inventory.interpreters, received.signed_by));
    }
    let site = serde_json::from_value(json).map_err(|error| error.to_string())?;
    Ok((site, Vec::new(), None))
}

/// Python 3.9 is the oldest that today's frameworks have wheels for.
const OLDEST_PYTHON: u8 = 9;

/// Whether a dotted version begins with the parts of another, whatever the case.
fn begins(version: &str, with: &str) -> bool {
    let (version, with) = (version.to_ascii_lowercase(), with.to_ascii_lowercase());
    version
        .strip_prefix(&with)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The backend of a chip.
pub(crate) fn backend(
    chip: &Chip,
    arch: Arch,
    glibc: GlibcVersion,
    versions: Versions,
    python: Option<PlanPython>,
) -> Option<PlanBackend> {
    Some(PlanBackend {
        name: BackendName::parse(&chip.name).ok()?,
        chip: chip.name.clone(),
        arch,
        glibc: Some(glibc),
        files: Vec::new(),
        python,
        versions: versions.named,
        signatures: Vec::new(),
        eulas: Vec::new(),
        host: Vec::new(),
        ports: Vec::new(),
    })
}

/// The adapter that an environment for `chip` needs, where its family has one on a package index.
pub(crate) fn plugin_of(chip: &Chip) -> Option<&'static str> {
    let rules = Family::of_chip(&chip.name)?.python.as_ref()?;
    rules.plugin.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(toolkit: Option<&str>, driver: Option<&str>) -> Target {
        let release = |version: Option<&str>| {
            version.map_or(serde_json::json!(null), |version| {
                serde_json::json!({ "value": { "version": version, "inner": null, "accepts": {} }, "source": "x" })
            })
        };
        let text = serde_json::json!({
            "arch": { "value": "aarch64", "source": "uname" }, "glibc": { "value": "2.28", "source": "ldd" },
            "programs": [], "devices": [{ "address": "0", "vendor": "19e5", "device": "d802", "subsystem": "x",
                "class": "120000", "family": "ascend", "chip": "ascend-910b", "product": null, "state": "ready" }],
            "vendors": [{ "family": "ascend", "nodes": [], "driver": release(driver), "firmware": null,
                "toolkit": release(toolkit), "tool": null }],
        });
        Target::read(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn versions_follow_what_is_there() {
        for (toolkit, driver, python, expected) in [
            (
                Some("9.0.0"),
                None,
                "3.11",
                ("9.0.0", "2.9.0.post2", "2.9.0"),
            ),
            (
                Some("8.5.0"),
                None,
                "3.9",
                ("8.5.0", "2.8.0.post2", "2.8.0"),
            ),
            // No wheel of a newer framework is built for the CPU.
            (None, None, "3.12", ("9.1.0", "2.10.0.post4", "2.10.0")),
            (
                None,
                Some("25.3.rc1"),
                "3.11",
                ("9.1.0", "2.10.0.post4", "2.10.0"),
            ),
            (
                None,
                Some("25.0.rc1.1"),
                "3.11",
                ("9.0.0", "2.9.0.post2", "2.9.0"),
            ),
        ] {
            let target = site(toolkit, driver);
            let found = target.versions(target.chips[0], python).named;
            let found = |name: &str| found[name].clone();
            let found = (found("cann"), found("torch_npu"), found("torch"));
            let expected = (expected.0.into(), expected.1.into(), expected.2.into());
            assert_eq!(found, expected, "{toolkit:?} {driver:?} {python}");
        }
    }

    #[test]
    fn a_survey_says_chip_architecture_and_glibc() {
        let target = site(None, None);
        assert_eq!(target.chips[0].name, "ascend-910b");
        assert_eq!(target.arch, Some(Arch::Aarch64));
        assert_eq!(target.glibc.unwrap().to_string(), "2.28");
        for (text, problem) in [
            (&b"not a survey"[..], "no site code"),
            (b"{ \"devices\": 7 }", "invalid type"),
            (b"{ this is no JSON", "key must be a string"),
        ] {
            let error = Target::read(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
