//! An image pulled as `lock` and `build` would.

use bundle_mirror::{Cache, Download, Downloader, MirrorError, Registry, Taken, Wanted, Web};
use manifest_schema::plan::OciSource;
use manifest_schema::{ByteSize, Descriptor, Digest, ImageTag, Platform};
use report::Silent;
use serde_json::Value;

use crate::server::QUICK;

/// What to ask of which registries.
pub struct Pull<'a> {
    pub web: &'a Web,
    pub endpoints: Vec<&'a str>,
    pub digest: Option<Digest>,
    pub platforms: &'a [&'a str],
    pub referrers: bool,
}

impl<'a> Pull<'a> {
    pub fn of(web: &'a Web, endpoints: &[&'a str]) -> Self {
        Self {
            web,
            endpoints: endpoints.to_vec(),
            digest: None,
            platforms: &[],
            referrers: false,
        }
    }

    fn registry(&self) -> Registry<'a> {
        let mirrors = self.endpoints[1..].iter().map(|url| (*url).to_owned());
        let source = OciSource {
            endpoint: Some(self.endpoints[0].to_owned()),
            mirrors: mirrors.collect(),
            ..OciSource::default()
        };
        let name = "registry.example/demo/app".parse().unwrap();
        Registry::new(self.web, &name, &source, &Silent).unwrap()
    }

    pub fn take(&self) -> Result<Taken, MirrorError> {
        let platforms = self.platforms.iter();
        let platforms: Vec<Platform> = platforms.map(|one| one.parse().unwrap()).collect();
        let wanted = Wanted {
            platforms: &platforms,
            referrers: self.referrers,
        };
        let tag: ImageTag = "1".parse().unwrap();
        self.registry().take(Some(&tag), self.digest, wanted)
    }

    /// Fetches a blob into `cache` as a build would.
    pub fn fetch(&self, blob: &Descriptor, cache: &Cache) -> Result<(), MirrorError> {
        let registry = self.registry();
        let accept = Registry::accept(blob).map(|kind| ("Accept".to_owned(), kind.to_owned()));
        let download = Download {
            digest: blob.digest,
            size: blob.size.0,
            file_name: "app layer 1/1".to_owned(),
            urls: registry.urls(blob),
            git_sha1: None,
            headers: accept.into_iter().collect(),
            secret_headers: Vec::new(),
            registry: true,
        };
        let downloader = Downloader {
            web: self.web,
            cache,
            rewrites: &[],
            limit: None,
        };
        downloader.fetch(&download, &Silent)
    }
}

pub fn web() -> Web {
    Web::new(QUICK).unwrap()
}

pub fn digest(entry: &Value) -> Digest {
    entry["digest"].as_str().unwrap().parse().unwrap()
}

pub fn of(entry: &Value) -> Descriptor {
    Descriptor {
        media_type: entry["mediaType"].as_str().unwrap().to_owned(),
        digest: digest(entry),
        size: ByteSize(entry["size"].as_u64().unwrap()),
    }
}
