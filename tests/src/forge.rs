//! Bundles as an attacker would make them: any header, any metadata, and, where the attacker is an insider, good
//! signatures over all of it. Written from the format's description, not with the code that reads it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Digest;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

/// One member, and what its header says of it.
#[derive(Clone)]
pub struct Member {
    /// Name, as bytes: a hostile one need not be text.
    pub name: Vec<u8>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Type flag: `0` is a plain file.
    pub kind: u8,
    /// Mode, as the header writes it.
    pub mode: String,
    /// Target of a link.
    pub link: Vec<u8>,
    /// The field of the size, where it is not the truth.
    pub size: Option<Vec<u8>>,
}

impl Member {
    /// A plain file.
    pub fn file(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.into(),
            bytes: bytes.into(),
            kind: b'0',
            mode: "0000644".to_owned(),
            link: Vec::new(),
            size: None,
        }
    }

    /// Something that is no plain file.
    #[must_use]
    pub fn of_kind(mut self, kind: u8, link: &str) -> Self {
        self.kind = kind;
        self.link = link.into();
        self
    }

    /// Header and bytes, as they stand in an archive.
    pub fn block(&self) -> Vec<u8> {
        let mut bytes = self.header().to_vec();
        bytes.extend(&self.bytes);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn is(&self, name: &str) -> bool {
        self.name == name.as_bytes()
    }

    fn header(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, self.mode.as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        match &self.size {
            Some(size) => put(124, size),
            None => put(124, format!("{:011o}", self.bytes.len()).as_bytes()),
        }
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn span(&self) -> usize {
        512 + self.bytes.len().div_ceil(512) * 512
    }
}

/// An archive in pieces.
pub struct Forge {
    /// Its members, in order.
    pub members: Vec<Member>,
    /// Bytes behind the end.
    pub behind: Vec<u8>,
    /// Whether signing puts the right offsets into the index.
    pub settles: bool,
    keys: Vec<SigningKey>,
    /// The chain of roots.
    pub roots: Vec<ForgedRoot>,
}

/// A root of a chain.
pub struct ForgedRoot {
    /// Version by its name.
    pub version: usize,
    /// The document.
    pub bytes: Vec<u8>,
    /// Key, ending of the name, signature.
    pub signatures: Vec<(String, String, Vec<u8>)>,
}

/// What a root of a chain says, in numbers of the keys.
#[derive(Clone, Copy, Default)]
pub struct RootOf<'a> {
    /// Keys that it names.
    pub keys: &'a [usize],
    /// Keys that it revokes.
    pub revoked: &'a [usize],
    /// How many must sign.
    pub threshold: u32,
    /// Keys that sign it.
    pub signers: &'a [usize],
}

#[expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    reason = "a forgery that cannot be made is a failed test"
)]
impl Forge {
    /// Takes a good bundle to pieces.
    pub fn of(path: &Path) -> Self {
        let bytes = fs::read(path).expect("the bundle is there");
        let (mut members, mut at) = (Vec::new(), 0);
        while bytes[at] != 0 {
            let header = &bytes[at..at + 512];
            let name = header[..100]
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default();
            let size = std::str::from_utf8(&header[124..135]).expect("octal digits");
            let size = usize::from_str_radix(size, 8).expect("octal digits");
            let mode = String::from_utf8_lossy(&header[100..107]).into_owned();
            let mut member = Member::file("", &bytes[at + 512..at + 512 + size]);
            member.name = name.into();
            member.mode = mode;
            at += member.span();
            members.push(member);
        }
        let key = SigningKey::from_slice(&[7; 32]).expect("a number below the order");
        let keys = vec![key];
        let root = root(&keys, 1, &[]);
        Self {
            members,
            behind: Vec::new(),
            settles: true,
            keys,
            roots: vec![alone(&root)],
        }
    }

    /// Puts this many insiders behind it, of whom `threshold` must sign, and these are revoked.
    #[must_use]
    pub fn with_keys(mut self, count: u8, threshold: u32, revoked: &[usize]) -> Self {
        self.keys = (0..count)
            .map(|number| SigningKey::from_slice(&[7 + number; 32]).expect("a small number"))
            .collect();
        self.keys.sort_by_key(key_id);
        self.roots = vec![alone(&root(&self.keys, threshold, revoked))];
        self
    }

