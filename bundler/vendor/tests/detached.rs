//! Signatures made by `openssl cms`, as vendors make them.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use manifest_schema::Digest;
use report::{Diagnose, Outcome};
use tempfile::TempDir;
use vendor_signature::{Remark, Signer, VendorSignatureError, verify_detached};

/// A vendor: a root, an authority below it, a signer, and a package.
struct Vendor {
    folder: TempDir,
}

const PACKAGE: &[u8] = b"#!/bin/sh\necho installing\n";

const CONFIG: &str = "
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[authority]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = codeSigning
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
[strange]
basicConstraints = CA:FALSE
nameConstraints = critical,permitted;email:example.org
[ca]
default_ca = lists
[lists]
database = index.txt
crlnumber = number.txt
default_md = sha256
default_crl_days = 30
";

impl Vendor {
    fn new() -> Self {
        let vendor = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        vendor.write("config", CONFIG.as_bytes());
        vendor.write("package.run", PACKAGE);
        vendor.write("number.txt", b"01\n");
        vendor.write("index.txt", b"");
        vendor.key("root");
        vendor.openssl(
            "req -x509 -new -key root.key -subj /O=Vendor/CN=Root -days 9000 -sha256 \
             -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -config config -extensions root -out root.pem",
        );
        vendor.certificate("authority", "authority", "root", 2);
        vendor.certificate("signer", "signer", "authority", 3);
        vendor.list("authority", "authority.crl");
        vendor.list("root", "root.crl");
        vendor
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    fn key(&self, name: &str) {
        self.openssl(&format!("genrsa -out {name}.key 2048"));
    }

    /// A certificate with a new key.
    fn certificate(&self, name: &str, extensions: &str, issuer: &str, serial: u32) {
        self.key(name);
        self.openssl(&format!(
            "req -new -key {name}.key -subj /O=Vendor/CN={name} -config config -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -set_serial {serial} -days 8000 \
             -sha256 -extfile config -extensions {extensions} -out {name}.pem"
        ));
    }

    /// A revocation list of whoever stands in `index.txt`.
    fn list(&self, issuer: &str, file: &str) {
        self.openssl(&format!(
            "ca -gencrl -config config -cert {issuer}.pem -keyfile {issuer}.key -out {file}.pem"
        ));
        self.openssl(&format!("crl -in {file}.pem -outform DER -out {file}"));
    }

    fn revoke(&self, serial: u32) {
        let line = format!("R\t450101000000Z\t250203000000Z\t{serial:02X}\tunknown\t/CN=x\n");
        self.write("index.txt", line.as_bytes());
    }

    /// A signature by `signer`, with the authority's certificate beside it.
    fn sign(&self, signer: &str, options: &str) -> Vec<u8> {
        self.openssl(&format!(
            "cms -sign -binary -in package.run -signer {signer}.pem -inkey {signer}.key \
             -certfile authority.pem -md sha256 -outform DER -out package.cms {options}"
        ));
        self.read("package.cms")
    }

    fn check(&self, cms: &[u8]) -> Result<Signer, VendorSignatureError> {
        self.check_with(PACKAGE, cms, &["authority.crl"])
    }

    fn check_with(
        &self,
        package: &[u8],
        cms: &[u8],
        lists: &[&str],
    ) -> Result<Signer, VendorSignatureError> {
        let lists: Vec<_> = lists.iter().map(|list| self.read(list)).collect();
        let lists: Vec<_> = lists.iter().map(Vec::as_slice).collect();
        verify_detached(package, cms, &lists, &[&self.read("root.pem")])
    }
}

fn code(result: Result<Signer, VendorSignatureError>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "holds")
}

#[test]
fn what_openssl_signs_holds_in_every_form_it_signs_in() {
    let vendor = Vendor::new();
    for options in [
        "",
        "-noattr",
        "-keyid",
        "-md sha384",
        "-md sha512",
        "-keyopt rsa_padding_mode:pss",
        "-keyopt rsa_padding_mode:pss -md sha512 -keyopt rsa_pss_saltlen:20",
        "-outform PEM",
        "-nosmimecap",
    ] {
        let cms = vendor.sign("signer", options);
        let signer = vendor
            .check(&cms)
            .unwrap_or_else(|e| panic!("{options}: {e}"));
        assert_eq!(signer.name, "CN=signer,O=Vendor", "{options}");
        assert_eq!((&*signer.root, &*signer.serial), ("CN=Root,O=Vendor", "03"));
        assert_eq!(signer.package, Digest::of(PACKAGE));
        // Another file, a file that is cut, a file that goes on.
        for other in [
            &b"#!/bin/sh\nrm -rf /\n"[..],
            &PACKAGE[1..],
            &[PACKAGE, b"x"].concat(),
        ] {
            let found = code(vendor.check_with(other, &cms, &[]));
            let expected = match options {
                "-noattr" => "vendor.signature-invalid",
                _ => "vendor.content-differs",
            };
            assert_eq!(found, expected, "{options}");
        }
    }
    // Outer lengths left open, as some signers write them.
    let cms = vendor.sign("signer", "");
    let (oid, rest) = (&cms[4..15], &cms[19..]);
    let open = [&[0x30, 0x80][..], oid, &[0xa0, 0x80], rest, &[0; 4]].concat();
    assert_eq!(code(vendor.check(&open)), "holds");
    // The root as DER too, and its digest as `openssl x509 -fingerprint -sha256` says it.
    vendor.openssl("x509 -in root.pem -outform DER -out root.der");
    let root = vendor.read("root.der");
    let signer = verify_detached(PACKAGE, &cms, &[], &[&root]).unwrap();
    assert_eq!(signer.root_digest, Digest::of(&root));
}

