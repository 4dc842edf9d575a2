//! The metadata of a repository, made from the packages themselves: the same packages give the same bytes.
//!
//! As `createrepo` makes it, with three differences: times are those of the packages, checksums of the metadata do
//! not stand in its files' names, and the change logs are left out.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use manifest_schema::Digest;
use quick_xml::escape::escape;

use super::header::{ARCH, EPOCH, Header, NAME, RELEASE, VERSION};

/// A package that a repository is made of.
#[derive(Debug)]
pub struct Carried {
    /// Its header.
    pub header: Header,
    /// Where it lies in the repository.
    pub location: String,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

/// Makes the files below `repodata/`, each with its name.
pub fn repository(packages: &[Carried]) -> Vec<(String, Vec<u8>)> {
    let count = packages.len();
    let mut primary = format!(
        "{DECLARATION}<metadata xmlns=\"http://linux.duke.edu/metadata/common\" \
         xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\" packages=\"{count}\">\n"
    );
    let open = |kind: &str| {
        format!(
            "{DECLARATION}<{kind} xmlns=\"http://linux.duke.edu/metadata/{kind}\" packages=\"{count}\">\n"
        )
    };
    let (mut files, mut other) = (
        open("filelists"),
        open("otherdata").replace("metadata/otherdata", "metadata/other"),
    );
    for package in packages {
        add_primary(&mut primary, package);
        add_files(&mut files, package);
        let _ = writeln!(other, "{}</package>", opened(package));
    }
    primary.push_str("</metadata>\n");
    files.push_str("</filelists>\n");
    other.push_str("</otherdata>\n");
    let newest = packages
        .iter()
        .filter_map(|package| package.header.number(BUILD_TIME))
        .max();
    let newest = newest.unwrap_or_default();
    let mut repomd = format!(
        "{DECLARATION}<repomd xmlns=\"http://linux.duke.edu/metadata/repo\" \
         xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\">\n<revision>{newest}</revision>\n"
    );
    let mut made = Vec::new();
    for (kind, text) in [("primary", primary), ("filelists", files), ("other", other)] {
        let packed = gzip(text.as_bytes());
        let (open, closed) = (Digest::of(text.as_bytes()).hex(), Digest::of(&packed).hex());
        let _ = write!(
            repomd,
            "<data type=\"{kind}\">\n<checksum type=\"sha256\">{closed}</checksum>\n\
             <open-checksum type=\"sha256\">{open}</open-checksum>\n\
             <location href=\"repodata/{kind}.xml.gz\"/>\n<timestamp>{newest}</timestamp>\n\
             <size>{}</size>\n<open-size>{}</open-size>\n</data>\n",
            packed.len(),
            text.len()
        );
        made.push((format!("repodata/{kind}.xml.gz"), packed));
    }
    repomd.push_str("</repomd>\n");
    made.push(("repodata/repomd.xml".to_owned(), repomd.into_bytes()));
    made
}

fn add_primary(text: &mut String, package: &Carried) {
    let header = &package.header;
    let line = |text: &mut String, name: &str, tag: u32| {
        let value = clean(&header.text(tag));
        let _ = writeln!(text, "  <{name}>{value}</{name}>");
    };
    text.push_str("<package type=\"rpm\">\n");
    line(text, "name", NAME);
    line(text, "arch", ARCH);
    let _ = writeln!(
        text,
        "  {}\n  <checksum type=\"sha256\" pkgid=\"YES\">{}</checksum>",
        version(header),
        package.digest.hex()
    );
    line(text, "summary", SUMMARY);
    line(text, "description", DESCRIPTION);
    line(text, "packager", PACKAGER);
    line(text, "url", URL);
    let built = header.number(BUILD_TIME).unwrap_or_default();
    let installed = header
        .number(LONG_SIZE)
        .or(header.number(SIZE))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "  <time file=\"{built}\" build=\"{built}\"/>\n  <size package=\"{}\" installed=\"{installed}\" archive=\"{}\"/>\n  \
         <location href=\"{}\"/>\n  <format>",
        package.size,
        header.payload_size(),
        clean(&package.location)
    );
    for (name, tag) in [
        ("rpm:license", LICENSE),
        ("rpm:vendor", VENDOR),
        ("rpm:group", GROUP),
        ("rpm:buildhost", BUILD_HOST),
        ("rpm:sourcerpm", SOURCE_RPM),
    ] {
        line(text, name, tag);
    }
    let (start, end) = header.range;
    let _ = writeln!(
        text,
        "  <rpm:header-range start=\"{start}\" end=\"{end}\"/>"
    );
    for (kind, tags) in RELATIONS {
        add_relations(text, header, kind, tags);
    }
    for (path, kind) in paths(header) {
        if is_primary(&path) {
            let _ = writeln!(text, "  {}", file(&path, kind));
        }
    }
    text.push_str("  </format>\n</package>\n");
}

