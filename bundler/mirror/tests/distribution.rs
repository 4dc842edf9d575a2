//! Repositories of operating systems over HTTP: signatures, digests, mirrors, and everything that can be wrong.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

mod openpgp;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bundle_mirror::{Catalogue, Distribution, DistributionError, Verifier, Web};
use manifest_schema::plan::Repository;
use manifest_schema::{Arch, Digest};
use openpgp::{Key, gpgv_is_here};
use report::{Diagnose as _, Outcome};
use server::{Answer, QUICK, Server};

type Files = BTreeMap<String, Vec<u8>>;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

const PRIMARY: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="3">
<package type="rpm"><name>gcc</name><arch>aarch64</arch><version epoch="1" ver="7.3.0" rel="20.ky10"/>
<checksum type="sha256" pkgid="YES">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>
<size package="10" installed="20" archive="30"/><location href="Packages/gcc.rpm"/>
<format><rpm:license>GPLv3+ &amp; more</rpm:license><rpm:requires>
<rpm:entry name="cpp" flags="EQ" epoch="1" ver="7.3.0" rel="20.ky10"/>
<rpm:entry name="rpmlib(CompressedFileNames)" flags="LE" epoch="0" ver="3.0.4" rel="1"/>
<rpm:entry name="(a if b)"/></rpm:requires><file>/usr/bin/gcc</file></format></package>
<package type="rpm"><name>gcc</name><arch>x86_64</arch><version epoch="1" ver="7.3.0" rel="20.ky10"/>
<checksum type="sha256" pkgid="YES">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>
<size package="10"/><location href="Packages/gcc.x86.rpm"/><format/></package>
<package type="rpm"><name>src</name><arch>src</arch><version epoch="0" ver="1" rel="1"/>
<checksum type="sha256">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>
<size package="10"/><location href="Packages/src.rpm"/><format/></package>
</metadata>"#;

const FILELISTS: &str = "<filelists><package name='tool' arch='noarch'><version epoch='0' ver='1' rel='1'/>\
    <file>/opt/tool</file><file type='dir'>/opt</file></package></filelists>";

/// A yum repository with these lists.
fn yum(primary: &[u8], packed: &[u8]) -> Files {
    let filelists = gzip(FILELISTS.as_bytes());
    let data = |kind: &str, packed: &[u8], open: usize| {
        format!(
            "<data type='{kind}'><checksum type='sha256'>{}</checksum><location href='repodata/{kind}.xml.gz'/>\
             <size>{}</size><open-size>{open}</open-size></data>",
            Digest::of(packed).hex(),
            packed.len()
        )
    };
    let repomd = format!(
        "<repomd>{}{}</repomd>",
        data("primary", packed, primary.len()),
        data("filelists", &filelists, FILELISTS.len())
    );
    let key = Key::new(1);
    Files::from([
        (
            "/os/repodata/repomd.xml.asc".to_owned(),
            key.detached(repomd.as_bytes()),
        ),
        ("/os/repodata/repomd.xml".to_owned(), repomd.into_bytes()),
        ("/os/repodata/primary.xml.gz".to_owned(), packed.to_vec()),
        ("/os/repodata/filelists.xml.gz".to_owned(), filelists),
    ])
}

fn good_yum() -> Files {
    yum(PRIMARY.as_bytes(), &gzip(PRIMARY.as_bytes()))
}

const PACKAGES: &str = "Package: gcc\nVersion: 4:12.2\nArchitecture: arm64\nDepends: cpp (= 4:12.2), libc6 (>= 2) | libc6.1\n\
    Provides: c-compiler\nFilename: pool/main/g/gcc.deb\nSize: 10\n\
    SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nDescription: a\n compiler\n\n\
    Package: tzdata\nVersion: 2024\nArchitecture: all\nFilename: pool/main/t/tz.deb\nSize: 1\n\
    SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";

fn release(packed: &[u8], until: &str) -> String {
    format!(
        "Origin: Test\nSuite: stable\nValid-Until: {until}\nSHA256:\n {} {} main/binary-arm64/Packages.gz\n",
        Digest::of(packed).hex(),
        packed.len()
    )
}