#[test]
fn who_was_revoked_signs_no_more_and_dates_are_remarks() {
    let vendor = Vendor::new();
    let cms = vendor.sign("signer", "");
    let second = |signer: &Signer| signer.list.unwrap().made + 60;

    let signer = vendor
        .check_with(PACKAGE, &cms, &["root.crl", "authority.crl"])
        .unwrap();
    assert_eq!(signer.remarks(second(&signer)), []);
    let remarks = signer.remarks(signer.valid_to + 1);
    assert!(
        matches!(
            remarks[..],
            [Remark::Expired { .. }, Remark::OldList { .. }]
        ),
        "{remarks:?}"
    );
    let remarks = signer.remarks(0);
    assert!(
        matches!(remarks[..], [Remark::NotYetValid { .. }]),
        "{remarks:?}"
    );
    let alone = vendor.check_with(PACKAGE, &cms, &[]).unwrap();
    let remarks = alone.remarks(second(&signer));
    assert!(
        matches!(remarks[..], [Remark::NoList { .. }]),
        "{remarks:?}"
    );

    // The signer, then the authority.
    vendor.revoke(3);
    vendor.list("authority", "revoked.crl");
    let error = vendor
        .check_with(PACKAGE, &cms, &["authority.crl", "revoked.crl"])
        .unwrap_err();
    let said = error.to_string();
    assert_eq!(
        said,
        "the certificate 03 of `CN=signer,O=Vendor` was revoked on 2025-02-03"
    );
    assert_eq!(error.outcome(), Outcome::Untrusted);
    vendor.revoke(2);
    vendor.list("root", "above.crl");
    assert_eq!(
        code(vendor.check_with(PACKAGE, &cms, &["above.crl"])),
        "vendor.revoked"
    );
    // A list of version 1.
    let config = CONFIG.replace("crlnumber = number.txt\n", "");
    vendor.write("config", config.as_bytes());
    vendor.list("root", "first.crl");
    assert_eq!(
        code(vendor.check_with(PACKAGE, &cms, &["first.crl"])),
        "vendor.revoked"
    );
    // A list with bytes behind it, as one vendor ships it, and as PEM.
    let long = [vendor.read("above.crl"), b"\n\0".to_vec()].concat();
    vendor.write("long.crl", &long);
    assert_eq!(
        code(vendor.check_with(PACKAGE, &cms, &["long.crl"])),
        "vendor.revoked"
    );
    assert_eq!(
        code(vendor.check_with(PACKAGE, &cms, &["above.crl.pem"])),
        "vendor.revoked"
    );
}

#[test]
fn a_list_that_its_issuer_did_not_sign_is_refused() {
    let vendor = Vendor::new();
    let cms = vendor.sign("signer", "");
    // Another key under the authority's name empties the list.
    fs::create_dir(vendor.path("mine")).unwrap();
    vendor.key("other");
    vendor.openssl(
        "req -x509 -new -key other.key -subj /O=Vendor/CN=authority -days 90 -config config \
         -extensions root -out other.pem",
    );
    vendor.list("other", "forged.crl");
    assert_eq!(
        code(vendor.check_with(PACKAGE, &cms, &["forged.crl"])),
        "vendor.list-invalid"
    );
    // A list of somebody else says nothing here.
    vendor.openssl("req -x509 -new -key other.key -subj /CN=Elsewhere -days 90 -config config -extensions root -out other.pem");
    vendor.list("other", "elsewhere.crl");
    let signer = vendor
        .check_with(PACKAGE, &cms, &["elsewhere.crl"])
        .unwrap();
    assert_eq!(signer.list, None);
}

