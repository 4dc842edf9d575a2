//! The places that container images come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// A place that a container image comes from.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ImageSource {
    /// The registry that the image's name begins with.
    Oci(OciSource),
    /// An OCI image layout on this machine: a folder, or a tar of one.
    OciLayout(LocalImage),
    /// What `docker save` wrote.
    DockerArchive(LocalImage),
}

/// An image of a registry.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OciSource {
    /// Digest that the image must have; without it, what the tag names when it is locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Address where the registry answers, when it is not `https://` and its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Other registries with the same bytes, tried in this order after the first: `https://host` or
    /// `https://host/prefix`, where the prefix stands before the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// The login of the first address. Without it, that of docker's or podman's own file is used, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// The environment variables that hold a login. Only their names are written.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Variable that holds the user name.
    pub user: String,
    /// Variable that holds the password or the token.
    pub password: String,
}

/// An image in a folder or a file of this machine.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LocalImage {
    /// Path of the folder or the tar, relative to the plan.
    pub path: String,
    /// What the image is called in there; not needed where it is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}
