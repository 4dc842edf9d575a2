//! Repositories of operating systems: lists, modules, packages, versions.

use manifest_schema::{Digest, PackageFormat};
use os_packages::{Formula, Installed, Relation, compare, deb, from_list, rpm};

use crate::{Target, choose, chosen};

/// Metadata of dnf and apt, packages' own headers, lists of what is installed.
pub(crate) const REPOSITORIES: Target = Target {
    name: "repositories",
    run: |bytes| {
        let Some((number, bytes)) = choose(bytes, 12) else {
            return;
        };
        match number {
            0 => drop(rpm::Repomd::parse(bytes)),
            1 => drop(rpm::packages(
                &rpm_list("p.xml", bytes),
                bytes,
                "aarch64",
                0,
            )),
            2 => drop(rpm::packages(
                &rpm_list("p.xml.gz", bytes),
                bytes,
                "aarch64",
                0,
            )),
            3 => drop(rpm::packages(
                &rpm_list("p.xml.zst", bytes),
                bytes,
                "aarch64",
                0,
            )),
            4 => {
                let paths = ["/usr/bin/a".to_owned()].into();
                drop(rpm::owners(&rpm_list("f.xml", bytes), bytes, &paths));
            }
            5 => {
                let mut modules = rpm::Modules::default();
                if modules.add(&rpm_list("m.yaml", bytes), bytes).is_ok() {
                    let none = Installed::default();
                    drop(modules.visible(Vec::new(), &none, &["a:1".to_owned()]));
                }
            }
            6 => drop(rpm::Header::read("a.rpm", &mut &bytes[..])),
            7 => drop(deb::Release::parse(bytes).map(|read| read.packages("main/binary-arm64"))),
            8 | 9 => {
                let name = ["Packages", "Packages.xz"][usize::from(number - 8)];
                let list = format!(
                    "SHA256:\n {} {} {name}\n",
                    Digest::of(bytes).hex(),
                    bytes.len()
                );
                let listed =
                    deb::Release::parse(list.as_bytes()).and_then(|read| read.packages(""));
                drop(listed.map(|listed| deb::packages(&listed, bytes, 0)));
            }
            10 => drop(deb::control("a.deb", &mut &bytes[..])),
            _ => {
                let text = String::from_utf8_lossy(bytes);
                let (one, other) = text.split_once('\n').unwrap_or((&text, ""));
                for format in [PackageFormat::Rpm, PackageFormat::Deb] {
                    let there = compare(format, one, other);
                    assert_eq!(there, compare(format, other, one).reverse());
                    drop(from_list(&text, format));
                }
                drop((Formula::parse_rpm(one), Formula::parse_deb(one)));
                drop((Relation::parse_rpm(one), Relation::parse_deb(one)));
            }
        }
    },
    seeds: || {
        let primary = b"<metadata><package type='rpm'><name>a</name><arch>noarch</arch><version epoch='0' ver='1' rel='1'/>\
            <checksum type='sha256'>e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>\
            <size package='1'/><location href='a.rpm'/><format><rpm:requires xmlns:rpm='r'>\
            <rpm:entry name='(b if c)'/></rpm:requires><file>/usr/bin/a</file></format></package></metadata>";
        let modules = b"---\ndocument: modulemd\nversion: 2\ndata:\n  name: a\n  stream: 1\n  dependencies:\n  - requires:\n      b: [2]\n  \
            artifacts:\n    rpms:\n    - a-0:1-1.noarch\n...\n---\ndocument: modulemd-defaults\nversion: 1\ndata:\n  module: a\n  stream: 1\n...\n";
        let packages = b"Package: a\nVersion: 1\nArchitecture: all\nDepends: b (>= 1) | c\nFilename: a.deb\nSize: 1\n\
            SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
        let release = b"NotAutomatic: yes\nSHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 1 main/binary-arm64/Packages\n";
        let list = repomd("p.xml", primary);
        vec![
            chosen(0, list.as_bytes()),
            chosen(1, primary),
            chosen(
                4,
                b"<filelists><package name='a'><file>/usr/bin/a</file></package></filelists>",
            ),
            chosen(5, modules),
            chosen(6, b"\xed\xab\xee\xdb"),
            chosen(7, release),
            chosen(8, packages),
            chosen(
                10,
                b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n",
            ),
            chosen(11, b"1:2.0~rc1-1\n2.0^git-1"),
            chosen(11, b"(a >= 1 with (b or c))\n"),
            chosen(11, b"a:arm64 (>= 1) | b, c\n"),
        ]
    },
};

fn repomd(name: &str, bytes: &[u8]) -> String {
    format!(
        "<repomd><data type='primary'><checksum type='sha256'>{}</checksum><location href='{name}'/></data></repomd>",
        Digest::of(bytes).hex()
    )
}

/// The entry of a list that pins these very bytes.
fn rpm_list(name: &str, bytes: &[u8]) -> rpm::Listed {
    let read = rpm::Repomd::parse(repomd(name, bytes).as_bytes());
    read.map(|read| read.primary).unwrap_or_default()
}
