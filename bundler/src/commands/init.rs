//! `init`: a few answers to a plan.

use std::path::PathBuf;

use console::View;
use manifest_schema::plan::{HubSource, Plan, PlanComponent};
use manifest_schema::{BundleName, RepoName};
use report::{Outcome, Trouble};

use crate::error::InputError;
use crate::output::write_whole;

/// Write a plan to start from; what no flag answers is asked
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write the plan
    #[arg(long, short, default_value = "plan.json", value_name = "FILE")]
    output: PathBuf,
    /// Name of the bundle
    #[arg(long)]
    name: Option<String>,
    /// Model on the Hugging Face Hub, as `organisation/name`
    #[arg(long, value_name = "REPO")]
    model: Option<String>,
    /// Its licence, as an SPDX expression; naming it here accepts it
    #[arg(long, value_name = "SPDX")]
    accept_license: Option<String>,
    /// Branch, tag or commit of the model
    #[arg(long, default_value = "main")]
    revision: String,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        if self.output.exists() {
            return Err(InputError::Exists { path: self.output }.into());
        }
        let none: &[(&str, String)] = &[];
        let answer = |flag: Option<String>, code: &str, default, name: &str| match flag {
            Some(given) => Ok(given),
            None => view.ask(code, none, default, name),
        };
        let name = answer(self.name, "bundler.ask-name", Some("demo"), "--name")?;
        let model = answer(self.model, "bundler.ask-model", None, "--model")?;
        let license = answer(
            self.accept_license,
            "bundler.ask-license",
            None,
            "--accept-license",
        )?;
        let word = |text: &str, expected| InputError::Word {
            text: text.to_owned(),
            expected,
        };
        let repo = RepoName::parse(&model).map_err(|error| word(&model, error.expected))?;
        let plan = Plan {
            format: 1,
            name: BundleName::parse(&name).map_err(|error| word(&name, error.expected))?,
            release: 1,
            channel: "stable".to_owned(),
            site_key: None,
            accept_licenses: vec![license.clone()],
            models: vec![PlanComponent {
                name: repo.clone(),
                license,
                files: Vec::new(),
                hub: Some(HubSource {
                    repo,
                    revision: Some(self.revision),
                    include: [
                        "*.safetensors",
                        "*.json",
                        "*.txt",
                        "*.model",
                        "*.jinja",
                        "LICENSE*",
                    ]
                    .map(str::to_owned)
                    .to_vec(),
                    exclude: Vec::new(),
                }),
                modelscope: None,
                allow_code_on_load: Vec::new(),
                fill: std::collections::BTreeMap::new(),
                dataset_info: None,
            }],
            datasets: Vec::new(),
            backends: Vec::new(),
            installers: std::collections::BTreeMap::new(),
        };
        let mut text = serde_json::to_vec_pretty(&plan).unwrap_or_default();
        text.push(b'\n');
        write_whole(&self.output, &text)?;
        view.note(
            "bundler.plan-made",
            &[("path", self.output.display().to_string())],
        );
        let result = serde_json::json!({ "plan": self.output });
        view.result(&result, &self.output.display().to_string());
        Ok(Outcome::Done)
    }
}
