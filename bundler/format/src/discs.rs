//! Volumes that come one after the other: one drive, and discs that a person puts into it.
//!
//! The metadata of all volumes is the same and was verified with the first, so a later one has to show that it has the
//! same, byte for byte, and holds what the signed index says that its number holds. Files of a volume are closed before
//! the next is asked for: a disc with open files cannot be taken out.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use manifest_schema::{Blob, Digest};

use crate::agree::check_volume;
use crate::sealed::{Sealed, volumes_at};
use crate::verify::Verified;
use crate::verify_error::{Fault, VerifyError};
use crate::volume::Volume;

impl Sealed {
    /// Opens the volumes that are at hand in these places, each a file or a folder. Others may come later.
    ///
    /// # Errors
    /// Those of [`Sealed::open`].
    pub fn open_at_hand(places: &[PathBuf]) -> Result<Self, VerifyError> {
        let mut volumes: Vec<Volume> = Vec::new();
        for place in places {
            for volume in volumes_at(place)? {
                let same = |known: &Volume| (known.number, known.of) == (volume.number, volume.of);
                // The same disc may be named twice; what differs between the two is found when it is read.
                if !volumes.iter().any(same) {
                    volumes.push(volume);
                }
            }
        }
        if volumes.is_empty() {
            return Err(Fault::NotABundle.of(""));
        }
        Ok(Self {
            volumes,
            alone: true,
        })
    }
}

impl Verified {
    /// How many volumes the bundle has.
    pub fn volumes(&self) -> u32 {
        self.index.volumes
    }

    /// The error that says that these volumes are missing.
    pub fn without(&self, volumes: &BTreeSet<u32>) -> VerifyError {
        let numbers: Vec<String> = volumes.iter().map(u32::to_string).collect();
        let (missing, of) = (numbers.join(", "), self.index.volumes);
        Fault::VolumesMissing { missing, of }.of(self.at())
    }

    /// The volumes that are not at hand.
    pub fn missing(&self) -> BTreeSet<u32> {
        let there: BTreeSet<u32> = self.sealed.volumes.iter().map(|v| v.number).collect();
        (1..=self.index.volumes)
            .filter(|number| !there.contains(number))
            .collect()
    }

    /// Whether no volume is missing.
    pub fn is_complete(&self) -> bool {
        self.missing().is_empty()
    }

    /// The volumes that hold pieces of a blob, but for the pieces in `done`.
    ///
    /// # Errors
    /// When the blob is unknown.
    pub fn volumes_of(
        &self,
        digest: &Digest,
        done: &BTreeSet<usize>,
    ) -> Result<BTreeSet<u32>, VerifyError> {
        let blob = self.known(digest)?;
        let pieces = (0..blob.pieces.len()).filter(|piece| !done.contains(piece));
        Ok(pieces.map(|piece| volume_of(self, blob, piece)).collect())
    }

    /// Reads the pieces of a blob that are at hand and not in `done`, hands out each run with its offset in the blob,
    /// and adds each piece to `done` when it was checked. Returns whether all are done.
    ///
    /// # Errors
    /// When the blob is unknown, or a piece cannot be read or is damaged; what was handed out of it counts for nothing.
    pub fn read_at_hand(
        &self,
        digest: &Digest,
        done: &mut BTreeSet<usize>,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), VerifyError>,
    ) -> Result<bool, VerifyError> {
        let blob = self.known(digest)?;
        for piece in 0..blob.pieces.len() {
            if done.contains(&piece) || self.place(blob, piece).is_err() {
                continue;
            }
            let start = piece as u64 * self.index.piece_size;
            self.read_piece(blob, piece, |within, run| take(start + within, run))?;
            done.insert(piece);
        }
        Ok(done.len() == blob.pieces.len())
    }

    /// Closes the files of all volumes, so that their discs can be taken out.
    ///
    /// # Errors
    /// When the system has nothing to put in their place.
    pub fn let_go(&mut self) -> Result<(), VerifyError> {
        let path = self.at();
        let nothing = File::open("/dev/null");
        let nothing = nothing.map_err(|cause| Fault::Unreadable.because(&path, cause))?;
        self.sealed.volumes.truncate(1);
        if let Some(named) = self.sealed.volumes.first_mut() {
            named.file = nothing;
            // No volume has this number, so nothing is looked for in it.
            named.number = 0;
        }
        Ok(())
    }

    /// Takes the volumes at `place` instead of those that were at hand. Returns their numbers.
    ///
    /// # Errors
    /// When there is none, or it is not of this bundle. What was at hand stays then.
    pub fn take(&mut self, place: &Path) -> Result<Vec<u32>, VerifyError> {
        let volumes = volumes_at(place)?;
        for volume in &volumes {
            check_volume(volume, &self.index, &self.metadata, self.path())?;
        }
        let numbers = volumes.iter().map(|volume| volume.number).collect();
        if !volumes.is_empty() {
            self.sealed.volumes = volumes;
        }
        Ok(numbers)
    }
}

fn volume_of(bundle: &Verified, blob: &Blob, piece: usize) -> u32 {
    bundle.spot(blob, piece).0
}
