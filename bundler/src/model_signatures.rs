//! A signature beside every model, for those who check a model without its bundle.

use std::collections::BTreeMap;

use bundle_format::{SigningKey, model_signature};
use bundle_mirror::Cache;
use manifest_schema::{BundlePath, ByteSize, ComponentKind, Origin, OriginKind, PlacedFile};
use report::Trouble;

use crate::assembly::Parts;
use crate::error::InputError;

/// Names that a signature may have. The second is for models that bring their maker's own.
const NAMES: [&str; 2] = ["model.sig", "model.ferry.sig"];

/// Signs every model of `parts` with `key`. The signatures become files of the bundle like any other, so this comes
/// before anything is laid out.
pub(crate) fn sign_models(
    parts: &mut Parts,
    key: &SigningKey,
    cache: &Cache,
) -> Result<(), Trouble> {
    let models = parts.profiles.components.iter_mut();
    for model in models.filter(|component| component.kind == ComponentKind::Model) {
        let taken = |name: &&str| model.files.iter().any(|file| file.path.as_str() == *name);
        let name = NAMES.into_iter().find(|name| !taken(name));
        let place = name.and_then(|name| BundlePath::parse(name).ok());
        let Some(place) = place else {
            let (owner, path) = (model.name.to_string(), NAMES[1].to_owned());
            return Err(InputError::Twice { owner, path }.into());
        };
        let bytes = model_signature(model, &place, key);
        let cached = cache.take(&mut bytes.as_slice(), bytes.len() as u64)?;
        model.files.push(PlacedFile {
            path: place.clone(),
            executable: false,
            size: ByteSize(cached.size),
            digest: cached.digest,
            made_from: None,
        });
        model.files.sort_by(|a, b| a.path.cmp(&b.path));
        model.signature = Some(place);
        let origin = Origin {
            kind: OriginKind::Built,
            url: None,
            project: Some("OpenSSF model signature".to_owned()),
            version: None,
            revision: Some(key.key_id().to_string()),
            archive: None,
            license: None,
            license_stated: None,
        };
        let origins: &mut BTreeMap<_, _> = &mut parts.provenance.blobs;
        if origins.insert(cached.digest, origin).is_none() {
            parts
                .blobs
                .push((cached.digest, cache.path(&cached.digest)));
        }
    }
    Ok(())
}
