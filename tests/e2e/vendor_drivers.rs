//! Each vendor's driver by the words of its data: shown, run once, counted after a start, left where it is.

use std::fs;
use std::path::Path;

use e2e::{Played, Rig, bundle_for, installer_that_leaves};

/// A vendor whose machine was recorded with its driver.
struct Vendor<'a> {
    host: &'a str,
    chip: &'a str,
    versions: &'a [(&'a str, &'a str)],
    version: &'a str,
    file: &'a str,
    /// What the driver brings, of that machine.
    brings: &'a [&'a str],
    /// Whether the vendor lists that machine's system.
    listed: bool,
    /// Programs that the vendor wants beside the compiler.
    needs: &'a [&'a str],
    /// How the command begins and how it ends, around the file.
    command: (&'a str, &'a str),
    /// What the stand-in noted of it.
    ran: &'a str,
    /// How it is taken off, or that nobody says it.
    removal: &'a str,
}

const NONE_KNOWN: &str = "no source was found";

const VENDORS: [Vendor; 7] = [
    Vendor {
        host: "ubuntu-nvidia-t4",
        chip: "nvidia-gpu",
        versions: &[("driver", "525")],
        version: "550.127.05",
        file: "NVIDIA-Linux-x86_64-550.127.05.run",
        brings: &[
            "dev.txt",
            "cmd/nvidia-smi.txt",
            "proc/driver/nvidia/version",
        ],
        listed: true,
        needs: &[],
        command: ("sh ", " --silent"),
        ran: "driver --silent",
        removal: "nvidia-uninstall",
    },
    Vendor {
        host: "ubuntu-metax-c500",
        chip: "metax-gpu",
        versions: &[("maca", "3.2")],
        version: "2.15.9",
        file: "metax-driver-3.0.0.5-deb-x86_64.run",
        brings: &["dev.txt", "cmd/mx-smi.txt"],
        listed: true,
        needs: &[],
        command: ("bash ", " -- -f"),
        ran: "driver -- -f",
        removal: NONE_KNOWN,
    },
    Vendor {
        host: "ubuntu-mtt-s4000",
        chip: "mthreads-gpu",
        versions: &[("musa", "4.3")],
        version: "2.7.0-server",
        file: "musa_2.7.0-server_amd64.deb",
        brings: &[
            "dev.txt",
            "cmd/mthreads-gmi.txt",
            "sys/module/mtgpu/version",
        ],
        listed: true,
        needs: &["dkms", "dpkg"],
        command: ("dpkg -i ", ""),
        ran: "dpkg -i /",
        removal: "dpkg -P musa",
    },
    Vendor {
        host: "ubuntu-enflame-s60",
        chip: "enflame-gcu",
        versions: &[],
        version: "1.6.3.12",
        file: "enflame-x86_64-gcc-1.6.3.12-20251115104629.run",
        brings: &["dev.txt", "cmd/efsmi.txt", "sys/module/enflame/version"],
        listed: false,
        needs: &[],
        command: ("bash ", " -y"),
        ran: "driver -y",
        removal: NONE_KNOWN,
    },
    Vendor {
        host: "ubuntu-enflame-s60",
        chip: "enflame-gcu",
        versions: &[],
        version: "1.6.3.12",
        file: "TopsRider_i3x_3.6.107_deb_amd64.run",
        brings: &["dev.txt", "cmd/efsmi.txt", "sys/module/enflame/version"],
        listed: false,
        needs: &[],
        command: ("bash ", " --driver -y"),
        ran: "driver --driver -y",
        removal: NONE_KNOWN,
    },
    Vendor {
        host: "ubuntu-iluvatar-bi-v150",
        chip: "iluvatar-gpu",
        versions: &[],
        version: "4.3.8",
        file: "corex-driver-linux64-4.3.8-x86_64.run",
        brings: &["dev.txt", "cmd/ixsmi.txt"],
        listed: false,
        needs: &[],
        command: ("bash ", ""),
        ran: "driver ",
        removal: NONE_KNOWN,
    },
    Vendor {
        host: "centos-kunlun-p800",
        chip: "kunlunxin-xpu",
        versions: &[("driver", "5.0.21")],
        version: "5.0.21.26",
        file: "xre-Linux-x86_64-5.0.21.26.run",
        brings: &["dev.txt", "cmd/xpu-smi.txt"],
        listed: false,
        needs: &[],
        command: (
            "env KERNELDIR=/lib/modules/4.18.0-348.el8.x86_64/build bash ",
            "",
        ),
        ran: "driver ",
        removal: NONE_KNOWN,
    },
];

impl Vendor<'_> {
    /// The recorded machine as it was before its driver, and a bundle that brings that.
    fn rig(&self, scratch: &Path) -> Rig {
        let played = Played::recorded(self.host, &scratch.join("machine"));
        let brings = self.brings.iter().map(|path| (*path, played.forget(path)));
        let brings: Vec<(&str, String)> = brings.collect();
        let brings: Vec<(&str, &str)> =
            brings.iter().map(|(p, text)| (*p, text.as_str())).collect();
        played.write("dev.txt", "null\n");
        let driver = if self.runs_itself() {
            installer_that_leaves("driver", &brings)
        } else {
            // The package manager of the system does it.
            for (path, text) in brings {
                played.write(&format!("keep/{path}"), text);
            }
            let leave = "cp -r \"$FERRY_MACHINE/keep\" \"$FERRY_MACHINE/after-start\"";
            played.program("dpkg", leave);
            b"!<arch>\n".to_vec()
        };
        let host = [("driver", self.version, self.file, driver.as_slice())];
        Rig::with(played, bundle_for(self.chip, self.versions, &host))
    }

    /// Whether its file is an installer, not a package of the system's.
    fn runs_itself(&self) -> bool {
        !self.command.0.starts_with("dpkg ")
    }

    /// What asks for its driver, on a system that a person answers for where the vendor lists none.
    fn asked(&self) -> Vec<&'static str> {
        let mut words = vec!["--with-driver"];
        if !self.listed {
            words.extend(["--override", "host.os-no-list"]);
        }
        words
    }
}

