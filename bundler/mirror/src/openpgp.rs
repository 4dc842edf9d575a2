//! OpenPGP signatures, checked by `gpgv`: the program that apt and dnf themselves come with.
//!
//! A library for it would bring some sixty crates, most of them ciphers, to check one signature.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::distribution::DistributionError;

/// Checks signatures against a set of keys.
pub struct Verifier {
    program: PathBuf,
    folder: tempfile::TempDir,
    keyrings: Vec<PathBuf>,
}

impl Verifier {
    /// Takes key files, armoured or not, each with its name. `program` is `gpgv`.
    ///
    /// # Errors
    /// When a file holds no key, or there is no room for a copy.
    pub fn new(program: &Path, keys: &[(String, Vec<u8>)]) -> Result<Self, DistributionError> {
        let failed = |source: io::Error| DistributionError::NoVerifier {
            program: program.to_owned(),
            source,
        };
        let folder = tempfile::Builder::new().prefix("ferry-keys-").tempdir();
        let folder = folder.map_err(failed)?;
        let mut keyrings = Vec::new();
        for (number, (name, bytes)) in keys.iter().enumerate() {
            let binary =
                dearmoured(bytes).ok_or_else(|| DistributionError::Key { file: name.clone() })?;
            let path = folder.path().join(format!("{number}.gpg"));
            fs::write(&path, binary).map_err(failed)?;
            keyrings.push(path);
        }
        Ok(Self {
            program: program.to_owned(),
            folder,
            keyrings,
        })
    }

    /// Whether there is any key to check against.
    pub fn has_keys(&self) -> bool {
        !self.keyrings.is_empty()
    }

