//! What is carried, what is left out, and what is said when it cannot work.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test says what it expects by unwrapping"
)]

use std::collections::{BTreeMap, BTreeSet};

use manifest_schema::{Digest, InstalledPackage, InstalledPackages, PackageFormat, Wanted};
use os_packages::{
    Closure, Formula, Installed, Offer, Package, PackageError, Relation, Universe, from_inventory,
    from_list,
};

/// `name version` and lines such as `requires glibc = 2`, in the notation of rpm or of Debian.
fn offered(format: PackageFormat, text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap();
        let relation = |text: &str| match format {
            PackageFormat::Rpm => Relation::parse_rpm(text).unwrap(),
            PackageFormat::Deb => Relation::parse_deb(text).unwrap(),
        };
        let last: Option<&mut Package> = packages.last_mut();
        match (word, last) {
            ("requires", Some(last)) if format == PackageFormat::Rpm => {
                last.requires
                    .push(Formula::parse_rpm(rest).unwrap_or(Formula::Beyond(rest.into())));
            }
            ("requires", Some(last)) => last.requires.extend(Formula::parse_deb(rest).unwrap()),
            ("provides", Some(last)) => last.provides.push(relation(rest)),
            ("conflicts", Some(last)) => last.conflicts.push(relation(rest)),
            ("obsoletes", Some(last)) => last.obsoletes.push(relation(rest)),
            ("file", Some(last)) => last.files.push(rest.to_owned()),
            ("recommends", Some(last)) => {
                last.recommends.extend(Formula::parse_deb(rest).unwrap());
            }
            ("reluctant", Some(last)) => last.reluctant = rest == "yes",
            (name, _) => packages.push(Package {
                name: name.to_owned(),
                version: rest.to_owned(),
                arch: "noarch".to_owned(),
                offer: Some(Offer {
                    repository: 0,
                    location: format!("{name}-{rest}.rpm"),
                    size: 1,
                    digest: Digest::of(line.as_bytes()),
                }),
                ..Package::default()
            }),
        }
    }
    packages
}

/// The same notation for what is installed, as an inventory says it.
fn inventory(format: PackageFormat, text: &str) -> Installed {
    let mut list = InstalledPackages {
        format: Some(format),
        relations: true,
        ..InstalledPackages::default()
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap();
        let last: Option<&mut InstalledPackage> = list.packages.last_mut();
        match (word, last) {
            ("requires", Some(last)) => last.requires.push(rest.to_owned()),
            ("provides", Some(last)) => last.provides.push(rest.to_owned()),
            (name, _) => list.packages.push(InstalledPackage {
                name: name.to_owned(),
                version: rest.to_owned(),
                arch: "noarch".to_owned(),
                ..InstalledPackage::default()
            }),
        }
    }
    from_inventory(&list, format).unwrap()
}

fn nothing(_: &BTreeSet<String>) -> Result<BTreeMap<String, BTreeSet<String>>, PackageError> {
    Ok(BTreeMap::new())
}

fn closure(
    format: PackageFormat,
    repository: &str,
    installed: Installed,
    wanted: &[&str],
) -> Result<Closure, PackageError> {
    let wanted: Vec<Wanted> = wanted.iter().map(|one| one.parse().unwrap()).collect();
    let mut universe = Universe::new(format, "aarch64", offered(format, repository), installed);
    universe.solve(&wanted, nothing)
}

fn carried(closure: &Closure) -> Vec<String> {
    let carried = closure.carried.iter();
    carried
        .map(|one| format!("{}-{}", one.name, one.version))
        .collect()
}

fn solve(format: PackageFormat, repository: &str, installed: &str, wanted: &[&str]) -> Vec<String> {
    let installed = match installed {
        "" => Installed::default(),
        some => inventory(format, some),
    };
    carried(&closure(format, repository, installed, wanted).unwrap())
}

use PackageFormat::{Deb, Rpm};