const LATER: &str = "Sat, 01 Jan 2028 00:00:00 UTC";

fn good_apt() -> Files {
    let packed = gzip(PACKAGES.as_bytes());
    let release = release(&packed, LATER);
    Files::from([
        (
            "/debian/dists/stable/InRelease".to_owned(),
            Key::new(1).inline(&release),
        ),
        (
            "/debian/dists/stable/Release.gpg".to_owned(),
            Key::new(1).detached(release.as_bytes()),
        ),
        (
            "/debian/dists/stable/Release".to_owned(),
            release.into_bytes(),
        ),
        (
            "/debian/dists/stable/main/binary-arm64/Packages.gz".to_owned(),
            packed,
        ),
    ])
}

fn serve(files: Files) -> Server {
    Server::new(move |_, asked| match files.get(&asked.path) {
        Some(body) => Answer::new(200, body),
        None => Answer::new(404, b"none"),
    })
}

fn read(plan: serde_json::Value, keys: &[Key]) -> Result<Catalogue, DistributionError> {
    let repository: Repository = serde_json::from_value(plan).unwrap();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| ("key.asc".to_owned(), key.public()))
        .collect();
    let web = Web::new(QUICK).unwrap();
    let distribution = Distribution {
        web: &web,
        verifier: Verifier::new(Path::new("gpgv"), &keys)?,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000),
    };
    distribution.read(&repository, Arch::Aarch64, 0)
}

fn read_yum(
    servers: &[&Server],
    keys: &[Key],
    unsigned: bool,
) -> Result<Catalogue, DistributionError> {
    let mirrors: Vec<String> = servers[1..]
        .iter()
        .map(|one| format!("{}/os/", one.url))
        .collect();
    let plan = serde_json::json!({ "rpm": { "base_url": format!("{}/os", servers[0].url),
        "mirrors": mirrors, "unsafe_accept_unsigned_metadata": unsigned } });
    read(plan, keys)
}

fn read_apt(
    files: Files,
    keys: &[Key],
    unsigned: bool,
    expired: bool,
) -> Result<Catalogue, DistributionError> {
    let server = serve(files);
    let plan = serde_json::json!({ "deb": { "uri": format!("{}/debian", server.url), "suite": "stable",
        "components": ["main"], "unsafe_accept_unsigned_metadata": unsigned, "accept_expired": expired } });
    read(plan, keys)
}

#[test]
fn a_signed_yum_repository_is_read_for_one_architecture() {
    if !gpgv_is_here() {
        return;
    }
    let server = serve(good_yum());
    let catalogue = read_yum(&[&server], &[Key::new(2), Key::new(1)], false).unwrap();
    let [gcc] = catalogue.packages.as_slice() else {
        panic!("{:?}", catalogue.packages);
    };
    assert_eq!(
        (gcc.name.as_str(), gcc.version.as_str()),
        ("gcc", "1:7.3.0-20.ky10")
    );
    assert_eq!(gcc.license.as_deref(), Some("GPLv3+ & more"));
    assert_eq!(gcc.requires.len(), 2);
    assert_eq!(gcc.files, ["/usr/bin/gcc"]);
    let offer = gcc.offer.as_ref().unwrap();
    assert_eq!(
        catalogue.urls(offer),
        [format!("{}/os/Packages/gcc.rpm", server.url)]
    );
    assert_eq!(catalogue.signed_by.as_ref().map(String::len), Some(40));
    // The long list is fetched when it is needed, and not before.
    assert!(
        !server
            .asked()
            .iter()
            .any(|asked| asked.path.contains("filelists"))
    );
    let web = Web::new(QUICK).unwrap();
    let verifier = Verifier::new(Path::new("gpgv"), &[]).unwrap();
    let now = SystemTime::now();
    let distribution = Distribution {
        web: &web,
        verifier,
        now,
    };
    let paths = BTreeSet::from(["/opt/tool".to_owned(), "/opt/none".to_owned()]);
    let owners = distribution.owners(&catalogue, &paths).unwrap();
    assert_eq!(
        owners,
        BTreeMap::from([("/opt/tool".to_owned(), BTreeSet::from(["tool".to_owned()]))])
    );
}

