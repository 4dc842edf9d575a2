//! The commands that look and tell: `plan`, `diff`, `cache`, `schema`, and the help of all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use manifest_schema::Digest;

use crate::world::{World, weights};

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(super::looking::files(&path));
        } else if !path.ends_with("asked-of-uv") {
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn a_plan_shows_what_would_be_fetched_and_writes_nothing() {
    let world = World::new();
    world.write_plan(&world.plan());
    let before = files(world.folder.path());
    let said = world.run(&["plan", "plan.json", "--quiet"]).ended_with(0);
    assert!(files(world.folder.path()) == before, "nothing is written");
    let sized = said.shown();
    assert_snapshot!(sized, @"
    status 0
    model org/model  Apache-2.0  0123456789abcdef0123456789abcdef01234567  1.5 MiB
    dataset identity  Apache-2.0  —  742 B
    backend cpu  cpu x86_64  1 wheels  969 B
    = 7 artifacts, 1.5 MiB; 5 of them, 1.5 MiB, are still to be fetched
    ");

    let json = world
        .run(&["plan", "plan.json", "--json"])
        .ended_with(0)
        .json();
    assert!(json["changes"].is_null(), "there is no lock yet");
    let to_fetch = json["fetch_bytes"].as_u64().unwrap();
    world.keygen();
    world.lock().ended_with(0);
    world.build(&[]).ended_with(0);
    let json = world
        .run(&["plan", "plan.json", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(json["changes"]["things"], serde_json::json!([]));
    assert_eq!(json["fetch_bytes"], 0);
    assert!(to_fetch > weights().len() as u64);
}

#[test]
fn a_plan_and_a_diff_say_what_changed_since_a_lock_or_a_bundle() {
    let world = World::new();
    world.built();
    fs::rename(world.path("ferry.lock"), world.path("old.lock")).unwrap();
    let mut plan = world.plan();
    plan["release"] = 2.into();
    plan["models"][0]["hub"]["include"] = serde_json::json!(["*.json"]);
    plan["backends"][0]["versions"] = serde_json::json!({ "torch": "2.7.1" });
    world.write_plan(&plan);
    let planned = world.run(&["plan", "plan.json", "--against", "demo-1.ferry", "--json"]);
    let planned = planned.ended_with(0).json();
    world.lock().ended_with(0);
    let shown = world
        .run(&["diff", "old.lock", "ferry.lock"])
        .ended_with(0)
        .shown();
    assert_snapshot!(shown, @"
    status 0
    ~ backend cpu
        torch: — → 2.7.1
    ~ bundle demo
        release: 1 → 2
    ~ model org/model
        - model.safetensors
    = +0 artifacts, 0 B
    ");
    let json = world
        .run(&["diff", "demo-1.ferry", "ferry.lock", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(
        (&json["same"], &json["changes"]),
        (&false.into(), &planned["changes"])
    );
    let same = world
        .run(&["diff", "demo-1.ferry", "old.lock", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(same["same"], true);
}

#[test]
fn the_cache_is_listed_checked_and_cleared() {
    let world = World::new();
    world.built();
    let cache = world.path("cache/sha256");
    fs::write(cache.join(".tmpAbC.partial"), b"left by a dead run").unwrap();
    let listed = world.run(&["cache", "list", "--json"]).ended_with(0).json();
    let count = listed["files"].as_array().unwrap().len();
    assert_eq!(count, fs::read_dir(&cache).unwrap().count());

    let gone = |words: &[&str]| {
        let said = world
            .run(&[&["cache", "gc", "--json"], words].concat())
            .ended_with(0);
        said.json()["removed"].as_array().unwrap().len()
    };
    assert_eq!(gone(&["--dry-run"]), 1);
    assert_eq!(
        gone(&["--older-than", "1"]),
        1,
        "the leftover, and nothing that is young"
    );
    let members = gone(&["--keep", "ferry.lock", "--dry-run"]);
    assert_eq!(
        gone(&["--keep", "demo-1.ferry"]),
        members,
        "the bundle has the same lock"
    );
    assert_eq!(gone(&["--keep", "ferry.lock"]), 0);
    world.build(&[]).ended_with(0);

    assert_eq!(
        world
            .run(&["cache", "verify", "--json"])
            .ended_with(0)
            .json()["damaged"],
        serde_json::json!([])
    );
    let path = cache.join(Digest::of(&weights()).hex());
    let mut bytes = weights();
    bytes[77] ^= 4;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let damaged = world
        .run(&["cache", "verify", "--json"])
        .ended_with(4)
        .json();
    assert_eq!(
        damaged["damaged"][0]["digest"],
        Digest::of(&weights()).to_string()
    );
    world.run(&["cache", "verify", "--delete"]).ended_with(0);
    assert!(!path.exists());
    world.build(&[]).ended_with(0);
}

#[test]
fn schemas_are_those_that_are_published() {
    let world = World::new();
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/json-schema");
    for name in ["plan", "lock", "index", "profiles"] {
        let said = world.run(&["schema", name]).ended_with(0);
        let file = fs::read_to_string(published.join(format!("{name}.json"))).unwrap();
        assert!(
            said.data == file,
            "{name}: run FERRY_WRITE_SCHEMAS=1 cargo test -p manifest-schema"
        );
        let json = world.run(&["schema", name, "--json"]).ended_with(0).json();
        assert_eq!(
            json,
            serde_json::from_str::<serde_json::Value>(&file).unwrap()
        );
    }
}

#[test]
fn help_of_all_commands() {
    let world = World::new();
    let mut help = world.run(&["--help"]).ended_with(0).data;
    for command in [
        "init",
        "schema",
        "plan",
        "lock",
        "build",
        "verify",
        "inspect",
        "diff",
        "export oci",
        "split",
        "parity",
        "repair",
        "cache",
        "keygen",
        "sign",
        "key list",
        "key add",
        "key remove",
        "key revoke",
        "key rotate",
        "key threshold",
        "key require",
        "key discard",
        "key export",
        "key sign",
        "key import",
    ] {
        let words: Vec<_> = command.split(' ').chain(["-h"]).collect();
        let said = world.run(&words).ended_with(0).data;
        let own = said.split("\nOutput:").next().unwrap().trim_end();
        help += &format!("\n$ ferry-bundler {command} -h\n{own}\n");
    }
    assert_snapshot!(help.replace("[default: 1]", "[default: N]").replace("[default: 2]", "[default: N]"), @"
    Pack models, datasets and backends into one signed bundle for machines without a network

    Exit status: 0 done; 1 failed; 2 the command line, plan or lock is wrong; 4 a signature or digest
    does not hold; 5 this machine failed (disk, permission, network).

    Usage: ferry-bundler [OPTIONS] <COMMAND>

    Commands:
      init     Write a plan to start from; what no flag answers is asked
      schema   Print the JSON Schema of a manifest
      plan     Show what a plan would fetch, how large it is and what changed since a lock; nothing is
               written
      lock     Pin everything a plan names to an address, a size and a SHA-256
      build    Fetch what a lock names, check it, and write one signed bundle
      verify   Check a bundle: signature, digests, every byte
      inspect  Show what is in a bundle; this does not say that it may be trusted
      diff     Show what changed from one lock or bundle to another; this does not say that a bundle may
               be trusted
      export   Write parts of a bundle in the forms that other programs read
      split    Write a bundle again in volumes of another size, signed anew; nothing is fetched
      parity   Write parity beside a bundle that exists already; no key is needed
      repair   Restore what is damaged or missing of a bundle from its parity, where it lies
      cache    Look after the folder of fetched files
      keygen   Make a signing key, encrypted, and its trust root
      key      Say who may sign, and change it: each change is a new version of the trust root
      sign     Add signatures to a bundle; nothing of its payload is read or moved
      help     Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Output:
          --json
              Print one JSON object a line on standard output, the result last

      -q, --quiet
              Print nothing but errors and the result

      -v, --verbose
              Print more: every step, also the quick ones

          --color <WHEN>
              When to colour messages

              Possible values:
              - auto:   On a terminal, unless `NO_COLOR` is set
              - always: Always
              - never:  Never
              
              [default: auto]

          --no-progress
              Draw no progress bars; print a line as a step starts and ends

          --lang <LANG>
              Language of messages; taken from the locale when not given

              Possible values:
              - zh: Simplified Chinese
              - en: English

      -y, --yes
              Answer yes to every question that a flag may answer

    $ ferry-bundler init -h
    Write a plan to start from; what no flag answers is asked

    Usage: ferry-bundler init [OPTIONS]

    Options:
      -o, --output <FILE>               Where to write the plan [default: plan.json]
          --force                       Write over a plan that is there
          --site <FILE>                 What `ferry-installer` carried out: `probe --json`, a site code
                                        (`--letters`, `--qr`) or `inventory`
          --name <NAME>                 Name of the bundle
          --release <RELEASE>           Release number of the bundle [default: N]
          --channel <CHANNEL>           What the release numbers count in [default: stable]
          --model <REPO>                Model on the Hugging Face Hub, as `organisation/name` (can be
                                        repeated)
          --dataset <REPO>              Dataset on the Hugging Face Hub (can be repeated)
          --accept-license <SPDX>       Its licence, as an SPDX expression; naming it here accepts it
                                        (once for all, or once for each)
          --revision <REVISION>         Branch, tag or commit of the models and datasets
          --modelscope                  Take models and datasets from ModelScope
          --chip <CHIP>                 Chip to carry a backend for, such as ascend-910b (can be
                                        repeated)
          --arch <ARCH>                 Architecture of the target [default: the site's, else aarch64]
          --glibc <VERSION>             Oldest glibc of the target [default: the site's, else 2.28]
          --with <NAME=VERSION>         Version that must fit the machine, such as cann=9.0.0 (can be
                                        repeated)
          --python <VERSION>            Python of the environment [default: the site's, else 3.11]
          --require <REQUIREMENT>       Requirement of the environment, as pip writes it (can be
                                        repeated)
          --require-file <FILE>         File of requirements, relative to the plan: requirements.txt,
                                        pylock.toml, uv.lock (can be repeated)
          --installer <ARCH=FILE>       The installer of an architecture, relative to the plan (can be
                                        repeated)
          --os-repository <REPOSITORY>  Carry what a driver is built with, for the system of the
                                        inventory that `--site` names
          --os-key <FILE>               File with the OpenPGP public keys that sign them (can be
                                        repeated)
          --os-package <NAME>           Package to carry instead of the usual compiler and tools (can be
                                        repeated)
      -h, --help                        Print help (see more with '--help')

    $ ferry-bundler schema -h
    Print the JSON Schema of a manifest

    Usage: ferry-bundler schema [OPTIONS] [MANIFEST]

    Arguments:
      [MANIFEST]  Which one [default: plan] [possible values: plan, lock, index, profiles, provenance,
                  site]

    Options:
      -h, --help  Print help (see more with '--help')

    $ ferry-bundler plan -h
    Show what a plan would fetch, how large it is and what changed since a lock; nothing is written

    Usage: ferry-bundler plan [OPTIONS] <PLAN>

    Arguments:
      <PLAN>  The plan

    Options:
          --against <FILE>   A lock or bundle to compare with [default: ferry.lock, where there is one]
          --index-url <URL>  Python package index [default: $UV_DEFAULT_INDEX, $UV_INDEX_URL,
                             $PIP_INDEX_URL, PyPI]
          --uv <FILE>        The uv program, which resolves requirements [default: $FERRY_UV, else uv on
                             the path]
          --cache <DIR>      Folder of fetched files [default: $FERRY_CACHE, else $XDG_CACHE_HOME/ferry
                             or ~/.cache/ferry]
      -h, --help             Print help (see more with '--help')

    $ ferry-bundler lock -h
    Pin everything a plan names to an address, a size and a SHA-256

    Usage: ferry-bundler lock [OPTIONS] <PLAN>

    Arguments:
      <PLAN>  The plan

    Options:
      -o, --output <FILE>    Where to write the lock [default: ferry.lock]
          --index-url <URL>  Python package index [default: $UV_DEFAULT_INDEX, $UV_INDEX_URL,
                             $PIP_INDEX_URL, PyPI]
          --uv <FILE>        The uv program, which resolves requirements [default: $FERRY_UV, else uv on
                             the path]
          --accept-changed   Take other bytes under a revision that the old lock names too: the revision
                             was moved or rewritten
          --cache <DIR>      Folder of fetched files [default: $FERRY_CACHE, else $XDG_CACHE_HOME/ferry
                             or ~/.cache/ferry]
      -h, --help             Print help (see more with '--help')

    $ ferry-bundler build -h
    Fetch what a lock names, check it, and write one signed bundle

    Usage: ferry-bundler build [OPTIONS] <LOCK>

    Arguments:
      <LOCK>  The lock

    Options:
          --key <DIR>               Folder of a key that signs, as `keygen` made it (can be repeated)
          --passphrase-file <FILE>  File whose first line is the passphrase, one for all keys or one for
                                    each [default: $FERRY_KEY_PASSPHRASE, else asked]
          --root <PATH>             Trust root of the bundle: a key folder, a file of roots or a root
                                    document [default: that of the first --key]
          --unsigned                Let `sign` add the signatures later: no reader takes the bundle
                                    before
      -o, --output <FILE>           Where to write the bundle [default: NAME-RELEASE.ferry]
          --volume-size <SIZE>      Write volumes of at most this size where one file is larger: fat32,
                                    dvd, bd25, bd50, or bytes such as 4.7G
          --parity <PERCENT>        Write parity beside the bundle, which can restore this share of it,
                                    in percent
          --squeeze <KIND>          Store weights of these kinds in planes of their bytes, for slow
                                    media: bf16 keeps two thirds (can be repeated) [default: as they
                                    are; `split`: as they were] [possible values: bf16, fp16, fp32,
                                    none]
          --align                   Begin raw blobs at multiples of 4 KiB: where the bundle and the
                                    prefix are on one XFS or btrfs, installing then shares their blocks
                                    and copies nothing (`split`: also where they did)
          --threads <THREADS>       Threads that hash [default: N]
          --since <FILE>            Leave out what this bundle brought, or what `ferry-installer
                                    inventory` found: the result is a delta
          --site-key <FINGERPRINT>  Take only an inventory that was signed with this key [default: the
                                    plan's `site_key`]
          --downloads <DOWNLOADS>   Downloads at a time [default: 4]
          --mirror <FROM=TO>        Try addresses that begin with FROM at TO first (can be repeated)
          --limit-rate <BYTES>      Bytes a second that all downloads together may take, such as 20M
          --bring <DIR>             Folder with files that only their vendors may hand out; they are
                                    found by SHA-256 (can be repeated)
          --cache <DIR>             Folder of fetched files [default: $FERRY_CACHE, else
                                    $XDG_CACHE_HOME/ferry or ~/.cache/ferry]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler verify -h
    Check a bundle: signature, digests, every byte

    Usage: ferry-bundler verify [OPTIONS] <--root <FINGERPRINT>|--key <FILE>> <BUNDLE>

    Arguments:
      <BUNDLE>  The bundle, one of its volumes, or their folder

    Options:
          --alone               Check this volume alone, and do not miss the others
          --root <FINGERPRINT>  Fingerprint of the trust root, as `keygen` printed it, or of an earlier
                                one that it follows from [alias: --trust-root]
          --key <FILE>          Public key in PEM that must have signed
          --threads <THREADS>   Threads that hash [default: N]
      -h, --help                Print help (see more with '--help')

    $ ferry-bundler inspect -h
    Show what is in a bundle; this does not say that it may be trusted

    Usage: ferry-bundler inspect [OPTIONS] <BUNDLE>

    Arguments:
      <BUNDLE>  The bundle, one of its volumes, or their folder

    Options:
          --licenses  List what is in it by licence
      -h, --help      Print help (see more with '--help')

    $ ferry-bundler diff -h
    Show what changed from one lock or bundle to another; this does not say that a bundle may be trusted

    Usage: ferry-bundler diff [OPTIONS] <OLD> <NEW>

    Arguments:
      <OLD>  The older lock or bundle
      <NEW>  The newer lock or bundle

    Options:
      -h, --help  Print help (see more with '--help')

    $ ferry-bundler export oci -h
    Write container images as an OCI image layout, or for `docker load`

    Usage: ferry-bundler export oci [OPTIONS] --output <DIR|FILE.tar> <--root <FINGERPRINT>|--key <FILE>> <BUNDLE>

    Arguments:
      <BUNDLE>  The bundle, one of its volumes, or their folder

    Options:
      -o, --output <DIR|FILE.tar>  Where to write: a folder, or a file that ends in `.tar`
          --image <NAME>           Take this image, by name or by name and tag (can be repeated)
                                   [default: all]
          --platform <PLATFORM>    Take this platform, such as linux/arm64 (can be repeated) [default:
                                   all]
          --docker                 Write what `docker save` would, for engines that do not know OCI; one
                                   platform of each image
          --root <FINGERPRINT>     Fingerprint of the trust root, as `keygen` printed it, or of an
                                   earlier one that it follows from [alias: --trust-root]
          --key <FILE>             Public key in PEM that must have signed
          --threads <THREADS>      Threads that hash [default: N]
      -h, --help                   Print help (see more with '--help')

    $ ferry-bundler split -h
    Write a bundle again in volumes of another size, signed anew; nothing is fetched

    Usage: ferry-bundler split [OPTIONS] <BUNDLE>

    Arguments:
      <BUNDLE>  The bundle, one of its volumes, or their folder. It must be signed as the root of
                `--key` or `--root` asks

    Options:
          --key <DIR>               Folder of a key that signs, as `keygen` made it (can be repeated)
          --passphrase-file <FILE>  File whose first line is the passphrase, one for all keys or one for
                                    each [default: $FERRY_KEY_PASSPHRASE, else asked]
          --root <PATH>             Trust root of the bundle: a key folder, a file of roots or a root
                                    document [default: that of the first --key]
          --unsigned                Let `sign` add the signatures later: no reader takes the bundle
                                    before
      -o, --output <FILE>           Where to write the bundle [default: NAME-RELEASE.ferry]
          --volume-size <SIZE>      Write volumes of at most this size where one file is larger: fat32,
                                    dvd, bd25, bd50, or bytes such as 4.7G
          --parity <PERCENT>        Write parity beside the bundle, which can restore this share of it,
                                    in percent
          --squeeze <KIND>          Store weights of these kinds in planes of their bytes, for slow
                                    media: bf16 keeps two thirds (can be repeated) [default: as they
                                    are; `split`: as they were] [possible values: bf16, fp16, fp32,
                                    none]
          --align                   Begin raw blobs at multiples of 4 KiB: where the bundle and the
                                    prefix are on one XFS or btrfs, installing then shares their blocks
                                    and copies nothing (`split`: also where they did)
          --threads <THREADS>       Threads that hash [default: N]
          --cache <DIR>             Folder of fetched files [default: $FERRY_CACHE, else
                                    $XDG_CACHE_HOME/ferry or ~/.cache/ferry]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler parity -h
    Write parity beside a bundle that exists already; no key is needed

    Usage: ferry-bundler parity [OPTIONS] <BUNDLE>

    Arguments:
      <BUNDLE>  The bundle, one of its volumes, or their folder

    Options:
          --share <PERCENT>     How much of the bundle it can restore, in percent [default: 10]
          --volume-size <SIZE>  Write files of at most this size: fat32, dvd, bd25, bd50, or bytes such
                                as 4.7G
          --threads <THREADS>   Threads that hash [default: N]
      -h, --help                Print help (see more with '--help')

    $ ferry-bundler repair -h
    Restore what is damaged or missing of a bundle from its parity, where it lies

    Usage: ferry-bundler repair [OPTIONS] <PLACE>

    Arguments:
      <PLACE>  The folder with the bundle and its `.par` files, or one of its files

    Options:
      -h, --help  Print help (see more with '--help')

    $ ferry-bundler cache -h
    Look after the folder of fetched files

    Usage: ferry-bundler cache [OPTIONS] <COMMAND>

    Commands:
      list    List the files
      gc      Remove what unfinished runs left behind, and files that are not wanted any more
      verify  Hash every file again
      help    Print this message or the help of the given subcommand(s)

    Options:
          --cache <DIR>  Folder of fetched files [default: $FERRY_CACHE, else $XDG_CACHE_HOME/ferry or
                         ~/.cache/ferry]
      -h, --help         Print help (see more with '--help')

    $ ferry-bundler keygen -h
    Make a signing key, encrypted, and its trust root

    Usage: ferry-bundler keygen [OPTIONS] <FOLDER>

    Arguments:
      <FOLDER>  Folder to make

    Options:
          --algorithm <NAME>        What the key signs with: p256, sm2 or ed25519 [default: p256]
          --passphrase-file <FILE>  File whose first line is the passphrase [default:
                                    $FERRY_KEY_PASSPHRASE, else asked]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler sign -h
    Add signatures to a bundle; nothing of its payload is read or moved

    Usage: ferry-bundler sign [OPTIONS] <WHAT>

    Arguments:
      <WHAT>  The bundle, one of its volumes, their folder, or a statement that was exported

    Options:
          --key <DIR>               Folder of a key that signs (can be repeated)
          --passphrase-file <FILE>  File whose first line is the passphrase, one for all keys or one for
                                    each [default: $FERRY_KEY_PASSPHRASE, else asked]
          --export <FILE>           Write the statement, for a machine that has the key
          --import <FILE>           Take a signature that was made on another machine (can be repeated)
      -o, --output <FILE>           Where to write the signature of a statement [default:
                                    STATEMENT.KEYID.ALGORITHM]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler key list -h
    Say who may sign, and what a new root still lacks

    Usage: ferry-bundler key list [OPTIONS] <PATH>

    Arguments:
      <PATH>  A key folder, a file of roots or a root document

    Options:
      -h, --help  Print help (see more with '--help')

    $ ferry-bundler key add -h
    Let more keys sign

    Usage: ferry-bundler key add [OPTIONS] <FOLDER> <PUBLIC>...

    Arguments:
      <FOLDER>     A key folder
      <PUBLIC>...  Public keys in PEM

    Options:
          --passphrase-file <FILE>  File whose first line is the passphrase [default:
                                    $FERRY_KEY_PASSPHRASE, else asked]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler key remove -h
    Let a key sign no more; what is installed by it stays good

    Usage: ferry-bundler key remove [OPTIONS] <FOLDER> <KEY>

    Arguments:
      <FOLDER>  A key folder
      <KEY>     The key's identifier, or the beginning of it

    Options:
          --passphrase-file <FILE>  File whose first line is the passphrase [default:
                                    $FERRY_KEY_PASSPHRASE, else asked]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler key revoke -h
    Distrust a key for ever, and everything that it signed

    Usage: ferry-bundler key revoke [OPTIONS] <FOLDER> <KEY>

    Arguments:
      <FOLDER>  A key folder
      <KEY>     The key's identifier, or the beginning of it

    Options:
          --passphrase-file <FILE>  File whose first line is the passphrase [default:
                                    $FERRY_KEY_PASSPHRASE, else asked]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler key rotate -h
    Put a new key in the place of this folder's own

    Usage: ferry-bundler key rotate [OPTIONS] <FOLDER>

    Arguments:
      <FOLDER>  A key folder

    Options:
          --algorithm <NAME>        What the new key signs with [default: what the old one does]
          --revoke                  Revoke the old key as well: somebody else may have it
          --passphrase-file <FILE>  File whose first line is the passphrase [default:
                                    $FERRY_KEY_PASSPHRASE, else asked]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler key threshold -h
    Set how many keys must sign

    Usage: ferry-bundler key threshold [OPTIONS] <FOLDER> <KEYS>

    Arguments:
      <FOLDER>  A key folder
      <KEYS>    How many keys; somebody who holds two counts twice

    Options:
          --passphrase-file <FILE>  File whose first line is the passphrase [default:
                                    $FERRY_KEY_PASSPHRASE, else asked]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler key require -h
    Set by which algorithms at least one key must sign, besides P-256

    Usage: ferry-bundler key require [OPTIONS] <FOLDER> [ALGORITHMS]...

    Arguments:
      <FOLDER>         A key folder
      [ALGORITHMS]...  sm2, ed25519, both, or none of them

    Options:
          --passphrase-file <FILE>  File whose first line is the passphrase [default:
                                    $FERRY_KEY_PASSPHRASE, else asked]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler key discard -h
    Forget a root that waits for signatures

    Usage: ferry-bundler key discard [OPTIONS] <FOLDER>

    Arguments:
      <FOLDER>  A key folder

    Options:
      -h, --help  Print help (see more with '--help')

    $ ferry-bundler key export -h
    Write the roots into one file: for another machine's key, or for a site

    Usage: ferry-bundler key export [OPTIONS] <FOLDER> <OUTPUT>

    Arguments:
      <FOLDER>  A key folder
      <OUTPUT>  Where to write them

    Options:
      -h, --help  Print help (see more with '--help')

    $ ferry-bundler key sign -h
    Sign the root that waits in a file, after looking at what it changes

    Usage: ferry-bundler key sign [OPTIONS] --key <DIR> <FILE>

    Arguments:
      <FILE>  A file that `key export` wrote; the signature is added to it

    Options:
          --key <DIR>               Folder of the key that signs
          --passphrase-file <FILE>  File whose first line is the passphrase [default:
                                    $FERRY_KEY_PASSPHRASE, else asked]
      -h, --help                    Print help (see more with '--help')

    $ ferry-bundler key import -h
    Take roots and signatures from a file into a key folder

    Usage: ferry-bundler key import [OPTIONS] <FOLDER> <FILE>

    Arguments:
      <FOLDER>  A key folder
      <FILE>    A file that `key export` wrote, and others signed

    Options:
      -h, --help  Print help (see more with '--help')
    ");
}
