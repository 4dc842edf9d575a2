//! Repositories of an operating system: signed metadata to packages.
//!
//! A server is not believed. `repomd.xml` or `Release` must be signed by a key of the plan (or the plan says that
//! nobody signs it), it names the lists by size and digest, and the lists name the packages by size and SHA-256.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use manifest_schema::plan::{DebRepository, Repository, RpmRepository};
use manifest_schema::{Arch, Digest, PackageFormat};
use os_packages::{Offer, Package, PackageError, deb, rpm};
use report::{Args, Diagnose, Outcome};

use crate::openpgp::Verifier;
use crate::page::{parse, shown};
use crate::web::Ask;
use crate::{MirrorError, Web};

/// A repository cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistributionError {
    /// It could not be fetched.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// Its metadata is wrong.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Nobody signed its metadata.
    #[error("nobody signed {url}")]
    Unsigned {
        /// The list.
        url: String,
    },
    /// No key of the plan signed its metadata.
    #[error("the signature of {url} does not hold: {problem}")]
    Signature {
        /// The list.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Its metadata is older than it says that it may be.
    #[error("{url} was valid until {until}")]
    Expired {
        /// The list.
        url: String,
        /// What it says.
        until: String,
    },
    /// A file holds no key.
    #[error("`{file}` holds no OpenPGP public key")]
    Key {
        /// The file.
        file: String,
    },
    /// `gpgv` cannot be run.
    #[error("cannot check signatures with `{}`", program.display())]
    NoVerifier {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Diagnose for DistributionError {
    fn code(&self) -> &'static str {
        match self {
            Self::Mirror(error) => error.code(),
            Self::Package(error) => error.code(),
            Self::Unsigned { .. } => "packages.unsigned",
            Self::Signature { .. } => "packages.signature",
            Self::Expired { .. } => "packages.expired",
            Self::Key { .. } => "packages.key",
            Self::NoVerifier { .. } => "packages.no-gpgv",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Mirror(error) => error.args(),
            Self::Package(error) => error.args(),
            Self::Unsigned { url } => vec![("url", url.clone())],
            Self::Signature { url, problem } => {
                vec![("url", url.clone()), ("problem", problem.clone())]
            }
            Self::Expired { url, until } => vec![("url", url.clone()), ("until", until.clone())],
            Self::Key { file } => vec![("file", file.clone())],
            Self::NoVerifier { program, .. } => vec![("program", program.display().to_string())],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Mirror(error) => error.outcome(),
            Self::Package(error) => error.outcome(),
            Self::Unsigned { .. } | Self::Signature { .. } | Self::Expired { .. } => {
                Outcome::Untrusted
            }
            Self::Key { .. } | Self::NoVerifier { .. } => Outcome::Usage,
        }
    }
}

/// Reads repositories.
pub struct Distribution<'a> {
    /// The client.
    pub web: &'a Web,
    /// The keys of the plan.
    pub verifier: Verifier,
    /// Metadata that was valid until before this is refused.
    pub now: SystemTime,
}

/// A repository as it was when it was read.
pub struct Catalogue {
    /// Its address.
    pub url: String,
    /// SHA-256 of the list that a key signed.
    pub metadata: Digest,
    /// Fingerprint of that key.
    pub signed_by: Option<String>,
    /// Its packages.
    pub packages: Vec<Package>,
    /// The modules that some of them belong to.
    pub modules: rpm::Modules,
    places: Vec<String>,
    filelists: Option<rpm::Listed>,
}

impl Catalogue {
    /// Where a package of it may be had, in the order to try.
    pub fn urls(&self, offer: &Offer) -> Vec<String> {
        let location = offer.location.trim_start_matches("./");
        self.places
            .iter()
            .map(|place| format!("{place}{location}"))
            .collect()
    }
}

