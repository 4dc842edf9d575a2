//! One case an attack, named for it. Each is refused, and everything on the machine is as it was.
//!
//! ```text
//! archive.rs     headers and bytes: what anybody can do to a stick
//! images.rs      images that a bundle lies about
//! insider.rs     good signatures over metadata that lies: what a stolen key can do
//! trust.rs       keys, roots, signatures, old releases
//! machine.rs     what was planted on the machine, before or after
//! ```

mod archive;
mod images;
mod insider;
mod machine;
mod trust;

use e2e::{Forge, Said, Site};

/// Installs bundle `name` under the root with `fingerprint`, which is refused with `status` and `code`, and changes
/// nothing anywhere in the site.
fn is_refused(site: &Site, name: &str, fingerprint: &str, status: i32, code: &str) -> Said {
    let bundle = site.bundle(name).display().to_string();
    let before = site.listing();
    let words = ["install", &bundle, "--yes", "--trust-root", fingerprint];
    let said = site.installer(&words).ended_with(status);
    assert!(said.words.contains(code), "{code}: {said:#?}");
    assert_eq!(site.listing(), before, "something was written");
    assert!(
        !said.words.contains('\u{1b}') && !said.data.contains('\u{1b}'),
        "{said:?}"
    );
    said
}

/// Writes a forgery and sees it refused, by `install` and by `verify`.
fn forgery_is_refused(site: &Site, forge: &Forge, code: &str) {
    forge.write(&site.bundle("forged"));
    let fingerprint = forge.fingerprint();
    let _ = is_refused(site, "forged", &fingerprint, 4, code);
}

/// A forgery of the site's first bundle.
fn forge() -> (Site, Forge) {
    let site = Site::new();
    let forge = Forge::of(&site.bundle("1"));
    (site, forge)
}