#[test]
fn a_signed_apt_repository_is_read_inline_or_with_the_signature_beside_it() {
    if !gpgv_is_here() {
        return;
    }
    let mut files = good_apt();
    let inline = read_apt(files.clone(), &[Key::new(1)], false, false).unwrap();
    assert_eq!(inline.packages.len(), 2);
    assert_eq!(inline.packages[0].requires.len(), 2);
    files.remove("/debian/dists/stable/InRelease");
    let beside = read_apt(files, &[Key::new(1)], false, false).unwrap();
    assert_eq!(beside.signed_by, inline.signed_by);
    assert_eq!(beside.packages.len(), 2);
}

#[test]
fn what_nobody_or_somebody_else_signed_is_refused() {
    if !gpgv_is_here() {
        return;
    }
    let refused = |files: Files, key: u8| {
        let error = read_yum(&[&serve(files)], &[Key::new(key)], false)
            .err()
            .unwrap();
        assert_eq!(error.outcome(), Outcome::Untrusted);
        (error.code(), error.to_string())
    };
    let without = |name: &str| {
        let mut files = good_yum();
        files.remove(name);
        files
    };
    let with = |name: &str, bytes: Vec<u8>| {
        let mut files = good_yum();
        files.insert(name.to_owned(), bytes);
        files
    };
    const SIGNATURE: &str = "/os/repodata/repomd.xml.asc";
    assert_eq!(refused(without(SIGNATURE), 1).0, "packages.unsigned");
    let (code, text) = refused(good_yum(), 2);
    assert!(
        code == "packages.signature" && text.contains("not among those of the plan"),
        "{text}"
    );
    let (code, text) = refused(with(SIGNATURE, Key::new(1).detached(b"other bytes")), 1);
    assert!(
        code == "packages.signature" && text.contains("the bytes are not what"),
        "{text}"
    );
    let repomd = good_yum()["/os/repodata/repomd.xml"].clone();
    let (code, _) = refused(with(SIGNATURE, Key::new(1).weak(&repomd)), 1);
    assert_eq!(code, "packages.signature");
    assert_eq!(
        refused(with(SIGNATURE, b"no signature".to_vec()), 1).0,
        "packages.signature"
    );
    // Text around what was signed does not count.
    let mut files = good_apt();
    let name = "/debian/dists/stable/InRelease";
    let forged = [b"SHA256:\n\n", files[name].as_slice()].concat();
    files.insert(name.to_owned(), forged);
    assert_eq!(
        read_apt(files, &[Key::new(1)], false, false)
            .unwrap()
            .packages
            .len(),
        2
    );
}

#[test]
fn what_nobody_signs_is_taken_only_where_the_plan_says_so() {
    let mut files = good_yum();
    files.remove("/os/repodata/repomd.xml.asc");
    let catalogue = read_yum(&[&serve(files.clone())], &[], true).unwrap();
    assert_eq!((catalogue.signed_by, catalogue.packages.len()), (None, 1));
    let error = read_yum(&[&serve(files)], &[], false).err().unwrap();
    assert_eq!(error.code(), "packages.unsigned");
    assert_eq!(
        read_apt(good_apt(), &[], true, false).unwrap().signed_by,
        None
    );
    // A signature that is there must hold all the same.
    if gpgv_is_here() {
        let error = read_yum(&[&serve(good_yum())], &[Key::new(2)], true)
            .err()
            .unwrap();
        assert_eq!(error.code(), "packages.signature");
    }
}

