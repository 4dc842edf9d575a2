//! Where the prefix lies: a disk that cannot take an install is refused before anything is asked or done, and a folder
//! that has something else in it is named.

use console::View;
use host_probe::{Check, Verdict};
use install_steps::{Obstacle, Place, PlaceError, Prefix};
use report::{Event, Sink as _, Trouble};

/// Says so where the prefix is somebody's folder already: more likely a folder in it was meant.
pub(crate) fn note_strangers(view: &View, prefix: &Prefix) -> Result<(), Trouble> {
    if let Some(check) = strangers(prefix)? {
        let args = check.args.into_iter();
        view.emit(&Event::Warned {
            code: check.code.to_owned(),
            args: args.map(|(name, value)| (name.to_owned(), value)).collect(),
        });
    }
    Ok(())
}

/// The check that says so; none where the folder is empty, Ferry's, or not there.
pub(crate) fn strangers(prefix: &Prefix) -> Result<Option<Check>, Trouble> {
    let names = prefix.strangers()?;
    if names.is_empty() {
        return Ok(None);
    }
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let rest = if names.len() > SHOWN { ", …" } else { "" };
    let there = shown.join(", ") + rest;
    let mut check = Check::new("install.place-shared", Verdict::Warn, &there, "-");
    let prefix = prefix.path().display().to_string();
    check.args.extend([("prefix", prefix), ("names", there)]);
    Ok(Some(check))
}

/// Names that are enough to know a folder by.
const SHOWN: usize = 4;

/// Fails where the disk of the prefix does not allow the install. Who `only_looks` need not be the one who installs.
pub(crate) fn refuse_place(
    prefix: &Prefix,
    runs_programs: bool,
    only_looks: bool,
) -> Result<(), Trouble> {
    let place = Place::of(prefix)?;
    let minded = |obstacle: &Obstacle| !only_looks || *obstacle != Obstacle::NotPermitted;
    match place.obstacle_to(runs_programs).filter(minded) {
        None => Ok(()),
        Some(obstacle) => {
            let prefix = prefix.path().to_owned();
            Err(PlaceError {
                prefix,
                place,
                obstacle,
            }
            .into())
        }
    }
}
