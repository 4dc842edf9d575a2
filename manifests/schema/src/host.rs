//! What a backend wants on the machine itself: drivers, firmware, toolkits, and terms that a person must accept.
//!
//! The same shape stands in a plan (`F` says where a file comes from), in a lock (which bytes) and in the profiles
//! (which blob). Unknown fields are refused everywhere: what may run as root must be understood in full.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chip::{Family, HostLayer};
use crate::plan::ManifestError;
use crate::{BundlePath, EulaName, HostKind, PlacedFile, PlainWord, Profiles};

/// One installer of a vendor.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, bound(deserialize = "F: Deserialize<'de>"))]
pub struct HostItem<F> {
    /// What it installs: `driver`, `firmware`, `toolkit` and so on, as the chip tables name it.
    pub kind: HostKind,
    /// Its version, as the vendor's version file will say it.
    pub version: PlainWord,
    /// The installer, or an archive that holds it: the file that the vendor signed.
    pub file: F,
    /// The installer's name in a zip archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<BundlePath>,
    /// The vendor's own signature over `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<HostSignature<F>>,
    /// Terms that a person must accept before it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eula: Option<Eula<F>>,
}

/// A vendor's detached signature, and what it is checked with.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, bound(deserialize = "F: Deserialize<'de>"))]
pub struct HostSignature<F> {
    /// The signature, CMS in DER: `….cms`.
    pub cms: F,
    /// The vendor's list of revoked certificates: `….crl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<F>,
    /// The vendor's root certificate. It is pinned by its digest: whoever makes the plan compared it.
    pub root: F,
}

/// Terms that a person must accept.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Eula<F> {
    /// What `--accept-eula` calls them.
    pub name: EulaName,
    /// Their text, UTF-8.
    pub text: F,
}

/// A port that something of a backend listens on.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Who listens, for people.
    pub service: String,
}

impl<F> HostItem<F> {
    /// Name of the program that is run: the file's, or its member's in that archive. `path_of` says what the file is
    /// called.
    pub fn program<'i>(&'i self, path_of: impl FnOnce(&'i F) -> &'i BundlePath) -> &'i str {
        let path = self.member.as_ref().unwrap_or_else(|| path_of(&self.file));
        let path = path.as_str();
        path.rsplit('/').next().unwrap_or(path)
    }

    /// Its files, each with the name of its field.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &F)> {
        let signature = self.signature.as_ref();
        let crl = signature.and_then(|signature| signature.crl.as_ref());
        std::iter::once(("file", &self.file))
            .chain(signature.map(|signature| ("signature.cms", &signature.cms)))
            .chain(crl.map(|crl| ("signature.crl", crl)))
            .chain(signature.map(|signature| ("signature.root", &signature.root)))
            .chain(self.eula.as_ref().map(|eula| ("eula.text", &eula.text)))
    }

    /// The same item with each file turned into something else.
    ///
    /// # Errors
    /// The first of `turn`.
    pub fn try_map<G, E>(
        &self,
        mut turn: impl FnMut(&F) -> Result<G, E>,
    ) -> Result<HostItem<G>, E> {
        let signature = match &self.signature {
            None => None,
            Some(signature) => Some(HostSignature {
                cms: turn(&signature.cms)?,
                crl: signature.crl.as_ref().map(&mut turn).transpose()?,
                root: turn(&signature.root)?,
            }),
        };
        let eula = self.eula.as_ref().map(|eula| eula.try_map(&mut turn));
        Ok(HostItem {
            kind: self.kind.clone(),
            version: self.version.clone(),
            file: turn(&self.file)?,
            member: self.member.clone(),
            signature,
            eula: eula.transpose()?,
        })
    }
}

impl<F> Eula<F> {
    /// The same terms with their text turned into something else.
    ///
    /// # Errors
    /// That of `turn`.
    pub fn try_map<G, E>(&self, turn: impl FnOnce(&F) -> Result<G, E>) -> Result<Eula<G>, E> {
        Ok(Eula {
            name: self.name.clone(),
            text: turn(&self.text)?,
        })
    }
}

