//! Terms that a person must accept on site, and the installers that they stand before.

use std::collections::BTreeMap;
use std::fs::File;

use manifest_schema::lock::LockedFile;
use manifest_schema::{Eula, HostItem, LONGEST_EULA, PlacedFile, Profiles};
use report::Trouble;

use super::Work;
use crate::error::InputError;

impl Work<'_> {
    pub(super) fn eulas(
        &mut self,
        eulas: &[Eula<LockedFile>],
    ) -> Result<Vec<Eula<PlacedFile>>, Trouble> {
        let mut placed = Vec::new();
        for eula in eulas {
            let eula = eula.try_map(|file| self.one_file(file))?;
            self.check_terms(&eula)?;
            placed.push(eula);
        }
        Ok(placed)
    }

    /// The one file that a locked file stands for.
    pub(super) fn one_file(&mut self, file: &LockedFile) -> Result<PlacedFile, Trouble> {
        let owner = file.path.as_str();
        let mut placed = self.place(std::slice::from_ref(file), &BTreeMap::new(), owner)?;
        let repo = file.path.to_string();
        placed
            .pop()
            .ok_or_else(|| InputError::NothingTaken { repo }.into())
    }

    /// The vendor's signature must hold here already: a bundle that no site would run is not worth carrying.
    pub(super) fn check_vendor(&self, item: &HostItem<PlacedFile>) -> Result<(), Trouble> {
        let Some(signature) = &item.signature else {
            return Ok(());
        };
        let read = |file: &PlacedFile| {
            let path = self.cache.path(file.blob());
            std::fs::read(&path).map_err(InputError::file(&path))
        };
        let (cms, root) = (read(&signature.cms)?, read(&signature.root)?);
        let crl = signature.crl.as_ref().map(read).transpose()?;
        let crls: Vec<&[u8]> = crl.iter().map(Vec::as_slice).collect();
        let path = self.cache.path(item.file.blob());
        let file = File::open(&path).map_err(InputError::file(&path))?;
        vendor_signature::verify_detached(file, &cms, &crls, &[&root])?;
        Ok(())
    }

    /// What a person must read has to be readable: UTF-8, and not longer than they could read.
    pub(super) fn check_terms(&self, eula: &Eula<PlacedFile>) -> Result<(), Trouble> {
        let (name, file) = (eula.name.to_string(), eula.text.path.to_string());
        if eula.text.size.0 > LONGEST_EULA {
            let size = eula.text.size.to_string();
            return Err(InputError::TermsTooLong { name, file, size }.into());
        }
        let path = self.cache.path(&eula.text.digest);
        let bytes = std::fs::read(&path).map_err(InputError::file(&path))?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if !text.trim().is_empty() => Ok(()),
            _ => Err(InputError::TermsNotText { name, file }.into()),
        }
    }
}

/// Who accepts a name must not accept a second text unread.
pub(super) fn one_text_a_name(profiles: &Profiles) -> Result<(), InputError> {
    let backends = profiles.backends.iter().map(|backend| Some(&backend.name));
    for backend in backends.chain([None]) {
        profiles
            .eulas(backend)
            .map_err(|name| InputError::TermsTwice {
                name: name.to_string(),
            })?;
    }
    Ok(())
}
