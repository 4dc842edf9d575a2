//! Types of every manifest: parse and check, no files, no network.
//!
//! A value of one of these types cannot be wrong in itself: names follow their grammar, digests have 64
//! hexadecimal digits, paths stay below the folder they are joined to. serde goes through the same doors.

mod host;
mod ids;
mod image;
mod index;
mod packages;
mod profiles;
mod provenance;

pub mod chip;
pub mod license;
pub mod lock;
pub mod os;
pub mod plan;
pub mod policy;
pub mod site;
pub mod site_code;

pub use host::{Eula, HostItem, HostSignature, LONGEST_EULA, Port, check_host_items, host_layer};
pub use ids::{
    Arch, BackendName, BundleName, BundlePath, ByteSize, Digest, EulaName, GlibcVersion, HostKind,
    IdError, KeyId, PackageName, PackageSetName, PackageVersion, PlainWord, RepoName,
};
pub use image::{Attached, Descriptor, Image, ImageName, ImageTag, Platform, PlatformImage};
pub use index::{Blob, Codec, Frame, Index, PIECE_SIZE, Part, RequiredBlob, Requires, Stored};
pub use packages::{
    InstalledPackage, InstalledPackages, OsPackage, OsPackages, PackageFormat, Wanted,
};
pub use profiles::{
    Backend, Component, ComponentKind, MadeFrom, PlacedFile, Profiles, PythonEnvironment,
    VendorSignature,
};
pub use provenance::{
    ArchiveMember, CodeForm, CodeOnLoad, LicenseDecision, LicenseText, Origin, OriginKind,
    Provenance,
};
