//! `export`: parts of a bundle in the forms of other programs.

use std::path::PathBuf;

use bundle_format::Sealed;
use console::View;
use manifest_schema::{Image, Platform};
use report::{Outcome, Trouble};

use crate::commands::verify::Trust;
use crate::error::InputError;
use crate::exporting;

/// Write parts of a bundle in the forms that other programs read
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Oci(Oci),
}

/// Write container images as an OCI image layout, or for `docker load`
#[derive(clap::Args)]
struct Oci {
    /// The bundle, one of its volumes, or their folder
    bundle: PathBuf,
    /// Where to write: a folder, or a file that ends in `.tar`
    #[arg(long, short, value_name = "DIR|FILE.tar")]
    output: PathBuf,
    /// Take this image, by name or by name and tag (can be repeated) [default: all]
    #[arg(long, value_name = "NAME")]
    image: Vec<String>,
    /// Take this platform, such as linux/arm64 (can be repeated) [default: all]
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<Platform>,
    /// Write what `docker save` would, for engines that do not know OCI; one platform of each image
    #[arg(long)]
    docker: bool,
    #[command(flatten)]
    trust: Trust,
    /// Threads that hash
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        match self.what {
            What::Oci(oci) => oci.run(view),
        }
    }
}

impl Oci {
    fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let path = self.output.clone();
        let is_tar = path.extension().is_some_and(|ending| ending == "tar");
        if self.docker && !is_tar {
            return Err(InputError::Word {
                text: path.display().to_string(),
                expected: "a file that ends in `.tar`",
            }
            .into());
        }
        if path.exists() {
            return Err(InputError::Exists { path }.into());
        }
        let bundle = self.trust.verify(Sealed::open(&self.bundle)?)?;
        if bundle.profiles.images.is_empty() {
            let path = bundle.path().to_owned();
            return Err(InputError::NoImages { path }.into());
        }
        let images = self.chosen(&bundle.profiles.images)?;
        match (is_tar, self.docker) {
            (_, true) => exporting::docker(&bundle, &images, &path, view)?,
            (true, false) => exporting::archive(&bundle, &images, &path, view)?,
            (false, false) => exporting::folder(&bundle, &images, &path, self.threads, view)?,
        }
        let names: Vec<String> = images.iter().map(Image::reference).collect();
        let shown = path.display().to_string();
        let args = [("images", names.join(", ")), ("path", shown.clone())];
        view.note("bundler.images-exported", &args);
        let result = serde_json::json!({ "path": path, "images": names });
        view.result(&result, &shown);
        Ok(Outcome::Done)
    }

    /// The images and platforms that were asked for.
    fn chosen(&self, all: &[Image]) -> Result<Vec<Image>, InputError> {
        let named =
            |image: &Image, name: &str| name == image.name.as_str() || name == image.reference();
        let unknown = |wanted: &str| InputError::NoImage {
            wanted: wanted.to_owned(),
            known: all
                .iter()
                .map(Image::reference)
                .collect::<Vec<_>>()
                .join(", "),
        };
        let mut asked = self.image.iter();
        if let Some(name) = asked.find(|name| !all.iter().any(|image| named(image, name))) {
            return Err(unknown(name));
        }
        let mut chosen = Vec::new();
        for image in all {
            if !self.image.is_empty() && !self.image.iter().any(|name| named(image, name)) {
                continue;
            }
            let wanted = |platform: &Platform| {
                self.platform.is_empty() || self.platform.iter().any(|one| one.means(platform))
            };
            chosen.extend(image.with_platforms(|one| wanted(&one.platform)));
        }
        if chosen.is_empty() {
            let wanted: Vec<&str> = self.platform.iter().map(Platform::as_str).collect();
            return Err(unknown(&wanted.join(", ")));
        }
        Ok(chosen)
    }
}
