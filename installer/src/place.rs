//! Where the prefix lies: a disk that cannot take an install is refused before anything is asked or done.

use install_steps::{Obstacle, Place, PlaceError, Prefix};
use report::Trouble;

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