fn add_relations(
    text: &mut String,
    header: &Header,
    kind: &str,
    [names, flags, versions]: [u32; 3],
) {
    let (names, flags) = (header.texts(names), header.numbers(flags));
    let versions = header.texts(versions);
    let mut lines = Vec::new();
    let mut known = BTreeSet::new();
    for (number, name) in names.iter().enumerate() {
        let flags = flags.get(number).copied().unwrap_or_default();
        if kind == "requires" && (flags & RPMLIB != 0 || name.starts_with("rpmlib(")) {
            continue;
        }
        let sense = match flags & 0b1110 {
            0b0010 => " flags=\"LT\"",
            0b0100 => " flags=\"GT\"",
            0b1000 => " flags=\"EQ\"",
            0b1010 => " flags=\"LE\"",
            0b1100 => " flags=\"GE\"",
            _ => "",
        };
        let version = versions.get(number).map_or("", String::as_str);
        let mut line = format!("    <rpm:entry name=\"{}\"{sense}", clean(name));
        if !sense.is_empty() {
            line.push_str(&parts(version));
        }
        if kind == "requires" && flags & PREREQUISITE != 0 {
            line.push_str(" pre=\"1\"");
        }
        line.push_str("/>\n");
        if known.insert(line.clone()) {
            lines.push(line);
        }
    }
    if !lines.is_empty() {
        let _ = write!(text, "  <rpm:{kind}>\n{}  </rpm:{kind}>\n", lines.concat());
    }
}

fn add_files(text: &mut String, package: &Carried) {
    text.push_str(&opened(package));
    for (path, kind) in paths(&package.header) {
        let _ = writeln!(text, "  {}", file(&path, kind));
    }
    text.push_str("</package>\n");
}

/// How a package begins in the lists beside `primary`.
fn opened(package: &Carried) -> String {
    let header = &package.header;
    format!(
        "<package pkgid=\"{}\" name=\"{}\" arch=\"{}\">\n  {}\n",
        package.digest.hex(),
        clean(&header.text(NAME)),
        clean(&header.text(ARCH)),
        version(header)
    )
}

fn version(header: &Header) -> String {
    let epoch = header.number(EPOCH).unwrap_or_default();
    let (version, release) = (header.text(VERSION), header.text(RELEASE));
    format!(
        "<version epoch=\"{epoch}\" ver=\"{}\" rel=\"{}\"/>",
        clean(&version),
        clean(&release)
    )
}

/// `epoch:version-release` as three attributes.
fn parts(version: &str) -> String {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (version, release) = rest.split_once('-').unwrap_or((rest, ""));
    let mut text = format!(" epoch=\"{}\" ver=\"{}\"", clean(epoch), clean(version));
    if !release.is_empty() {
        let _ = write!(text, " rel=\"{}\"", clean(release));
    }
    text
}

/// Every path of the package, with what it is.
fn paths(header: &Header) -> Vec<(String, &'static str)> {
    let (bases, folders) = (header.texts(BASE_NAMES), header.texts(DIR_NAMES));
    let (which, modes) = (header.numbers(DIR_INDEXES), header.numbers(FILE_MODES));
    let flags = header.numbers(FILE_FLAGS);
    let path = |(number, base): (usize, &String)| {
        let folder = which
            .get(number)
            .and_then(|index| folders.get(*index as usize));
        let kind = match (modes.get(number), flags.get(number)) {
            (Some(mode), _) if mode & 0o170_000 == 0o040_000 => " type=\"dir\"",
            (_, Some(flags)) if flags & GHOST != 0 => " type=\"ghost\"",
            _ => "",
        };
        (format!("{}{base}", folder.map_or("", String::as_str)), kind)
    };
    bases.iter().enumerate().map(path).collect()
}

fn file(path: &str, kind: &str) -> String {
    format!("<file{kind}>{}</file>", clean(path))
}

/// The paths that `primary` names too, as every maker of repositories has it.
fn is_primary(path: &str) -> bool {
    path.starts_with("/etc/") || path.contains("bin/") || path == "/usr/lib/sendmail"
}

/// Escaped, and without the letters that XML cannot have.
fn clean(text: &str) -> String {
    let allowed = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let text: String = text.chars().filter(|c| allowed(*c)).collect();
    escape(text.as_str()).into_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // No name and no time: nothing but the bytes decides.
    let mut packer = GzBuilder::new().write(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = packer.write_all(bytes);
    packer.finish().unwrap_or_default()
}

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
/// Names, flags and versions of each kind of relation.
const RELATIONS: [(&str, [u32; 3]); 8] = [
    ("provides", [1047, 1112, 1113]),
    ("requires", [1049, 1048, 1050]),
    ("conflicts", [1054, 1053, 1055]),
    ("obsoletes", [1090, 1114, 1115]),
    ("suggests", [5049, 5051, 5050]),
    ("enhances", [5055, 5057, 5056]),
    ("recommends", [5046, 5048, 5047]),
    ("supplements", [5052, 5054, 5053]),
];
const SUMMARY: u32 = 1004;
const DESCRIPTION: u32 = 1005;
const BUILD_TIME: u32 = 1006;
const BUILD_HOST: u32 = 1007;
const SIZE: u32 = 1009;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const PACKAGER: u32 = 1015;
const GROUP: u32 = 1016;
const URL: u32 = 1020;
const FILE_MODES: u32 = 1030;
const FILE_FLAGS: u32 = 1037;
const SOURCE_RPM: u32 = 1044;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;
const LONG_SIZE: u32 = 5009;
const GHOST: u64 = 1 << 6;
const PREREQUISITE: u64 = 1 << 6 | 1 << 9 | 1 << 10;
const RPMLIB: u64 = 1 << 24;