#[test]
fn nobody_signs_without_a_way_to_the_root() {
    let vendor = Vendor::new();
    // The same names under another root.
    let other = Vendor::new();
    let stranger = other.sign("signer", "");
    assert_eq!(code(vendor.check(&stranger)), "vendor.untrusted");
    // The authority's certificate is missing.
    vendor.openssl(
        "cms -sign -binary -in package.run -signer signer.pem -inkey signer.key -outform DER -out alone.cms",
    );
    let error = vendor.check(&vendor.read("alone.cms")).unwrap_err();
    assert!(
        error.to_string().contains("`CN=authority,O=Vendor`"),
        "{error}"
    );
    // A signer that issues certificates, an authority below one that allows none, a server's certificate, a check
    // that is asked for and not known here.
    vendor.certificate("below", "signer", "signer", 4);
    vendor.certificate("deep", "authority", "authority", 5);
    vendor.certificate("leaf", "signer", "deep", 6);
    vendor.certificate("server", "server", "authority", 7);
    vendor.certificate("strange", "strange", "authority", 8);
    let both = [vendor.read("deep.pem"), vendor.read("authority.pem")].concat();
    vendor.write("both.pem", &both);
    for (signer, beside) in [
        ("below", "-certfile signer.pem"),
        ("leaf", "-certfile both.pem"),
        ("server", ""),
        ("strange", ""),
    ] {
        let cms = vendor.sign(signer, beside);
        assert_eq!(
            code(vendor.check(&cms)),
            "vendor.certificate-unfit",
            "{signer}"
        );
    }
    // The authority itself, or the signer, may be what the plan names.
    let cms = vendor.sign("signer", "");
    for root in ["authority.pem", "signer.pem"] {
        verify_detached(PACKAGE, &cms, &[], &[&vendor.read(root)]).unwrap();
    }
    assert_eq!(
        code(verify_detached(PACKAGE, &cms, &[], &[])),
        "vendor.no-root"
    );
}

#[test]
fn weak_and_attached_signatures_do_not_count() {
    let vendor = Vendor::new();
    let cms = vendor.sign("signer", "-md sha1");
    assert_eq!(code(vendor.check(&cms)), "vendor.unknown-algorithm");
    let cms = vendor.sign("signer", "-nodetach");
    let error = vendor.check(&cms).unwrap_err();
    assert!(error.to_string().contains("its own content"), "{error}");
    vendor.openssl("cms -digest_create -binary -in package.run -outform DER -out digest.cms");
    assert_eq!(
        code(vendor.check(&vendor.read("digest.cms"))),
        "vendor.malformed"
    );
    for bytes in [&b""[..], b"-----BEGIN CMS-----", b"\x30\x80", &[0x30; 4000]] {
        assert_eq!(code(vendor.check(bytes)), "vendor.malformed");
    }
    let large = vec![0; vendor_signature::LARGEST_SIGNATURE as usize + 1];
    assert_eq!(code(vendor.check(&large)), "vendor.too-large");
}

#[test]
fn no_byte_of_a_signature_can_be_changed() {
    let vendor = Vendor::new();
    let cms = vendor.sign("signer", "-nosmimecap");
    let (root, list) = (vendor.read("root.pem"), vendor.read("authority.crl"));
    // Not signed: versions, the list of digest algorithms, what says "RSA" again. Any other change is noticed.
    let mut free = 0;
    for position in 0..cms.len() {
        let mut changed = cms.clone();
        changed[position] ^= 0x01;
        if let Ok(signer) = verify_detached(PACKAGE, &changed, &[&list], &[&root]) {
            free += 1;
            assert_eq!(signer.name, "CN=signer,O=Vendor", "byte {position}");
        }
    }
    assert!(free < 40, "{free} bytes could be changed");
    for length in 0..cms.len() {
        assert!(verify_detached(PACKAGE, &cms[..length], &[&list], &[&root]).is_err());
    }
    for length in (0..list.len()).step_by(7) {
        assert!(verify_detached(PACKAGE, &cms, &[&list[..length]], &[&root]).is_err());
    }
}

#[test]
fn every_code_has_a_text_in_both_languages() {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/error.rs"))
        .unwrap()
        + &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/signer.rs")).unwrap();
    let codes: Vec<&str> = source
        .split('"')
        .filter(|text| text.starts_with("vendor.") && !text.contains(' '))
        .collect();
    assert!(codes.len() > 12);
    for language in ["en", "zh"] {
        let file = format!(
            "{}/../../installer/console/catalog/{language}/vendor.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        let catalogue: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
        for code in &codes {
            let entry = catalogue
                .get(*code)
                .unwrap_or_else(|| panic!("{language}: {code}"));
            assert!(
                entry.get("text").is_some() && entry.get("hint").is_some(),
                "{code}"
            );
        }
    }
}
