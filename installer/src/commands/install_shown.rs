//! What `install` shows: the steps, a dry run, the end.

use console::View;
use install_steps::{HostPlan, InstallPlan, Prefix, Term};
use serde_json::json;

use crate::layer;
use crate::packages::Packages;
use crate::vendor::Vendor;

/// The steps of a plan, one a line.
pub(super) fn steps(view: &View, plan: &InstallPlan) -> String {
    let lines = plan.steps.iter().enumerate();
    let lines: Vec<String> = lines
        .map(|(number, step)| format!("  {}. {}", number + 1, view.text(step.code(), &step.args())))
        .collect();
    lines.join("\n")
}

/// What a dry run shows.
pub(super) struct Shown<'a> {
    pub(super) plan: &'a InstallPlan,
    pub(super) host: &'a HostPlan,
    pub(super) terms: &'a [Term],
    pub(super) units: &'a [String],
    pub(super) vendor: &'a Vendor,
    pub(super) packages: &'a Packages<'a>,
    pub(super) of_packages: Option<&'a str>,
}

impl Shown<'_> {
    pub(super) fn show(&self, view: &View) {
        let (plan, host) = (self.plan, self.host);
        let terms: Vec<_> = self
            .terms
            .iter()
            .map(|term| json!({ "name": term.name, "digest": term.digest, "text": term.text }))
            .collect();
        let value = json!({
            "release": plan.release, "backend": plan.backend.as_ref().map(|b| &b.name),
            "steps": plan.steps, "units": self.units, "host": host.steps, "terms": terms,
            "images": plan.images, "needed": plan.needed, "free": plan.free,
            "vendor": self.vendor.to_json(view), "os_packages": self.packages.to_json(), "dry_run": true,
        });
        let mut lines = Vec::new();
        // In the order in which they would be done.
        lines.extend(
            self.of_packages
                .filter(|_| !host.is_empty())
                .map(str::to_owned),
        );
        if !host.steps.is_empty() {
            let steps = layer::steps(view, host);
            lines.push(view.text("installer.host-plan", &[("steps", steps)]));
        }
        lines.extend(self.vendor.lines(view));
        for term in self.terms {
            let args = [
                ("name", term.name.to_string()),
                ("digest", term.digest.hex()),
            ];
            lines.push(view.text("installer.terms-open", &args));
            if view.is_verbose() {
                lines.push(term.text.clone());
            }
        }
        lines.push(steps(view, plan));
        lines.extend_from_slice(self.units);
        lines.extend(
            self.of_packages
                .filter(|_| host.is_empty())
                .map(str::to_owned),
        );
        view.result(&value, &lines.join("\n"));
    }
}

/// Says what was installed.
pub(super) fn finished(view: &View, prefix: &Prefix, plan: &InstallPlan, packages: &Packages) {
    let path = prefix.current_link();
    let human = view.text(
        "installer.installed",
        &[
            ("release", plan.release.to_string()),
            ("path", path.display().to_string()),
        ],
    );
    if !plan.images.is_empty() {
        let (count, images) = (plan.images.len(), path.join("images"));
        let args = [
            ("count", count.to_string()),
            ("path", images.display().to_string()),
        ];
        view.note("installer.images", &args);
    }
    let value = json!({
        "release": plan.release, "current": path, "steps": plan.steps, "images": plan.images,
        "os_packages": packages.to_json(),
    });
    view.result(&value, &human);
}