    /// Puts this many insiders behind it, and a chain of roots over them.
    #[must_use]
    pub fn with_roots(mut self, count: u8, chain: &[RootOf<'_>]) -> Self {
        self = self.with_keys(count, 1, &[]);
        self.roots.clear();
        let mut previous: Vec<String> = Vec::new();
        for (number, of) in chain.iter().enumerate() {
            let mut keys: Vec<SigningKey> =
                of.keys.iter().map(|key| self.keys[*key].clone()).collect();
            keys.sort_by_key(key_id);
            let mut root = root(&keys, of.threshold, &[]);
            let revoked = of.revoked.iter().map(|key| key_id(&self.keys[*key]));
            root["revoked"] = revoked.collect();
            root["version"] = json!(number + 1);
            if number > 0 {
                root["previous"] = json!(previous);
            }
            let mut root = alone(&root);
            root.version = number + 1;
            self.sign_root(&mut root, of.signers);
            previous.push(format!("sha256:{}", Digest::of(&root.bytes).hex()));
            self.roots.push(root);
        }
        self
    }

    /// Signs a root anew with these keys.
    pub fn sign_root(&self, root: &mut ForgedRoot, signers: &[usize]) {
        let signed = encoding("application/vnd.ferry.root+json", &root.bytes);
        let sign = |number: &usize| {
            let key = &self.keys[*number];
            let signature: Signature = key.sign(&signed);
            let bytes = signature.to_der().as_bytes().to_vec();
            (key_id(key), "p256".to_owned(), bytes)
        };
        root.signatures = signers.iter().map(sign).collect();
        root.signatures.sort();
    }

    /// The identifier of a key.
    pub fn key(&self, number: usize) -> String {
        key_id(&self.keys[number])
    }

    /// Where a member stands.
    pub fn place(&self, name: &str) -> usize {
        self.members
            .iter()
            .position(|member| member.is(name))
            .expect("the member is there")
    }

    /// A member.
    pub fn member(&mut self, name: &str) -> &mut Member {
        let place = self.place(name);
        &mut self.members[place]
    }

    /// Names of the blobs, in order.
    pub fn blobs(&self) -> Vec<String> {
        let names = self
            .members
            .iter()
            .map(|member| String::from_utf8_lossy(&member.name));
        names
            .filter(|name| name.starts_with("blobs/"))
            .map(std::borrow::Cow::into_owned)
            .collect()
    }

    /// Digest in hexadecimal and size of every blob, by the index.
    pub fn contents(&mut self) -> Vec<(String, usize)> {
        let index = self.json("meta/index.json");
        let blobs = index["blobs"].as_array().into_iter().flatten();
        let one = |blob: &Value| {
            let digest = blob["digest"].as_str()?.strip_prefix("sha256:")?.to_owned();
            Some((digest, blob["size"].as_u64()? as usize))
        };
        blobs.filter_map(one).collect()
    }

    /// A document.
    pub fn json(&mut self, name: &str) -> Value {
        serde_json::from_slice(&self.member(name).bytes).expect("a document of a good bundle")
    }

    /// Replaces a document.
    pub fn set_json(&mut self, name: &str, value: &Value) {
        self.member(name).bytes = value.to_string().into_bytes();
    }

    /// Signs all of it as it is, with `signers` of the keys.
    #[must_use]
    pub fn signed_by(mut self, signers: &[usize]) -> Self {
        self.drop_members("meta/statement.sig/");
        self.drop_members("meta/keys/");
        self.drop_members("meta/root/");
        let mut members = Vec::new();
        for root in &self.roots {
            let name = format!("meta/root/{:03}.json", root.version);
            members.push(Member::file(&name, &root.bytes));
        }
        for root in &self.roots {
            for (key, ending, signature) in &root.signatures {
                let name = format!("meta/root/{:03}.sig/{key}.{ending}", root.version);
                members.push(Member::file(&name, signature));
            }
        }
        let place = self.place("meta/SHA256SUMS");
        self.members.splice(place..place, members);
        for key in &self.keys.clone() {
            let pem = Member::file(
                &format!("meta/keys/{}.pem", key_id(key)),
                pem(key).as_bytes(),
            );
            let place = self.place("meta/SHA256SUMS");
            self.members.insert(place, pem);
        }
        for signer in signers {
            let name = format!("meta/statement.sig/{}.p256", key_id(&self.keys[*signer]));
            let place = self.place("meta/statement.dsse.json");
            self.members.insert(place, Member::file(&name, b""));
        }
        // The offsets in the index move with the sizes of what stands before the blobs.
        for _ in 0..20 {
            let before: Vec<usize> = self.members.iter().map(Member::span).collect();
            if self.settles {
                self.settle();
            }
            self.seal(signers);
            if before == self.members.iter().map(Member::span).collect::<Vec<_>>() {
                break;
            }
        }
        self
    }

    /// Signs all of it with every key.
    #[must_use]
    pub fn signed(self) -> Self {
        let all: Vec<usize> = (0..self.keys.len()).collect();
        self.signed_by(&all)
    }

    fn drop_members(&mut self, folder: &str) {
        self.members
            .retain(|member| !member.name.starts_with(folder.as_bytes()));
    }

    fn settle(&mut self) {
        let mut index = self.json("meta/index.json");
        let mut at = 0;
        for member in &self.members {
            let name = String::from_utf8_lossy(&member.name).into_owned();
            let blobs = index["blobs"].as_array_mut().into_iter().flatten();
            for blob in blobs.filter(|blob| blob["member"] == name.as_str()) {
                blob["offset"] = json!(at + 512);
            }
            at += member.span();
        }
        self.set_json("meta/index.json", &index);
    }

    /// Sums, statement, signatures, envelope over what is there now.
    fn seal(&mut self, signers: &[usize]) {
        let unsummed = |name: &str| {
            name == "meta/SHA256SUMS"
                || name == "meta/volume.json"
                || name.starts_with("meta/statement")
        };
        let mut sums = String::new();
        let mut subjects = Vec::new();
        for member in &self.members {
            let name = String::from_utf8_lossy(&member.name).into_owned();
            if !unsummed(&name) {
                let digest = Digest::of(&member.bytes).hex();
                // A blob is listed by its name: whether its bytes are right shows when they are read.
                let compressed = Path::new(&name).extension().is_some();
                let named = name.strip_prefix("blobs/sha256/").filter(|_| !compressed);
                let listed = named.unwrap_or(&digest);
                let _ = writeln!(sums, "{listed}  {name}");
                if !name.starts_with("blobs/") && !name.starts_with("parts/") {
                    subjects.push(json!({ "name": name, "digest": { "sha256": digest } }));
                }
            }
        }
        let digest = Digest::of(sums.as_bytes()).hex();
        subjects.push(json!({ "name": "meta/SHA256SUMS", "digest": { "sha256": digest } }));
        self.member("meta/SHA256SUMS").bytes = sums.into_bytes();
        let mut statement = self.json("meta/statement.json");
        statement["subject"] = Value::Array(subjects);
        self.set_json("meta/statement.json", &statement);
        let statement = self.member("meta/statement.json").bytes.clone();
        let kind = "application/vnd.in-toto+json";
        let signed = encoding(kind, &statement);
        let mut signatures = Vec::new();
        for signer in signers {
            let key = self.keys[*signer].clone();
            let signature: Signature = key.sign(&signed);
            let bytes = signature.to_der().as_bytes().to_vec();
            signatures.push(json!({ "keyid": key_id(&key), "sig": STANDARD.encode(&bytes) }));
            self.member(&format!("meta/statement.sig/{}.p256", key_id(&key)))
                .bytes = bytes;
        }
        let envelope = json!({
            "payload": STANDARD.encode(&statement), "payloadType": kind, "signatures": signatures,
        });
        self.member("meta/statement.dsse.json").bytes = (envelope.to_string() + "\n").into_bytes();
    }

    /// What people would compare: the first root's.
    pub fn fingerprint(&self) -> String {
        let root = self
            .members
            .iter()
            .find(|member| member.is("meta/root/001.json"));
        Digest::of(&root.expect("a root").bytes).hex()
    }

    /// Writes the archive.
    pub fn write(&self, path: &Path) {
        let mut bytes = Vec::new();
        for member in &self.members {
            bytes.extend(member.block());
        }
        bytes.extend([0; 1024]);
        bytes.extend(&self.behind);
        fs::write(path, bytes).expect("the medium can be written");
    }
}

/// DSSE's pre-authentication encoding.
fn encoding(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), bytes.len()).into_bytes();
    signed.extend_from_slice(bytes);
    signed
}

/// A first root, which nobody signs.
fn alone(root: &Value) -> ForgedRoot {
    ForgedRoot {
        version: 1,
        bytes: root.to_string().into_bytes(),
        signatures: Vec::new(),
    }
}

#[expect(clippy::expect_used, reason = "a key has a public half")]
fn pem(key: &SigningKey) -> String {
    key.verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .expect("a public key")
}

#[expect(clippy::expect_used, reason = "a key has a public half")]
fn key_id(key: &SigningKey) -> String {
    let der = key
        .verifying_key()
        .to_public_key_der()
        .expect("a public key");
    Digest::of(der.as_bytes()).hex()
}

fn root(keys: &[SigningKey], threshold: u32, revoked: &[usize]) -> Value {
    let entry = |key: &SigningKey| json!({ "keyid": key_id(key), "scheme": "ecdsa-p256-sha256", "pem": pem(key) });
    let revoked: Vec<String> = revoked
        .iter()
        .map(|number| key_id(&keys[*number]))
        .collect();
    json!({
        "format": 1, "version": 1, "threshold": threshold,
        "keys": keys.iter().map(entry).collect::<Vec<_>>(), "revoked": revoked,
    })
}
