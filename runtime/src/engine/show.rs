//! A plan in words.

use console::View;

use super::plan::Plan;

/// What will be done, a line a thing.
pub(super) fn lines(plan: &Plan, view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |code: &str, args: &[(&str, String)]| {
        lines.push(view.text(&format!("engine.check-{code}"), args));
    };
    let handed = &plan.handed;
    let (name, path) = &handed.model;
    say("engine", &[("title", plan.python.title())]);
    let device = format!("{}, {}", plan.chosen.label(), plan.chosen.title());
    say("device", &[("device", device)]);
    let of = |name: &str, path: &std::path::Path| {
        [
            ("name", name.to_owned()),
            ("path", path.display().to_string()),
        ]
    };
    say("model", &of(name, path));
    for (name, path) in &handed.data {
        say("data", &of(name, path));
    }
    if let Some(from) = &plan.from {
        let path = from.path.display().to_string();
        say(
            "resumes",
            &[("path", path), ("step", from.step.to_string())],
        );
    }
    if plan.team.is_torchrun() {
        let team = &plan.team;
        say(
            "team",
            &[
                ("processes", team.processes.to_string()),
                ("nodes", team.nodes.to_string()),
                ("rank", team.rank.to_string()),
            ],
        );
    }
    for change in &handed.changes {
        let args = change.args();
        let change = view.text(change.code(), &args);
        say("change", &[("change", change)]);
    }
    for (name, value) in &plan.variables.set {
        let value = value.to_string_lossy();
        say("sets", &[("variable", format!("{name}={value}"))]);
    }
    for name in &plan.variables.removed {
        say("removes", &[("variable", name.clone())]);
    }
    for variable in &plan.variables.may_help {
        say("may-help", &[("variable", variable.clone())]);
    }
    let words = plan.command().into_iter();
    let words: Vec<String> = words
        .map(|word| super::quoted(&word.to_string_lossy()))
        .collect();
    say("command", &[("command", words.join(" "))]);
    lines
}