#[test]
fn old_metadata_is_refused_unless_the_plan_takes_it() {
    let packed = gzip(PACKAGES.as_bytes());
    let old = |until: &str| {
        let mut files = good_apt();
        files.insert(
            "/debian/dists/stable/Release".to_owned(),
            release(&packed, until).into_bytes(),
        );
        files
    };
    let past = "Tue, 02 Jan 2024 00:00:00 UTC";
    let error = read_apt(old(past), &[], true, false).err().unwrap();
    assert_eq!(error.code(), "packages.expired");
    assert!(error.to_string().contains(past), "{error}");
    assert_eq!(
        read_apt(old("soon"), &[], true, false)
            .err()
            .unwrap()
            .code(),
        "packages.expired"
    );
    read_apt(old(past), &[], true, true).unwrap();
}

#[test]
fn lists_that_are_cut_changed_or_bombs_are_refused() {
    let refused = |files: Files| {
        let error = read_yum(&[&serve(files)], &[], true).err().unwrap();
        (error.code(), error.to_string())
    };
    let with = |bytes: Vec<u8>| {
        let mut files = good_yum();
        files.insert("/os/repodata/primary.xml.gz".to_owned(), bytes);
        files
    };
    let packed = gzip(PRIMARY.as_bytes());
    let (code, text) = refused(with(packed[..packed.len() - 9].to_vec()));
    assert!(
        code == "packages.metadata-differs" && text.contains("bytes"),
        "{text}"
    );
    let mut other = packed.clone();
    other[20] ^= 1;
    assert_eq!(refused(with(other)).0, "packages.metadata-differs");
    // More than the list says is not even read.
    assert_eq!(
        refused(with([packed.as_slice(), &[0; 4096]].concat())).0,
        "mirror.answer"
    );
    let mut gone = good_yum();
    gone.remove("/os/repodata/primary.xml.gz");
    assert_eq!(refused(gone).0, "mirror.status");
    // The list is right, what it names is not.
    let cut = &PRIMARY[..PRIMARY.len() / 2];
    let entities = PRIMARY.replace(
        "?>\n<metadata",
        "?>\n<!DOCTYPE x [<!ENTITY a 'b'>]>\n<metadata",
    );
    let sha1 = PRIMARY.replace("type=\"sha256\" pkgid", "type=\"sha\" pkgid");
    let outside = PRIMARY.replace("Packages/gcc.rpm", "../../etc/passwd");
    for (text, expected) in [
        (cut, ""),
        (entities.as_str(), "document type"),
        (sha1.as_str(), "pinned by `sha`"),
        (outside.as_str(), "lacks a version or a place"),
    ] {
        let (code, said) = refused(yum(text.as_bytes(), &gzip(text.as_bytes())));
        assert!(
            code == "packages.metadata" && said.contains(expected),
            "{expected}: {said}"
        );
    }
    // It unpacks to more than the signed list says.
    let bomb = gzip(&[PRIMARY.as_bytes(), &vec![b' '; 8 << 20]].concat());
    let (code, text) = refused(yum(PRIMARY.as_bytes(), &bomb));
    assert!(
        code == "packages.metadata" && text.contains("more than"),
        "{text}"
    );
    // Not packed at all.
    assert_eq!(refused(yum(b"x", b"plain text")).0, "packages.metadata");
}

#[test]
fn a_mirror_serves_what_the_first_place_lacks_and_cannot_serve_other_bytes() {
    let down = Server::new(|_, _| Answer::new(503, b"busy"));
    let good = serve(good_yum());
    assert_eq!(
        read_yum(&[&down, &good], &[], true).unwrap().packages.len(),
        1
    );
    let mut files = good_yum();
    files.insert(
        "/os/repodata/primary.xml.gz".to_owned(),
        gzip(b"<metadata/>"),
    );
    let bad = serve(files);
    let catalogue = read_yum(&[&bad, &good], &[], true).unwrap();
    assert_eq!(catalogue.packages.len(), 1);
    assert_eq!(
        catalogue
            .urls(catalogue.packages[0].offer.as_ref().unwrap())
            .len(),
        2
    );
    assert!(read_yum(&[&bad, &bad], &[], true).is_err());
}

