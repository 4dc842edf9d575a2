//! What is told of positions that a job stretches.

use console::View;
use report::{Event, Sink};
use train::{Reach, Stretch, StretchRule};

/// Tells how far the model reaches now, or that its positions stay as they are.
pub(crate) fn tell(stretch: Stretch, reach: Reach, view: &View) {
    let told = |code: &str, args: Vec<(&str, String)>| {
        view.emit(&Event::Warned {
            code: code.to_owned(),
            args: args.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        });
    };
    let made_for = ("made_for", reach.made_for.to_string());
    if reach.factor() < 2 {
        told("runtime.stretch-not-needed", vec![made_for]);
        return;
    }
    let rule = ("rule", stretch.rule.name().to_owned());
    let now = ("positions", reach.now.to_string());
    told("runtime.positions-stretched", vec![rule, made_for, now]);
    if stretch.rule == StretchRule::Dynamic && stretch.longest.is_some() {
        told("runtime.stretch-dynamic", Vec::new());
    }
}