const TOOLCHAIN: &str = "
    gcc 12-3
        requires cpp = 12-3
        requires glibc-devel >= 2.28
        requires /usr/bin/as
    cpp 12-3
        requires libc.so.6()(64bit)
    gcc 12-1
    cpp 12-1
    glibc-devel 2.34-9
        requires glibc = 2.34-9
    glibc 2.34-9
        provides libc.so.6()(64bit)
        requires glibc-common = 2.34-9
    glibc-common 2.34-9
        requires glibc = 2.34-9
    binutils 2.40-1
        file /usr/bin/as
";

#[test]
fn with_nothing_installed_all_that_is_needed_is_carried() {
    assert_eq!(
        solve(Rpm, TOOLCHAIN, "", &["gcc"]),
        [
            "binutils-2.40-1",
            "cpp-12-3",
            "gcc-12-3",
            "glibc-2.34-9",
            "glibc-common-2.34-9",
            "glibc-devel-2.34-9"
        ]
    );
}

#[test]
fn what_is_installed_is_left_out() {
    let installed = "
        glibc 2.34-9
            provides libc.so.6()(64bit)
            requires glibc-common = 2.34-9
        glibc-common 2.34-9
            requires glibc = 2.34-9
        binutils 2.40-0
    ";
    // The binutils that are there are older, but some version of theirs has the file.
    assert_eq!(
        solve(Rpm, TOOLCHAIN, installed, &["gcc"]),
        ["cpp-12-3", "gcc-12-3", "glibc-devel-2.34-9"]
    );
}

#[test]
fn an_upgrade_takes_along_what_is_tied_to_the_old_version() {
    let installed = "
        glibc 2.34-8
            provides libc.so.6()(64bit)
            requires glibc-common = 2.34-8
        glibc-common 2.34-8
            requires glibc = 2.34-8
        binutils 2.40-1
    ";
    let expected = [
        "cpp-12-3",
        "gcc-12-3",
        "glibc-2.34-9",
        "glibc-common-2.34-9",
        "glibc-devel-2.34-9",
    ];
    assert_eq!(solve(Rpm, TOOLCHAIN, installed, &["gcc"]), expected);
    // A list without relations borrows them from the repository, tied to its own versions.
    let list = "glibc-2.34-8.noarch\nglibc-common-2.34-8.noarch\nbinutils-2.40-1.noarch\n";
    let list = from_list(list, Rpm).unwrap();
    let found = closure(Rpm, TOOLCHAIN, list, &["gcc"]).unwrap();
    assert_eq!(carried(&found), expected);
}

#[test]
fn what_is_wanted_and_there_is_said_to_be_there() {
    let installed = inventory(Rpm, "gcc 12-1\ncpp 12-1");
    let found = closure(Rpm, TOOLCHAIN, installed.clone(), &["gcc", "cpp"]).unwrap();
    assert_eq!(carried(&found), Vec::<String>::new());
    assert_eq!(found.present.len(), 2);
    // Unless another version is asked for by name.
    let found = closure(Rpm, TOOLCHAIN, installed, &["cpp=12-3"]).unwrap();
    assert_eq!(carried(&found)[..2], ["cpp-12-3", "glibc-2.34-9"]);
    assert!(found.present.is_empty());
}

#[test]
fn alternatives_prefer_what_is_there_then_the_first() {
    let repository = "
        mail 1
            requires default-mta | mail-transport-agent, libc6 (>= 2)
        exim 4
            provides mail-transport-agent
        default-mta 1
            requires exim
        libc6 3
    ";
    assert_eq!(
        solve(Deb, repository, "", &["mail"]),
        ["default-mta-1", "exim-4", "libc6-3", "mail-1"]
    );
    let there = "
        postfix 3
            provides mail-transport-agent
        libc6 2.5
    ";
    assert_eq!(solve(Deb, repository, there, &["mail"]), ["mail-1"]);
}

