//! Good signatures over metadata that lies: what a stolen key, or a builder with a fault, can do.

use e2e::{Forge, Site};
use manifest_schema::Digest;
use serde_json::{Value, json};

use super::{forge, forgery_is_refused};

const PROFILES: &str = "meta/profiles.json";
const INDEX: &str = "meta/index.json";

/// Changes a document of a bundle, and signs the result.
fn with(name: &str, change: impl FnOnce(&mut Value)) -> (Site, Forge) {
    let (site, mut forge) = forge();
    let mut value = forge.json(name);
    change(&mut value);
    forge.set_json(name, &value);
    (site, forge.signed())
}

fn refused(name: &str, code: &str, change: impl FnOnce(&mut Value)) {
    let (site, forge) = with(name, change);
    forgery_is_refused(&site, &forge, code);
}

/// The forging itself must not be what is refused.
#[test]
fn a_forgery_that_lies_about_nothing_is_installed() {
    let (site, forge) = forge();
    let forge = forge.with_keys(2, 2, &[]).signed();
    forge.write(&site.bundle("honest"));
    let bundle = site.bundle("honest").display().to_string();
    let words = [
        "install",
        &bundle,
        "--yes",
        "--trust-root",
        &forge.fingerprint(),
    ];
    let _ = site.installer(&words).ended_with(0);
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn file_placed_outside() {
    refused(PROFILES, "bundle.member-malformed", |profiles| {
        profiles["components"][0]["files"][0]["path"] = json!("../../../../etc/cron.d/evil");
    });
}

#[test]
fn file_placed_at_an_absolute_path() {
    refused(PROFILES, "bundle.member-malformed", |profiles| {
        profiles["components"][0]["files"][0]["path"] = json!("/etc/cron.d/evil");
    });
}

#[test]
fn component_named_to_climb() {
    refused(PROFILES, "bundle.member-malformed", |profiles| {
        profiles["components"][0]["name"] = json!("../evil");
    });
}

#[test]
fn backend_named_to_climb() {
    refused(PROFILES, "bundle.member-malformed", |profiles| {
        profiles["backends"][0]["name"] = json!("../../evil");
    });
}

#[test]
fn bundle_named_to_climb() {
    refused(PROFILES, "bundle.member-malformed", |profiles| {
        profiles["name"] = json!("../evil");
    });
}

#[test]
fn two_files_in_one_place() {
    refused(PROFILES, "install.path-clash", |profiles| {
        let first = profiles["backends"][0]["files"][0].clone();
        profiles["backends"][0]["files"]
            .as_array_mut()
            .unwrap()
            .push(first);
    });
}

#[test]
fn file_inside_a_file() {
    refused(PROFILES, "install.path-clash", |profiles| {
        let mut inside = profiles["backends"][0]["files"][0].clone();
        inside["path"] = json!("bin/ferry-runtime/inside");
        profiles["backends"][0]["files"]
            .as_array_mut()
            .unwrap()
            .push(inside);
    });
}

#[test]
fn file_of_a_blob_that_is_not_there() {
    refused(PROFILES, "bundle.blob-missing", |profiles| {
        profiles["components"][0]["files"][0]["digest"] = json!(Digest::of(b"nowhere"));
    });
}

#[test]
fn file_larger_than_its_blob() {
    refused(PROFILES, "bundle.blob-missing", |profiles| {
        profiles["components"][0]["files"][0]["size"] = json!(u64::MAX);
    });
}

#[test]
fn template_that_gives_something_else() {
    refused(PROFILES, "install.wrong-fill", |profiles| {
        let file = &mut profiles["components"][0]["files"][0];
        file["made_from"] = json!({ "blob": file["digest"], "fill": { "a": "b" } });
        file["digest"] = json!(Digest::of(b"something else"));
    });
}

#[test]
fn template_that_swells() {
    let mut site = Site::new();
    let template = "{{a}}".repeat(100_000).into_bytes();
    site.fake().profiles.components[0].files[0].digest = Digest::of(&template);
    site.fake().profiles.components[0].files[0].size =
        manifest_schema::ByteSize(template.len() as u64);
    site.fake().blobs[0].clone_from(&template);
    site.carry("swelling");
    let mut forge = Forge::of(&site.bundle("swelling"));
    let mut profiles = forge.json(PROFILES);
    let file = &mut profiles["components"][0]["files"][0];
    // 100,000 times 100 kB: ten gigabytes, if anybody were to fill it.
    file["made_from"] = json!({ "blob": file["digest"], "fill": { "a": "x".repeat(100_000) } });
    file["digest"] = json!(Digest::of(b"swollen"));
    forge.set_json(PROFILES, &profiles);
    forgery_is_refused(&site, &forge.signed(), "install.wrong-fill");
}

#[test]
fn document_nested_without_end() {
    let (site, mut forge) = forge();
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    forge.member(PROFILES).bytes = deep.into_bytes();
    forgery_is_refused(&site, &forge.signed(), "bundle.member-malformed");
}

#[test]
fn document_that_is_no_text() {
    let (site, mut forge) = forge();
    forge.member(PROFILES).bytes = b"{\"name\": \"\xff\xfe\"}".to_vec();
    forgery_is_refused(&site, &forge.signed(), "bundle.member-malformed");
}

#[test]
fn document_with_one_key_twice() {
    let (site, mut forge) = forge();
    let text = String::from_utf8(forge.member(PROFILES).bytes.clone()).unwrap();
    let twice = text.replacen('{', "{\"release\": 99999,", 1);
    forge.member(PROFILES).bytes = twice.into_bytes();
    forgery_is_refused(&site, &forge.signed(), "bundle.member-malformed");
}

#[test]
fn document_of_a_later_format() {
    refused(PROFILES, "bundle.member-malformed", |profiles| {
        profiles["format"] = json!(2);
    });
}

#[test]
fn index_points_elsewhere() {
    let (site, mut forge) = forge();
    let mut index = forge.json(INDEX);
    index["blobs"][0]["offset"] = json!(512);
    forge.set_json(INDEX, &index);
    forge.settles = false;
    forgery_is_refused(&site, &forge.signed(), "bundle.index-differs");
}

#[test]
fn index_points_behind_the_end() {
    let (site, mut forge) = forge();
    let mut index = forge.json(INDEX);
    index["blobs"][0]["offset"] = json!(u64::MAX - 5);
    forge.set_json(INDEX, &index);
    forge.settles = false;
    forgery_is_refused(&site, &forge.signed(), "bundle.index-differs");
}

#[test]
fn index_and_data_differ() {
    refused(INDEX, "bundle.", |index| {
        index["blobs"][0]["pieces"][0] = json!(Digest::of(b"other bytes"));
    });
}

#[test]
fn index_leaves_a_blob_out() {
    refused(INDEX, "bundle.", |index| {
        index["blobs"].as_array_mut().unwrap().remove(0);
    });
}

#[test]
fn index_lists_a_blob_twice() {
    refused(INDEX, "bundle.index-differs", |index| {
        let first = index["blobs"][0].clone();
        index["blobs"].as_array_mut().unwrap().insert(0, first);
    });
}

#[test]
fn index_lies_about_a_size() {
    refused(INDEX, "bundle.", |index| {
        index["blobs"][0]["size"] = json!(1);
    });
}

#[test]
fn index_with_pieces_of_nothing() {
    for size in [0, 1, 3, u64::MAX] {
        refused(INDEX, "bundle.", |index| index["piece_size"] = json!(size));
    }
}

#[test]
fn lock_that_is_another() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    forge.member("meta/plan.lock").bytes = b"{\"other\": 1}\n".to_vec();
    forgery_is_refused(&site, &forge, "bundle.");
}

#[test]
fn text_that_moves_the_cursor() {
    let (site, forge) = with("meta/provenance.json", |provenance| {
        for (_, origin) in provenance["blobs"].as_object_mut().unwrap() {
            origin["url"] = json!("https://example.org/\u{1b}[2J\u{1b}[1;1Hall is well");
        }
    });
    forge.write(&site.bundle("forged"));
    let bundle = site.bundle("forged").display().to_string();
    let words = [
        "install",
        &bundle,
        "--yes",
        "--trust-root",
        &forge.fingerprint(),
    ];
    let _ = site.installer(&words).ended_with(0);
    let said = site.installer(&["audit", "--verbose"]).ended_with(0);
    assert!(said.data.contains("all is well"), "{said:?}");
    assert!(
        !said.data.contains('\u{1b}') && !said.words.contains('\u{1b}'),
        "{said:?}"
    );
}
