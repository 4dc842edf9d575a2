//! `schema`: what each field of a manifest means, for an editor or a person.

use console::View;
use report::{Outcome, Trouble};
use schemars::schema_for;

/// Print the JSON Schema of a manifest
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which one
    #[arg(value_enum, default_value_t = Manifest::Plan)]
    manifest: Manifest,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Manifest {
    /// What a person writes
    Plan,
    /// What `lock` makes of it
    Lock,
    /// Where each blob lies in a bundle
    Index,
    /// What a bundle can install
    Profiles,
    /// Where each blob came from
    Provenance,
    /// What `ferry-installer probe` learned of a machine
    Site,
}

impl Args {
    #[expect(clippy::unnecessary_wraps, reason = "all commands end alike")]
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let schema = match self.manifest {
            Manifest::Plan => schema_for!(manifest_schema::plan::Plan),
            Manifest::Lock => schema_for!(manifest_schema::lock::Lock),
            Manifest::Index => schema_for!(manifest_schema::Index),
            Manifest::Profiles => schema_for!(manifest_schema::Profiles),
            Manifest::Provenance => schema_for!(manifest_schema::Provenance),
            Manifest::Site => schema_for!(manifest_schema::site::Site),
        };
        let pretty = serde_json::to_string_pretty(&schema).unwrap_or_default();
        view.result(schema.as_value(), &pretty);
        Ok(Outcome::Done)
    }
}