impl Distribution<'_> {
    /// Reads a repository; it becomes number `number` of those that packages name.
    ///
    /// # Errors
    /// When no place has it, its signature does not hold, or it is not in its format.
    pub fn read(
        &self,
        repository: &Repository,
        arch: Arch,
        number: usize,
    ) -> Result<Catalogue, DistributionError> {
        match repository {
            Repository::Rpm(one) => self.read_rpm(one, arch, number),
            Repository::Deb(one) => self.read_deb(one, arch, number),
        }
    }

    /// Who has each of `paths`, from the long list of an rpm repository.
    ///
    /// # Errors
    /// When no place has the list that was signed.
    pub fn owners(
        &self,
        catalogue: &Catalogue,
        paths: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, DistributionError> {
        let Some(listed) = &catalogue.filelists else {
            return Ok(BTreeMap::new());
        };
        let urls = below(&catalogue.places, std::slice::from_ref(&listed.location));
        self.first(&urls, bound(listed.size), |bytes| {
            rpm::owners(listed, bytes, paths)
        })
    }

    fn read_rpm(
        &self,
        one: &RpmRepository,
        arch: Arch,
        number: usize,
    ) -> Result<Catalogue, DistributionError> {
        let places = places(&one.base_url, &one.mirrors);
        let unsigned = one.unsafe_accept_unsigned_metadata;
        let list = signed(&places, |place| {
            let url = format!("{place}repodata/repomd.xml");
            let bytes = self.get(&url, LARGEST_LIST)?;
            let signature = self.optional(&format!("{url}.asc"))?;
            let signed_by = self.detached(&url, &bytes, signature, unsigned)?;
            Ok((bytes, signed_by))
        })?;
        let (bytes, signed_by) = list;
        let repomd = rpm::Repomd::parse(&bytes)?;
        let primary = &repomd.primary;
        let urls = below(&places, std::slice::from_ref(&primary.location));
        let packages = self.first(&urls, bound(primary.size), |bytes| {
            rpm::packages(primary, bytes, PackageFormat::Rpm.arch(arch), number)
        })?;
        let mut modules = rpm::Modules::default();
        if let Some(listed) = &repomd.modules {
            let urls = below(&places, std::slice::from_ref(&listed.location));
            modules = self.first(&urls, bound(listed.size), |bytes| {
                let mut modules = rpm::Modules::default();
                modules.add(listed, bytes).map(|()| modules)
            })?;
        }
        Ok(Catalogue {
            url: places[0].clone(),
            metadata: Digest::of(&bytes),
            signed_by,
            packages,
            modules,
            filelists: repomd.filelists,
            places,
        })
    }

    fn read_deb(
        &self,
        one: &DebRepository,
        arch: Arch,
        number: usize,
    ) -> Result<Catalogue, DistributionError> {
        let roots = places(&one.uri, &one.mirrors);
        let suite = match one.suite.strip_suffix('/') {
            Some("." | "") => String::new(),
            Some(folder) => format!("{folder}/"),
            None => format!("dists/{}/", one.suite),
        };
        let lists: Vec<String> = roots.iter().map(|root| format!("{root}{suite}")).collect();
        let (metadata, text, signed_by) = signed(&lists, |place| self.release(place, one))?;
        let release = deb::Release::parse(&text)?;
        self.in_time(&release, &lists[0], one.accept_expired)?;
        let folders: Vec<String> = match one.components.as_slice() {
            [] => vec![String::new()],
            some => {
                let folder = |component: &String| {
                    format!("{component}/binary-{}", PackageFormat::Deb.arch(arch))
                };
                some.iter().map(folder).collect()
            }
        };
        let mut packages = Vec::new();
        for folder in folders {
            let listed = release.packages(&folder)?;
            let urls = below(&lists, &release.places(&listed));
            packages.extend(self.first(&urls, bound(Some(listed.size)), |bytes| {
                deb::packages(&listed, bytes, number)
            })?);
        }
        for package in &mut packages {
            package.reluctant = release.reluctant;
        }
        let arch = PackageFormat::Deb.arch(arch);
        packages.retain(|package| [arch, "all"].contains(&package.arch.as_str()));
        Ok(Catalogue {
            url: lists[0].clone(),
            metadata,
            signed_by,
            packages,
            modules: rpm::Modules::default(),
            filelists: None,
            places: roots,
        })
    }

    /// `InRelease`, else `Release` with the signature beside it: digest, text, signer.
    fn release(
        &self,
        place: &str,
        one: &DebRepository,
    ) -> Result<(Digest, Vec<u8>, Option<String>), DistributionError> {
        let url = format!("{place}InRelease");
        if self.verifier.has_keys()
            && let Some(signed) = self.optional(&url)?
        {
            let (text, signer) = self.verifier.inline(&url, &signed)?;
            return Ok((Digest::of(&signed), text, Some(signer)));
        }
        let url = format!("{place}Release");
        let bytes = self.get(&url, LARGEST_LIST)?;
        let signature = self.optional(&format!("{url}.gpg"))?;
        let signer = self.detached(&url, &bytes, signature, one.unsafe_accept_unsigned_metadata)?;
        Ok((Digest::of(&bytes), bytes, signer))
    }

    /// A signature that is there must hold, whether or not the plan would do without.
    fn detached(
        &self,
        url: &str,
        bytes: &[u8],
        signature: Option<Vec<u8>>,
        accept_unsigned: bool,
    ) -> Result<Option<String>, DistributionError> {
        match signature {
            Some(signature) if self.verifier.has_keys() => {
                self.verifier.detached(url, bytes, &signature).map(Some)
            }
            _ if accept_unsigned => Ok(None),
            _ => Err(DistributionError::Unsigned {
                url: url.to_owned(),
            }),
        }
    }

    fn in_time(
        &self,
        release: &deb::Release,
        place: &str,
        accept_expired: bool,
    ) -> Result<(), DistributionError> {
        let Some(until) = release.valid_until.as_ref().filter(|_| !accept_expired) else {
            return Ok(());
        };
        let read = httpdate::parse_http_date(&until.replace("UTC", "GMT"));
        if read.is_ok_and(|until| until >= self.now) {
            return Ok(());
        }
        Err(DistributionError::Expired {
            url: place.to_owned(),
            until: until.clone(),
        })
    }

    /// What the first address gives that has the listed file.
    fn first<T>(
        &self,
        urls: &[String],
        limit: u64,
        read: impl Fn(&[u8]) -> Result<T, PackageError>,
    ) -> Result<T, DistributionError> {
        let mut failed = None;
        for url in urls {
            let result = self
                .get(url, limit)
                .and_then(|bytes| read(&bytes).map_err(DistributionError::from));
            match result {
                Ok(found) => return Ok(found),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| DistributionError::Unsigned { url: String::new() }))
    }

    fn get(&self, url: &str, limit: u64) -> Result<Vec<u8>, DistributionError> {
        Ok(self.web.text(url, Ask::default(), limit)?.body)
    }

    /// A file that need not be there.
    fn optional(&self, url: &str) -> Result<Option<Vec<u8>>, DistributionError> {
        match self.web.text(url, Ask::default(), LARGEST_LIST) {
            Ok(page) => Ok(Some(page.body)),
            Err(MirrorError::Status {
                status: 403 | 404 | 410,
                ..
            }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Fetches a small file whose digest is pinned.
///
/// # Errors
/// When the server does not answer, or sends other bytes.
pub fn fetch_pinned(web: &Web, url: &str, digest: &Digest) -> Result<Vec<u8>, MirrorError> {
    let page = web.text(url, Ask::default(), LARGEST_LIST)?;
    let found = Digest::of(&page.body);
    if found == *digest {
        return Ok(page.body);
    }
    Err(MirrorError::DigestDiffers {
        url: shown(&parse(url)?),
        found: found.to_string(),
        expected: digest.to_string(),
        resumed: false,
    })
}

/// What the first place gives that has it signed. A place that is down is passed over; a signature that does not
/// hold is not: somebody should look at it.
fn signed<T>(
    places: &[String],
    read: impl Fn(&str) -> Result<T, DistributionError>,
) -> Result<T, DistributionError> {
    let mut first = None;
    for place in places {
        match read(place) {
            Err(DistributionError::Mirror(error)) => {
                first.get_or_insert(DistributionError::Mirror(error));
            }
            other => return other,
        }
    }
    Err(first.unwrap_or_else(|| DistributionError::Unsigned { url: String::new() }))
}

/// Each address with a `/` at its end.
fn places(first: &str, others: &[String]) -> Vec<String> {
    let all = std::iter::once(first).chain(others.iter().map(String::as_str));
    all.map(|url| format!("{}/", url.trim_end_matches('/')))
        .collect()
}

/// Every location at the first place, then at the next.
fn below(places: &[String], locations: &[String]) -> Vec<String> {
    let at = |place: &String| {
        let place = place.clone();
        locations
            .iter()
            .map(move |location| format!("{place}{location}"))
    };
    places.iter().flat_map(at).collect()
}

/// No more is read than the signed list says, nor than any list has.
fn bound(size: Option<u64>) -> u64 {
    size.unwrap_or(LARGEST_METADATA).min(LARGEST_METADATA)
}

/// `repomd.xml`, `InRelease`, a key.
const LARGEST_LIST: u64 = 16 << 20;
const LARGEST_METADATA: u64 = 1 << 30;
