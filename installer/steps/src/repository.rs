//! A set of packages as a repository that a package manager reads.
//!
//! ```text
//! os/<set>/Packages/…, repodata/…, keys/…   for dnf and yum; ferry.repo says where
//! os/<set>/pool/…, Packages, Release        for apt; ferry.list says where
//! ```
//!
//! It is a part of the release. Where packages are needed before there is one, because a driver is built with them, it
//! is laid out in a folder of its own first, which the next install clears if it is left.

use std::path::{Path, PathBuf};

use bundle_format::Verified;
use manifest_schema::{OsPackages, PackageFormat, PackageSetName, PlacedFile};
use report::Sink;

use crate::disk::{Disk, DiskError};
use crate::fill::fill;
use crate::guard::Guard;
use crate::install::InstallError;
use crate::lay_out::lay_out;
use crate::plan::StoredBlob;
use crate::prefix::Prefix;
use crate::tree::{File, Tree};

/// Lays the repository of `set` out before there is a release. Its blobs go into the store, where the release finds
/// them. Returns its folder.
///
/// # Errors
/// When the bundle is damaged or the disk fails.
pub fn stage_packages(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    bundle: &Verified,
    set: &OsPackages,
    sink: &dyn Sink,
) -> Result<PathBuf, InstallError> {
    let folder = prefix.staged_packages(&set.name);
    disk.remove_tree(&folder)?;
    let (_, filled) = fill(disk, bundle, prefix, &blobs_of(set), sink);
    filled?;
    lay_out(disk, prefix, &tree_of(set, &folder), &folder, sink)?;
    Ok(folder)
}

/// Takes it away again.
///
/// # Errors
/// When the disk fails.
pub fn unstage_packages(
    disk: &dyn Disk,
    prefix: &Prefix,
    set: &PackageSetName,
) -> Result<(), DiskError> {
    disk.remove_tree(&prefix.staged_packages(set))
}

fn files_of(set: &OsPackages) -> impl Iterator<Item = &PlacedFile> {
    let packages = set.packages.iter().map(|package| &package.file);
    packages.chain(&set.metadata)
}

fn blobs_of(set: &OsPackages) -> Vec<StoredBlob> {
    let mut blobs: Vec<StoredBlob> = files_of(set)
        .map(|placed| StoredBlob {
            digest: placed.digest,
            size: placed.size.0,
            executable: false,
            made_from: placed.made_from.clone(),
        })
        .collect();
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    blobs
}

/// The files of a repository in `folder`, by their paths below it.
pub(crate) fn tree_of(set: &OsPackages, folder: &Path) -> Tree {
    let signed = |placed: &PlacedFile| {
        let file = File::Signed {
            placed: placed.clone(),
            owner: None,
        };
        (placed.path.to_string(), file)
    };
    let mut tree: Tree = files_of(set).map(signed).collect();
    let (name, text) = source_file(set, folder);
    let file = File::Derived {
        bytes: text.into_bytes(),
        executable: false,
    };
    tree.insert(name.to_owned(), file);
    tree
}

/// The folder of a set, below a release.
pub(crate) fn folder_of(set: &PackageSetName) -> String {
    format!("os/{set}")
}

/// The folder of a set in the current release below `prefix`.
pub(crate) fn current_folder(prefix: &Path, set: &PackageSetName) -> PathBuf {
    prefix.join("current").join(folder_of(set))
}

/// Says to the package manager that the repository lies in `folder`: the file's name and its text.
pub(crate) fn source_file(set: &OsPackages, folder: &Path) -> (&'static str, String) {
    let address = |below: &str| format!("file://{}", escaped(&folder.join(below)));
    match set.format {
        PackageFormat::Deb => {
            let place = address("");
            let place = place.trim_end_matches('/');
            // The bundle's own signature covers each of these files.
            (LIST, format!("deb [trusted=yes] {place} ./\n"))
        }
        PackageFormat::Rpm => {
            let place = address("");
            let place = place.trim_end_matches('/');
            let keys = set
                .metadata
                .iter()
                .filter(|file| file.path.as_str().starts_with("keys/"));
            let keys: Vec<String> = keys.map(|file| address(file.path.as_str())).collect();
            let keys = match keys.as_slice() {
                [] => String::new(),
                some => format!("gpgkey={}\n", some.join("\n       ")),
            };
            // Whether packages must be signed stays what the machine's own dnf.conf says. Which modules are on was
            // looked at when the packages were chosen; dnf would refuse those of a module it is not told about.
            let name = &set.name;
            (
                REPO,
                format!(
                    "[ferry]\nname=Ferry, packages for {name}\nbaseurl={place}\nenabled=1\nmodule_hotfixes=1\n{keys}"
                ),
            )
        }
    }
}

/// A path in an address.
fn escaped(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~+".contains(&byte);
    let one = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .copied()
        .map(one)
        .collect()
}

/// Name of the file that tells apt where the repository is.
pub(crate) const LIST: &str = "ferry.list";
const REPO: &str = "ferry.repo";

#[cfg(test)]
mod tests {
    use manifest_schema::{Arch, BundlePath, ByteSize, Digest};

    use super::*;

    #[test]
    fn an_address_has_no_letter_that_a_package_manager_reads_otherwise() {
        let set = OsPackages {
            name: "kylin".parse().unwrap(),
            os: "kylin-v10".into(),
            edition: None,
            arch: Arch::Aarch64,
            format: PackageFormat::Deb,
            kernel: None,
            wanted: vec![],
            packages: vec![],
            metadata: vec![],
        };
        let folder = current_folder(Path::new("/o'pt/fer ry/数"), &set.name);
        assert_eq!(
            source_file(&set, &folder),
            (
                "ferry.list",
                "deb [trusted=yes] file:///o%27pt/fer%20ry/%E6%95%B0/current/os/kylin ./\n"
                    .to_owned()
            )
        );
    }
    #[test]
    fn dnf_is_told_where_the_keys_are_and_that_modules_were_looked_at() {
        let key = PlacedFile {
            path: BundlePath::parse("keys/0.asc").unwrap(),
            executable: false,
            size: ByteSize(1),
            digest: Digest::of(b"key"),
            made_from: None,
        };
        let set = OsPackages {
            name: "kylin".parse().unwrap(),
            os: "kylin-v10".into(),
            edition: None,
            arch: Arch::Aarch64,
            format: PackageFormat::Rpm,
            kernel: None,
            wanted: vec![],
            packages: vec![],
            metadata: vec![key],
        };
        let (name, text) = source_file(&set, Path::new("/opt/os"));
        assert_eq!(name, "ferry.repo");
        assert_eq!(
            text,
            "[ferry]\nname=Ferry, packages for kylin\nbaseurl=file:///opt/os\nenabled=1\nmodule_hotfixes=1\n\
             gpgkey=file:///opt/os/keys/0.asc\n"
        );
    }
}