#[test]
fn a_virtual_name_without_a_version_meets_a_version_in_rpm_alone() {
    let repository = "
        app 1
            requires api >= 2
        server 1
            provides api
    ";
    assert_eq!(solve(Rpm, repository, "", &["app"]), ["app-1", "server-1"]);
    let repository = "
        app 1
            requires api (>= 2)
        server 1
            provides api
        newer 1
            provides api (= 2.1)
    ";
    assert_eq!(solve(Deb, repository, "", &["app"]), ["app-1", "newer-1"]);
}

#[test]
fn a_suite_that_asks_to_be_left_alone_is_taken_from_where_nothing_else_has_it() {
    let repository = "
        tool 2
            reluctant yes
        tool 1
        only 3
            reluctant yes
            requires tool
        newer 1
            requires tool (>= 2)
    ";
    assert_eq!(solve(Deb, repository, "", &["only"]), ["only-3", "tool-1"]);
    assert_eq!(
        solve(Deb, repository, "", &["newer"]),
        ["newer-1", "tool-2"]
    );
    assert_eq!(solve(Deb, repository, "", &["tool=2"]), ["tool-2"]);
}

#[test]
fn what_is_recommended_and_could_be_had_is_named_and_not_carried() {
    let repository = "
        gcc 12
            recommends libc6-dev | libc-dev, make, nowhere, there, cpp
            requires cpp
        cpp 12
            recommends cpp-doc
        cpp-doc 12
        libc6-dev 2
        make 4
        there 2
    ";
    let found = closure(Deb, repository, inventory(Deb, "there 1"), &["gcc"]).unwrap();
    assert_eq!(carried(&found), ["cpp-12", "gcc-12"]);
    let left_out = BTreeMap::from([(
        "gcc".to_owned(),
        vec!["(libc6-dev or libc-dev)".to_owned(), "make".to_owned()],
    )]);
    assert_eq!(found.left_out, left_out);
    let wanted = ["gcc", "libc6-dev", "make"];
    let found = closure(Deb, repository, inventory(Deb, "there 1"), &wanted).unwrap();
    assert_eq!(found.left_out, BTreeMap::new());
}

#[test]
fn a_path_that_is_a_file_of_one_package_may_be_provided_by_an_installed_one() {
    let repository = "
        script 1
            requires /bin/sh
        busybox 1
            file /bin/sh
    ";
    let there = "bash 5\nprovides /bin/sh";
    assert_eq!(solve(Rpm, repository, there, &["script"]), ["script-1"]);
    assert_eq!(
        solve(Rpm, repository, "", &["script"]),
        ["busybox-1", "script-1"]
    );
}

#[test]
fn rich_dependencies_hold() {
    let repository = "
        app 1
            requires (plugin if desktop)
            requires (lib >= 1 with lib < 2)
            requires (a or b)
        plugin 1
        desktop 1
        lib 1.5
        lib 2.5
        a 1
        b 1
    ";
    assert_eq!(
        solve(Rpm, repository, "", &["app"]),
        ["a-1", "app-1", "lib-1.5"]
    );
    assert_eq!(
        solve(Rpm, repository, "", &["app", "desktop"]),
        ["a-1", "app-1", "desktop-1", "lib-1.5", "plugin-1"]
    );
    assert_eq!(
        solve(Rpm, repository, "desktop 1", &["app"]),
        ["a-1", "app-1", "lib-1.5", "plugin-1"]
    );
    // A package with a need that cannot be decided is not taken where there is another.
    let undecided = "
        app 2
            requires (a unless b)
        app 1
    ";
    assert_eq!(solve(Rpm, undecided, "", &["app"]), ["app-1"]);
}

#[test]
fn a_kernel_stands_beside_another_and_what_is_obsolete_is_replaced() {
    let repository = "
        kernel-devel 5-2
        kernel-devel 5-1
        new 1
            obsoletes old < 2
            provides old = 2
        needs-new 1
            requires new
    ";
    assert_eq!(
        solve(Rpm, repository, "kernel-devel 5-0", &["kernel-devel=5-1"]),
        ["kernel-devel-5-1"]
    );
    assert_eq!(
        solve(Rpm, repository, "old 1", &["needs-new"]),
        ["needs-new-1", "new-1"]
    );
}

