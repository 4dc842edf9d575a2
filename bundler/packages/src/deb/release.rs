//! `Release`: which files make a suite's metadata, each with its size and SHA-256.

use manifest_schema::Digest;

use super::stanza::Stanza;
use crate::error::PackageError;
use crate::rpm::is_below;

/// The list that a key signs.
#[derive(Clone, Debug)]
pub struct Release {
    /// After this the list should not be believed any more, as the file writes it.
    pub valid_until: Option<String>,
    /// Whether the suite asks to be taken from only where no other has a package, as backports do.
    pub reluctant: bool,
    /// Whether files lie under their digests too, where they stay while the others are being renewed.
    by_hash: bool,
    files: Vec<Listed>,
}

/// A file of metadata, as the list names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// The file, below the suite's folder.
    pub location: String,
    /// Its bytes.
    pub size: u64,
    digest: Digest,
}

impl Release {
    /// Reads the list.
    ///
    /// # Errors
    /// When it is not one, or has no SHA-256.
    pub fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        let wrong = |problem: &str| PackageError::metadata(FILE, problem);
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(&error.to_string()))?;
        let stanza = Stanza::parse(text.trim()).ok_or_else(|| wrong("a line is not a field"))?;
        let list = stanza
            .field("SHA256")
            .ok_or_else(|| wrong("it lists no SHA-256 of its files"))?;
        let mut files = Vec::new();
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let file = (|| {
                let digest = Digest::parse_hex(words.next()?).ok()?;
                let size = words.next()?.parse().ok()?;
                let location = words.next()?.to_owned();
                (words.next().is_none() && is_below(&location)).then_some(Listed {
                    location,
                    size,
                    digest,
                })
            })();
            files.push(
                file.ok_or_else(|| wrong(&format!("`{line}` is not a digest, a size and a file")))?,
            );
        }
        let says = |name: &str| stanza.field(name) == Some("yes");
        Ok(Self {
            valid_until: stanza.field("Valid-Until").map(str::to_owned),
            reluctant: says("NotAutomatic"),
            by_hash: says("Acquire-By-Hash"),
            files,
        })
    }

    /// The list of packages in `folder` (empty for a suite without components), in the packing that is read best.
    ///
    /// # Errors
    /// When the suite has none.
    pub fn packages(&self, folder: &str) -> Result<Listed, PackageError> {
        let path = |ending: &str| match folder {
            "" => format!("Packages{ending}"),
            _ => format!("{folder}/Packages{ending}"),
        };
        let found = [".xz", ".zst", ".gz", ""].into_iter().find_map(|ending| {
            let path = path(ending);
            self.files
                .iter()
                .find(|file| file.location.trim_start_matches("./") == path)
        });
        found.cloned().ok_or_else(|| {
            let problem = format!(
                "it lists no `{}`: no such component or architecture",
                path("")
            );
            PackageError::metadata(FILE, problem)
        })
    }
}

impl Release {
    /// Where a listed file is, below the suite's folder, in the order to try.
    pub fn places(&self, listed: &Listed) -> Vec<String> {
        let location = listed.location.trim_start_matches("./");
        let folder = location.rfind('/').map_or("", |end| &location[..=end]);
        let by_hash = format!("{folder}by-hash/SHA256/{}", listed.digest.hex());
        let by_hash = self.by_hash.then_some(by_hash);
        by_hash.into_iter().chain([location.to_owned()]).collect()
    }
}

impl Listed {
    /// Whether `bytes` are the file that the list names.
    ///
    /// # Errors
    /// When their size or digest is another.
    pub fn check(&self, bytes: &[u8]) -> Result<(), PackageError> {
        let found = Digest::of(bytes);
        if found == self.digest && bytes.len() as u64 == self.size {
            return Ok(());
        }
        let shown = |digest: &Digest, size: u64| format!("{digest} ({size} bytes)");
        Err(PackageError::Differs {
            file: self.location.clone(),
            found: shown(&found, bytes.len() as u64),
            expected: shown(&self.digest, self.size),
        })
    }
}

const FILE: &str = "Release";

#[cfg(test)]
mod tests {
    use super::*;

    fn release(files: &[(&str, &[u8])]) -> String {
        let lines = files.iter().map(|(name, bytes)| {
            format!(" {} {:>8} {name}\n", Digest::of(bytes).hex(), bytes.len())
        });
        let lines: String = lines.collect();
        format!(
            "Origin: Test\nValid-Until: Sat, 01 Jan 2028 00:00:00 UTC\nMD5Sum:\n x 1 y\nSHA256:\n{lines}"
        )
    }

    #[test]
    fn the_best_packing_is_chosen_and_checked() {
        let text = release(&[
            ("main/binary-arm64/Packages", b"a"),
            ("main/binary-arm64/Packages.xz", b"xz"),
        ]);
        let read = Release::parse(text.as_bytes()).unwrap();
        let listed = read.packages("main/binary-arm64").unwrap();
        assert_eq!(listed.location, "main/binary-arm64/Packages.xz");
        listed.check(b"xz").unwrap();
        let error = listed.check(b"zx").unwrap_err().to_string();
        assert!(error.contains(&Digest::of(b"zx").hex()), "{error}");
        let error = read.packages("main/binary-amd64").unwrap_err().to_string();
        assert!(error.contains("no such component"), "{error}");
        let flat = Release::parse(release(&[("./Packages.gz", b"g")]).as_bytes()).unwrap();
        assert_eq!(flat.packages("").unwrap().location, "./Packages.gz");
    }

    #[test]
    fn a_list_without_strong_digests_or_with_places_outside_is_refused() {
        for (text, expected) in [
            ("Origin: x\nMD5Sum:\n a 1 b\n".to_owned(), "no SHA-256"),
            (release(&[("../../etc/passwd", b"a")]), "is not a digest"),
            ("SHA256:\n zz 1 a\n".to_owned(), "is not a digest"),
            ("SHA256:\n".to_owned() + " 1 2 3 4", "is not a digest"),
            ("no list".to_owned(), "not a field"),
        ] {
            let error = Release::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
