//! A package with its vendor's own signature, checked on site before anything of the release is used.

use std::fs;
use std::path::Path;
use std::process::Command;

use bundle_format::fake::placed_file;
use e2e::Site;
use manifest_schema::{BundlePath, Digest, VendorSignature};

const PACKAGE: &[u8] = b"#!/bin/sh\necho the toolkit\n";

/// Package, signature and root, made in `folder` with openssl.
fn vendor(folder: &Path) -> [Vec<u8>; 4] {
    let openssl = |arguments: &str| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(arguments.split_whitespace())
            .current_dir(folder);
        let output = openssl.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {said}");
    };
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    fs::write(folder.join("package.run"), PACKAGE).unwrap();
    fs::write(
        folder.join("config"),
        "[req]\ndistinguished_name = name\n[name]\n[root]\nbasicConstraints = critical,CA:TRUE\n",
    )
    .unwrap();
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -subj /CN=Root -days 9000 -config config -extensions root -out root.pem",
    );
    openssl(
        "req -new -newkey rsa:2048 -nodes -keyout signer.key -subj /CN=Signer -config config -out signer.csr",
    );
    openssl(
        "x509 -req -in signer.csr -CA root.pem -CAkey root.key -set_serial 7 -days 8000 -out signer.pem",
    );
    openssl(
        "cms -sign -binary -in package.run -signer signer.pem -inkey signer.key -md sha256 -outform DER -out package.cms",
    );
    openssl("x509 -in root.pem -outform DER -out root.der");
    ["package.run", "package.cms", "root.pem", "root.der"].map(read)
}

#[test]
fn a_package_is_installed_only_as_its_vendor_signed_it() {
    let folder = tempfile::tempdir().unwrap();
    let [package, cms, root, root_der] = vendor(folder.path());
    let other = [&package[..], b"rm -rf /\n"].concat();
    let mut site = Site::new();
    let _ = site.install("1").ended_with(0);
    let path = |name: &str| BundlePath::parse(name).unwrap();
    let blobs = site.fake().blobs.len();
    for (name, package, status) in [("wrong", &other, 4), ("right", &package, 0)] {
        let fake = site.fake();
        let backend = fake.profiles.backends.first_mut().unwrap();
        backend.files.truncate(1);
        fake.blobs.truncate(blobs);
        backend.files.extend([
            placed_file("vendor/package.cms", &cms),
            placed_file("vendor/package.run", package),
            placed_file("vendor/root.pem", &root),
        ]);
        backend.signatures = vec![VendorSignature {
            package: path("vendor/package.run"),
            signature: path("vendor/package.cms"),
            lists: Vec::new(),
            root: path("vendor/root.pem"),
            root_digest: Digest::of(&root_der),
        }];
        fake.blobs
            .extend([cms.clone(), package.clone(), root.clone()]);
        fake.profiles.release += 1;
        site.carry(name);
        let said = site.install(name).ended_with(status);
        let current = site.current().unwrap();
        if status == 0 {
            assert_ne!(current, "1");
            // Nobody knows whether the signer was revoked: that is said, and is no reason to stop.
            assert!(said.words.contains("no revocation list"), "{said:?}");
        } else {
            assert!(said.words.contains("vendor.content-differs"), "{said:?}");
            assert_eq!(current, "1", "nothing changed");
        }
    }
}