#[test]
fn what_cannot_work_names_who_needs_and_who_excludes_whom() {
    let cases = [
        (
            "app 1\n requires middle >= 3\nmiddle 3\n requires nowhere",
            "",
            &["app"][..],
            &["app", "middle", "nowhere"][..],
        ),
        (
            "app 1\n requires one\n requires two\none 1\n conflicts two\ntwo 1",
            "",
            &["app"],
            &["one", "two"],
        ),
        (
            "app 1\n conflicts there",
            "there 1",
            &["app"],
            &["app", "there"],
        ),
        (
            "app 1\n requires lib = 2\nlib 2",
            "lib 1\ntool 1\n requires lib = 1",
            &["app"],
            &["app", "tool", "lib = 2"],
        ),
        (
            "app 1\n requires lib = 1\nlib 1",
            "lib 2",
            &["app"],
            &["app", "lib = 1"],
        ),
    ];
    for (repository, installed, wanted, names) in cases {
        let installed = match installed {
            "" => Installed::default(),
            some => inventory(Rpm, some),
        };
        let error = closure(Rpm, repository, installed, wanted).unwrap_err();
        assert!(matches!(error, PackageError::Unsolvable { .. }), "{error}");
        for name in names {
            assert!(
                error.to_string().contains(name),
                "{repository}: {name} in\n{error}"
            );
        }
    }
    let error = closure(Rpm, TOOLCHAIN, Installed::default(), &["gc"]).unwrap_err();
    assert!(error.to_string().contains("`gc`"), "{error}");
    let error = closure(Rpm, TOOLCHAIN, Installed::default(), &["gcc=13"]).unwrap_err();
    assert!(error.to_string().contains("there is 12-3, 12-1"), "{error}");
}

#[test]
fn what_an_installed_package_lacks_today_it_may_lack_tomorrow() {
    let installed = "broken 1\n requires gone\nfine 1\n requires broken";
    assert_eq!(
        solve(Rpm, "app 1\n requires fine", installed, &["app"]),
        ["app-1"]
    );
}

#[test]
fn a_path_that_the_short_list_lacks_is_looked_up_once() {
    let repository = "app 1\n requires /opt/tool\ntool 1\nother 1\n requires /opt/never";
    let mut universe = Universe::new(
        Rpm,
        "aarch64",
        offered(Rpm, repository),
        Installed::default(),
    );
    let mut asked = Vec::new();
    let mut look_up = |paths: &BTreeSet<String>| {
        asked.push(paths.clone());
        let owner = BTreeSet::from(["tool".to_owned()]);
        Ok::<_, PackageError>(BTreeMap::from([("/opt/tool".to_owned(), owner)]))
    };
    let found = universe
        .solve(&["app".parse().unwrap()], &mut look_up)
        .unwrap();
    assert_eq!(carried(&found), ["app-1", "tool-1"]);
    assert_eq!(asked, [BTreeSet::from(["/opt/tool".to_owned()])]);
    let error = universe
        .solve(&["other".parse().unwrap()], nothing)
        .unwrap_err();
    assert!(error.to_string().contains("/opt/never"), "{error}");
}

#[test]
fn the_order_of_a_repository_does_not_matter() {
    let packages = offered(Rpm, TOOLCHAIN);
    let installed = || {
        inventory(
            Rpm,
            "glibc 2.34-8\n requires glibc-common = 2.34-8\nglibc-common 2.34-8",
        )
    };
    let solve = |packages: Vec<Package>| {
        let mut universe = Universe::new(Rpm, "aarch64", packages, installed());
        carried(&universe.solve(&["gcc".parse().unwrap()], nothing).unwrap())
    };
    let expected = solve(packages.clone());
    for turn in 1..packages.len() {
        let mut turned = packages.clone();
        turned.rotate_left(turn);
        assert_eq!(solve(turned.clone()), expected, "{turn}");
        turned.reverse();
        assert_eq!(solve(turned), expected, "{turn} backwards");
    }
}