    /// Checks a signature that lies beside `data`; returns the fingerprint of the key.
    ///
    /// # Errors
    /// When no key of the set signed exactly these bytes.
    pub fn detached(
        &self,
        url: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<String, DistributionError> {
        let (data_file, signature_file) =
            (self.write("data", data)?, self.write("sig", signature)?);
        self.run(url, &[&signature_file, &data_file], None)
    }

    /// Checks a text that is signed in place; returns what was signed, and the fingerprint of the key.
    ///
    /// # Errors
    /// When no key of the set signed it.
    pub fn inline(&self, url: &str, signed: &[u8]) -> Result<(Vec<u8>, String), DistributionError> {
        let (file, text) = (
            self.write("signed", signed)?,
            self.folder.path().join("text"),
        );
        let _ = fs::remove_file(&text);
        let fingerprint = self.run(url, &[&file], Some(&text))?;
        // What the program gives back, not what came: there may be more around it.
        let text = fs::read(&text).map_err(|source| self.failed(source))?;
        Ok((text, fingerprint))
    }

    fn run(
        &self,
        url: &str,
        files: &[&Path],
        output: Option<&Path>,
    ) -> Result<String, DistributionError> {
        let mut command = Command::new(&self.program);
        command.arg("--homedir").arg(self.folder.path());
        command.args(["--status-fd", "1"]);
        for keyring in &self.keyrings {
            command.arg("--keyring").arg(keyring);
        }
        if let Some(output) = output {
            command.arg("--output").arg(output);
        }
        command.args(files).env("LC_ALL", "C").stdin(Stdio::null());
        let answer = command.output().map_err(|source| self.failed(source))?;
        judge(&String::from_utf8_lossy(&answer.stdout)).map_err(|problem| {
            DistributionError::Signature {
                url: url.to_owned(),
                problem,
            }
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, DistributionError> {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).map_err(|source| self.failed(source))?;
        Ok(path)
    }

    fn failed(&self, source: io::Error) -> DistributionError {
        DistributionError::NoVerifier {
            program: self.program.clone(),
            source,
        }
    }
}

/// Reads the status lines. One good signature is enough: a file may be signed by keys that are not known here too.
fn judge(status: &str) -> Result<String, String> {
    let mut signer = None;
    let mut problems = BTreeSet::new();
    for line in status.lines() {
        let mut words = line
            .strip_prefix("[GNUPG:] ")
            .unwrap_or_default()
            .split(' ');
        let word = words.next().unwrap_or_default();
        let mut key = || words.next().unwrap_or_default().to_owned();
        match word {
            "BADSIG" => return Err(format!("the bytes are not what the key {} signed", key())),
            "REVKEYSIG" => return Err(format!("the key {} was revoked", key())),
            "EXPKEYSIG" => problems.insert(format!("the key {} has expired", key())),
            "EXPSIG" => problems.insert(format!("the signature of the key {} has expired", key())),
            "NO_PUBKEY" => {
                problems.insert(format!("the key {} is not among those of the plan", key()))
            }
            "GOODSIG" => problems.insert(format!("the signature of the key {} is too weak", key())),
            "VALIDSIG" => {
                let fields: Vec<&str> = line.split(' ').collect();
                let hash = fields.get(HASH_FIELD).copied().unwrap_or_default();
                // Only after `GOODSIG`, which comes before it: an expired key has a valid signature too.
                let good = status_before(status, line).contains("[GNUPG:] GOODSIG ");
                if good && !WEAK_HASHES.contains(&hash) {
                    signer = fields.last().map(|fingerprint| (*fingerprint).to_owned());
                }
                false
            }
            _ => false,
        };
    }
    let none = || {
        let all: Vec<String> = problems.into_iter().collect();
        if all.is_empty() {
            "there is no signature in it".to_owned()
        } else {
            all.join("; ")
        }
    };
    signer.ok_or_else(none)
}

/// The lines between the start of the newest signature and `line`.
fn status_before<'a>(status: &'a str, line: &str) -> &'a str {
    let end = status.find(line).unwrap_or_default();
    let before = &status[..end];
    let start = before.rfind("[GNUPG:] NEWSIG").unwrap_or_default();
    &before[start..]
}

/// The keys as bytes. `None` where there are none.
fn dearmoured(bytes: &[u8]) -> Option<Vec<u8>> {
    let armoured = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.contains(BEGIN));
    let Some(text) = armoured else {
        // The first byte of a packet has its highest bit set.
        return bytes
            .first()
            .filter(|first| **first & 0x80 != 0)
            .map(|_| bytes.to_vec());
    };
    let mut all = Vec::new();
    for block in text.split(BEGIN).skip(1) {
        let (block, _) = block.split_once(END)?;
        // Headers such as `Version: 1` are the only lines with a colon; the checksum begins with `=`.
        let lines = block
            .lines()
            .map(str::trim)
            .filter(|line| !line.contains(':'));
        let body: String = lines.take_while(|line| !line.starts_with('=')).collect();
        all.extend(STANDARD.decode(body).ok()?);
    }
    (!all.is_empty()).then_some(all)
}

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
/// `[GNUPG:] VALIDSIG fingerprint date time expiry version reserved key-algorithm hash-algorithm class primary`
const HASH_FIELD: usize = 9;
/// MD5, SHA-1, RIPEMD-160.
const WEAK_HASHES: [&str; 3] = ["1", "2", "3"];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 22 Someone <a@b>\n\
        [GNUPG:] VALIDSIG AA 2026-01-01 1 0 4 0 1 8 01 BB\n";

    #[test]
    fn a_signature_is_judged_by_the_status_lines() {
        let other = "[GNUPG:] NEWSIG\n[GNUPG:] ERRSIG 33 1 8 01 1 9 x\n[GNUPG:] NO_PUBKEY 33\n";
        assert_eq!(judge(GOOD).as_deref(), Ok("BB"));
        assert_eq!(judge(&format!("{other}{GOOD}")).as_deref(), Ok("BB"));
        assert_eq!(judge(&format!("{GOOD}{other}")).as_deref(), Ok("BB"));
        for (status, expected) in [
            (String::new(), "no signature"),
            (other.to_owned(), "33 is not among"),
            (format!("{GOOD}[GNUPG:] BADSIG 44 x"), "44 signed"),
            (GOOD.replace("GOODSIG", "EXPKEYSIG"), "has expired"),
            (GOOD.replace("GOODSIG", "REVKEYSIG"), "revoked"),
            (GOOD.replace(" 8 01 ", " 2 01 "), "too weak"),
            // A good one does not lend its goodness to the next.
            (
                format!(
                    "{}{}",
                    GOOD.replace(" 8 01 ", " 2 01 "),
                    GOOD.replace("GOODSIG", "EXPKEYSIG")
                ),
                "expired",
            ),
        ] {
            let error = judge(&status).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn keys_are_read_armoured_or_not() {
        let armour =
            |body: &str| format!("# a comment\n{BEGIN}\nVersion: 1\n\n{body}\n=abcd\n{END}\n");
        assert_eq!(
            dearmoured(armour("mQEN\nBFk=").as_bytes()),
            Some(b"\x99\x01\x0d\x04\x59".to_vec())
        );
        let two = armour("mQE=") + &armour("mQI=");
        assert_eq!(
            dearmoured(two.as_bytes()),
            Some(b"\x99\x01\x99\x02".to_vec())
        );
        assert_eq!(dearmoured(b"\x99\x01"), Some(b"\x99\x01".to_vec()));
        for none in [&b""[..], b"key", armour("!").as_bytes(), BEGIN.as_bytes()] {
            assert_eq!(dearmoured(none), None);
        }
    }
}
