//! Archives that a package index or a vendor publishes.

use std::fs;
use std::io::{Cursor, Write as _};

use bundle_mirror::{Cache, Selection, extract};
use flate2::Compression;
use flate2::write::GzEncoder;
use zip::write::SimpleFileOptions;

use crate::{Target, choose, chosen, scratch};

/// Wheels and source archives.
pub(crate) const MEMBERS: Target = Target {
    name: "members",
    run: |bytes| {
        let Some((number, bytes)) = choose(bytes, 3) else {
            return;
        };
        scratch::with(|folder| {
            let (name, content) = match number {
                0 => ("x.whl", bytes.to_vec()),
                1 => ("x.tar.gz", bytes.to_vec()),
                // Past the checksum of gzip, to the headers of tar.
                _ => ("x.tar.gz", gzip(bytes)),
            };
            let path = folder.join(name);
            fs::write(&path, content).expect("the scratch folder can be written");
            let cache = Cache::open(&folder.join("cache")).expect("a new cache");
            for selection in [
                Selection::Matching(vec!["*".to_owned()]),
                Selection::One("demo/METADATA".to_owned()),
            ] {
                drop(extract(&path, name, &selection, &cache));
            }
        });
    },
    seeds: || {
        let mut wheel = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["demo/METADATA", "demo/a.py"] {
            wheel
                .start_file(name, SimpleFileOptions::default())
                .expect("a new member");
            wheel
                .write_all(b"Name: demo\nVersion: 1\n")
                .expect("a member's bytes");
        }
        let wheel = wheel.finish().expect("a wheel").into_inner();
        let mut tar = e2e::Member::file("demo-1/demo/METADATA", b"Name: demo\n").block();
        tar.extend(
            e2e::Member::file("demo-1/link", b"")
                .of_kind(b'2', "demo/METADATA")
                .block(),
        );
        tar.extend([0; 1024]);
        vec![chosen(0, &wheel), chosen(1, &gzip(&tar)), chosen(2, &tar)]
    },
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(bytes)
        .expect("a vector takes every write");
    encoder.finish().expect("a vector takes every write")
}