#[test]
fn a_key_file_without_a_key_and_a_missing_gpgv_are_named() {
    let error = Verifier::new(Path::new("gpgv"), &[("a.asc".into(), b"no key".to_vec())])
        .err()
        .unwrap();
    assert_eq!(
        (error.code(), error.outcome()),
        ("packages.key", Outcome::Usage)
    );
    let keys = [("a.asc".to_owned(), Key::new(1).public())];
    let verifier = Verifier::new(Path::new("/nowhere/gpgv"), &keys).unwrap();
    let error = verifier.detached("url", b"data", b"signature").unwrap_err();
    assert_eq!(error.code(), "packages.no-gpgv");
    assert!(error.to_string().contains("/nowhere/gpgv"), "{error}");
}

#[test]
fn modules_of_a_repository_say_which_of_its_packages_there_are() {
    let modules = "---\ndocument: modulemd\nversion: 2\ndata:\n  name: gcc\n  stream: new\n  artifacts:\n    rpms:\n    \
        - gcc-1:7.3.0-20.ky10.aarch64\n...\n";
    let with_modules = |modules: &[u8], listed: &[u8]| {
        let mut files = good_yum();
        let repomd = String::from_utf8(files["/os/repodata/repomd.xml"].clone()).unwrap();
        let data = format!(
            "<data type='modules'><checksum type='sha256'>{}</checksum><location href='repodata/modules.yaml'/></data></repomd>",
            Digest::of(listed).hex()
        );
        let repomd = repomd.replace("</repomd>", &data);
        files.insert("/os/repodata/repomd.xml".into(), repomd.into_bytes());
        files.remove("/os/repodata/repomd.xml.asc");
        files.insert("/os/repodata/modules.yaml".into(), modules.to_vec());
        read_yum(&[&serve(files)], &[], true)
    };
    let read = with_modules(modules.as_bytes(), modules.as_bytes()).unwrap();
    let none = os_packages::Installed::default();
    for (chosen, count) in [(vec![], 0), (vec!["gcc:new".to_owned()], 1)] {
        let visible = read.modules.visible(read.packages.clone(), &none, &chosen);
        assert_eq!(visible.unwrap().packages.len(), count, "{chosen:?}");
    }
    let error = with_modules(b"other", modules.as_bytes()).err().unwrap();
    assert_eq!(error.code(), "packages.metadata-differs");
    let error = with_modules(b"data: {}", b"data: {}").err().unwrap();
    assert_eq!(error.code(), "packages.metadata");
}

#[test]
fn a_suite_that_is_being_renewed_is_read_by_digests_and_one_may_ask_to_be_left_alone() {
    let (old, new) = (gzip(PACKAGES.as_bytes()), gzip(b"Package: other\n"));
    for by_hash in [true, false] {
        let words = if by_hash {
            "Acquire-By-Hash: yes\n"
        } else {
            ""
        };
        let release = format!("NotAutomatic: yes\n{words}{}", release(&old, LATER));
        let folder = "/debian/dists/stable/main/binary-arm64";
        let files = Files::from([
            (
                "/debian/dists/stable/Release".to_owned(),
                release.into_bytes(),
            ),
            (format!("{folder}/Packages.gz"), new.clone()),
            (
                format!("{folder}/by-hash/SHA256/{}", Digest::of(&old).hex()),
                old.clone(),
            ),
        ]);
        match read_apt(files, &[], true, false) {
            Ok(read) => assert!(by_hash && read.packages.iter().all(|one| one.reluctant)),
            Err(error) => assert_eq!(
                (error.code(), by_hash),
                ("packages.metadata-differs", false)
            ),
        }
    }
    // Where there is no such folder, the file itself is read.
    let release = format!("Acquire-By-Hash: yes\n{}", release(&old, LATER));
    let files = Files::from([
        (
            "/debian/dists/stable/Release".to_owned(),
            release.into_bytes(),
        ),
        (
            "/debian/dists/stable/main/binary-arm64/Packages.gz".to_owned(),
            old.clone(),
        ),
    ]);
    assert_eq!(read_apt(files, &[], true, false).unwrap().packages.len(), 2);
}