/// Checks the installers that a backend for `chip` brings. `path_of` says what a file will be called.
///
/// # Errors
/// When it is not known how the chip's vendor installs such a kind or such a file, a kind stands twice, or a name could
/// be taken for something else than a file's.
pub fn check_host_items<F>(
    items: &[HostItem<F>],
    chip: &str,
    at: &str,
    path_of: impl Fn(&F) -> &BundlePath,
) -> Result<(), ManifestError> {
    let layer = host_layer(chip);
    let mut kinds = std::collections::BTreeSet::new();
    for (position, item) in items.iter().enumerate() {
        let at = format!("{at}[{position}]");
        let Some(layer) = layer.filter(|layer| layer.recipes(&item.kind).next().is_some()) else {
            let found = format!("`{}`", item.kind);
            let expected = known_kinds(layer, chip);
            return Err(ManifestError::value(format!("{at}.kind"), found, expected));
        };
        if !kinds.insert(&item.kind) {
            let found = format!("`{}` a second time", item.kind);
            return Err(ManifestError::value(
                format!("{at}.kind"),
                found,
                "each kind once",
            ));
        }
        let names = item
            .files()
            .map(|(field, file)| (field, path_of(file).as_str()))
            .filter(|(field, _)| *field != "eula.text");
        let member = item.member.as_ref().map(|member| {
            let name = member.as_str().rsplit('/').next();
            ("member", name.unwrap_or_default())
        });
        let program = item.program(&path_of);
        if layer.recipe(&item.kind, program).is_none() {
            let field = member.map_or("file", |(field, _)| field);
            let known = layer.recipes(&item.kind).flat_map(|row| &row.files);
            let as_pattern = |name: &String| {
                let any = if name.contains('*') { "" } else { "*" };
                format!("{any}{name}")
            };
            let known: Vec<String> = known.map(as_pattern).collect();
            let expected = format!("a name like {}", known.join(", "));
            let at = format!("{at}.{field}");
            return Err(ManifestError::value(at, format!("`{program}`"), expected));
        }
        for (field, name) in names.chain(member) {
            if PlainWord::parse(name).is_err() {
                let expected = "a plain file name: letters, digits and `._+-`, not first a `-`";
                return Err(ManifestError::value(
                    format!("{at}.{field}"),
                    format!("`{name}`"),
                    expected,
                ));
            }
        }
    }
    Ok(())
}

/// What could stand in the place of a kind that is not known.
fn known_kinds(layer: Option<&HostLayer>, chip: &str) -> String {
    let known: Vec<&str> = layer
        .iter()
        .flat_map(|layer| &layer.first)
        .map(HostKind::as_str)
        .collect();
    if known.is_empty() {
        format!(
            "no `host` part: no source was found that says how `{chip}`'s vendor's installers are run"
        )
    } else {
        format!("one of {}, whose installers are known", known.join(", "))
    }
}

/// How the vendor of a chip installs on the machine itself.
pub fn host_layer(chip: &str) -> Option<&'static HostLayer> {
    Family::of_chip(chip)?.host.as_ref()
}

impl Profiles {
    /// All terms of the models, the datasets and the backend `backend`, by name.
    ///
    /// # Errors
    /// With the name that two different texts have: who accepts one would accept the other unread.
    pub fn eulas(
        &self,
        backend: Option<&crate::BackendName>,
    ) -> Result<BTreeMap<&EulaName, &PlacedFile>, EulaName> {
        let mut found: BTreeMap<&EulaName, &PlacedFile> = BTreeMap::new();
        let of_components = self.components.iter().flat_map(|one| &one.eulas);
        let chosen = self
            .backends
            .iter()
            .filter(|one| Some(&one.name) == backend);
        let of_backend = chosen.flat_map(|one| {
            let of_host = one.host.iter().filter_map(|item| item.eula.as_ref());
            one.eulas.iter().chain(of_host)
        });
        for eula in of_components.chain(of_backend) {
            let known = found.entry(&eula.name).or_insert(&eula.text);
            if known.digest != eula.text.digest {
                return Err(eula.name.clone());
            }
        }
        Ok(found)
    }
}

/// The longest text of terms: what a person could still read.
pub const LONGEST_EULA: u64 = 1024 * 1024;
