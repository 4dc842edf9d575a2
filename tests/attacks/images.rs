//! Images that a bundle lies about, under good signatures.

use e2e::{Forge, Site, add_image};
use manifest_schema::{Arch, Digest};
use serde_json::{Value, json};

use super::{forgery_is_refused, is_refused};

fn forge() -> (Site, Forge) {
    let mut site = Site::new();
    add_image(site.fake(), "a.b/c", &[Arch::Aarch64, Arch::X86_64], &[]);
    site.carry("images");
    let forge = Forge::of(&site.bundle("images"));
    (site, forge)
}

fn refused(name: &str, code: &str, change: impl FnOnce(&mut Value)) {
    let (site, mut forge) = forge();
    let mut value = forge.json(name);
    change(&mut value);
    forge.set_json(name, &value);
    forgery_is_refused(&site, &forge.signed(), code);
}

#[test]
fn a_name_that_stands_for_another_image() {
    refused("index.json", "bundle.member-differs", |index| {
        index["manifests"][0]["digest"] = json!(Digest::of(b"other"));
    });
}

#[test]
fn a_name_in_the_index_alone() {
    refused("index.json", "bundle.member-differs", |index| {
        let twice = index["manifests"][0].clone();
        index["manifests"].as_array_mut().unwrap().push(twice);
    });
}

#[test]
fn a_layer_that_is_not_there() {
    refused("meta/profiles.json", "bundle.blob-missing", |profiles| {
        profiles["images"][0]["platforms"][0]["layers"][0]["digest"] =
            json!(Digest::of(b"nowhere"));
    });
}

#[test]
fn a_layer_of_another_size() {
    refused("meta/profiles.json", "bundle.blob-missing", |profiles| {
        profiles["images"][0]["platforms"][0]["layers"][0]["size"] = json!(1);
    });
}

#[test]
fn a_name_that_climbs() {
    refused(
        "meta/profiles.json",
        "bundle.member-malformed",
        |profiles| {
            profiles["images"][0]["name"] = json!("a.b/../../evil");
        },
    );
}

#[test]
fn images_without_their_layout() {
    let (site, mut forge) = forge();
    forge.members.retain(|member| member.name != b"oci-layout");
    forgery_is_refused(&site, &forge.signed(), "bundle.member-missing");
}

#[test]
fn a_layout_without_images() {
    let (site, mut forge) = forge();
    let mut profiles = forge.json("meta/profiles.json");
    profiles.as_object_mut().unwrap().remove("images");
    forge.set_json("meta/profiles.json", &profiles);
    let forge = forge.signed();
    forge.write(&site.bundle("forged"));
    let _ = is_refused(&site, "forged", &forge.fingerprint(), 4, "bundle.");
}
