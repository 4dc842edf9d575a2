//! `--fact NAME=VALUE`: what a person knows better than the probe.

use std::collections::BTreeMap;

use console::View;
use host_probe::{FactError, override_fact};
use manifest_schema::site::Site;

/// Facts stated on the command line.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct FactFlags {
    /// Take this for true instead of what the probe finds, such as `driver=25.5.0`; this is logged (can be repeated)
    #[arg(long = "fact", value_name = "NAME=VALUE", value_parser = pair)]
    facts: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl FactFlags {
    pub(crate) fn apply(&self, site: &mut Site) -> Result<(), FactError> {
        self.facts
            .iter()
            .try_for_each(|(name, value)| override_fact(site, name, value))
    }

    /// Says which facts were not measured.
    pub(crate) fn note(&self, view: &View) {
        for (name, value) in &self.facts {
            let args = [("name", name.clone()), ("value", value.clone())];
            view.note("installer.fact-stated", &args);
        }
    }

    pub(crate) fn to_map(&self) -> BTreeMap<String, String> {
        self.facts.iter().cloned().collect()
    }
}