#[test]
fn every_vendors_driver_is_shown_run_once_and_counts_after_a_start() {
    for vendor in &VENDORS {
        let scratch = tempfile::tempdir().unwrap();
        let rig = vendor.rig(scratch.path());
        let (name, asked) = (vendor.file, vendor.asked());
        // Without the switch the machine is only looked at, and the switch is named.
        let said = rig.preflight("1", &[]).ended_with(3);
        assert!(
            said.data.contains("host.driver-missing-brought"),
            "{name}: {said:?}"
        );
        assert!(said.data.contains("--with-driver"), "{name}: {said:?}");
        // It is built from source: what that needs is asked for before anything runs.
        let said = rig.preflight("1", &asked).ended_with(3);
        let programs = ["gcc make"].iter().chain(vendor.needs);
        for word in ["host.kernel-headers-missing"].iter().chain(programs) {
            assert!(said.data.contains(word), "{name}: {word}: {said:?}");
        }
        let said = rig.install(&asked).ended_with(3);
        for code in ["host.kernel-headers-missing", "host.programs-missing"] {
            assert!(said.words.contains(code), "{name}: {code}: {said:?}");
        }
        assert_eq!(rig.played.ran(), [""; 0], "{name}");
        let headers = format!("/lib/modules/{}/build", rig.played.kernel());
        let programs = ["gcc", "make"].iter().chain(vendor.needs);
        let mut there: Vec<String> = programs.map(|name| format!("/usr/bin/{name}")).collect();
        there.push(headers);
        rig.played
            .has(&there.iter().map(String::as_str).collect::<Vec<_>>());
        let _ = rig.preflight("1", &asked).ended_with(0);

        let before = rig.site.listing();
        let said = rig
            .install(&[&asked[..], &["--dry-run"]].concat())
            .ended_with(0);
        let (begins, ends) = vendor.command;
        let shown = said.data.lines().find(|line| line.contains(vendor.file));
        let shown = shown.unwrap_or_else(|| panic!("{name}: {said:?}"));
        assert!(
            shown.contains(begins) && shown.contains(&format!("{name}{ends}")),
            "{shown}"
        );
        assert_eq!(rig.site.listing(), before, "{name}");

        let said = rig.install(&asked).ended_with(6);
        assert!(said.data.contains("install --resume"), "{name}: {said:?}");
        let ran = rig.played.ran();
        assert!(
            ran.len() == 1 && ran[0].starts_with(vendor.ran),
            "{name}: {ran:?}"
        );
        // Before the start nothing goes on, and nothing is run again.
        let _ = rig.install(&asked).ended_with(6);
        assert_eq!(rig.played.ran(), ran, "{name}");
        assert_eq!(rig.site.current(), None, "{name}");
        rig.played.start("second");
        let _ = rig.resume().ended_with(0);
        assert_eq!(rig.site.current().as_deref(), Some("1"), "{name}");
        // All is there now.
        let _ = rig.install(&asked).ended_with(0);
        assert_eq!(rig.played.ran(), ran, "{name}");
        assert!(!rig.site.prefix().join("host").exists(), "{name}");

        rig.played
            .has(&["/usr/bin/nvidia-uninstall", "/var/lib/dpkg/info/musa.list"]);
        let said = rig.uninstall(&["--yes"]).ended_with(0);
        assert!(said.data.contains(vendor.removal), "{name}: {said:?}");
        assert_eq!(rig.played.ran(), ran, "{name}: shown, not run");
        let log = rig.site.installer(&["log", "--json"]).ended_with(0).data;
        assert!(log.contains("host-run") && log.contains(vendor.version));
    }
}

#[test]
fn a_driver_that_fails_is_told_with_its_own_words_and_tried_again() {
    for vendor in VENDORS.iter().filter(|one| one.runs_itself()) {
        let scratch = tempfile::tempdir().unwrap();
        let rig = vendor.rig(scratch.path());
        let headers = format!("/lib/modules/{}/build", rig.played.kernel());
        rig.played.has(&["/usr/bin/gcc", "/usr/bin/make", &headers]);
        let (name, asked) = (vendor.file, vendor.asked());
        // Where the machine's programs are looked for first there is one that ends badly in the shell's place.
        let shell = vendor.command.0.split_whitespace().last().unwrap();
        rig.played
            .program(shell, "echo the module does not build >&2; exit 7");
        let said = rig.install(&asked).ended_with(1);
        assert!(
            said.words.contains("install.host-failed"),
            "{name}: {said:?}"
        );
        assert!(
            said.words.contains("the module does not build"),
            "{name}: {said:?}"
        );
        assert_eq!(rig.site.current(), None, "{name}");
        fs::remove_file(rig.played.folder().join("bin").join(shell)).unwrap();
        let _ = rig.install(&asked).ended_with(6);
        rig.played.start("second");
        let _ = rig.resume().ended_with(0);
        assert_eq!(rig.site.current().as_deref(), Some("1"), "{name}");
    }
}
