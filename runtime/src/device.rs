//! Which device a command computes on, and what its chip asks for.
//!
//! ```text
//! --device, else the accelerator whose chip and library are both there, else the processor
//! libraries: $FERRY_DEVICE_LIBRARIES, <release>/backend/lib, lib/ beside the program
//! ```

use std::env;
use std::path::PathBuf;

use host_probe::{RealHost, accelerators};
use manifest_schema::chip::{Chip, Family};
use manifest_schema::policy::Policy;
use manifest_schema::site::Device;
use report::{Event, Sink};

use crate::home::Home;

/// Folders with device libraries, in the form of `PATH`.
const FOLDERS: &str = "FERRY_DEVICE_LIBRARIES";

/// What the command line says of devices.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct DeviceArguments {
    /// Where to compute: cpu, cuda, dcu, mlu or npu, with a number behind a colon where there are several. Without it
    /// the accelerator whose library is installed, else the processor
    #[arg(long, value_name = "DEVICE", value_parser = wish)]
    pub(crate) device: Option<Wish>,
    /// The chip, such as `ascend-910b`, where it cannot be found by itself; what holds for it then holds
    #[arg(long, value_name = "CHIP", value_parser = chip)]
    pub(crate) chip: Option<&'static Chip>,
}

/// A device by its name on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    policy: &'static Policy,
    index: usize,
}

fn wish(text: &str) -> Result<Wish, String> {
    let (name, index) = text.split_once(':').unwrap_or((text, "0"));
    let policy = Policy::of_device(name).ok_or_else(|| {
        let known = Policy::all().iter().map(|policy| policy.device.as_str());
        format!("known are {}", known.collect::<Vec<_>>().join(", "))
    })?;
    let index = index.parse().ok().filter(|index| *index < 1024);
    let index = index.ok_or("behind the colon stands the device's number, counted from 0")?;
    Ok(Wish { policy, index })
}

fn chip(text: &str) -> Result<&'static Chip, String> {
    Chip::named(text).ok_or_else(|| {
        let known = Chip::all().map(|chip| chip.name.as_str());
        format!("known are {}", known.collect::<Vec<_>>().join(", "))
    })
}

/// A device to compute on.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// What holds for its family.
    pub(crate) policy: &'static Policy,
    /// Its number.
    pub(crate) index: usize,
    /// The command line names it.
    pub(crate) asked: bool,
    /// Its chip, where that is known.
    pub(crate) chip: Option<&'static Chip>,
    /// Its PCI number, likewise.
    pub(crate) model: Option<String>,
    /// An accelerator that is there and not used: its name, and what it would need.
    pub(crate) unused: Option<(String, String)>,
}

impl Chosen {
    /// The processor.
    pub(crate) fn processor() -> Self {
        Self {
            policy: Policy::of_family("cpu").expect("the processor's policy is embedded"),
            index: 0,
            asked: false,
            chip: None,
            model: None,
            unused: None,
        }
    }

    /// Settles it by the command line and what this machine has.
    pub(crate) fn by(arguments: &DeviceArguments, home: &Home) -> Self {
        let folders = folders(home);
        Self::by_what_is_missing(arguments, |policy| {
            let file = &policy.library.as_ref()?.file;
            let there = folders.iter().any(|folder| folder.join(file).is_file());
            (!there).then(|| file.clone())
        })
    }

    /// The same for another program than this one; `missing` names what it lacks to compute on a family's devices.
    pub(crate) fn by_what_is_missing(
        arguments: &DeviceArguments,
        missing: impl Fn(&Policy) -> Option<String>,
    ) -> Self {
        let found = || accelerators(&RealHost::default());
        let chosen = match &arguments.device {
            Some(wish) if wish.policy.library.is_none() => Self::processor(),
            Some(wish) => Self::of(wish.policy, wish.index, arguments.chip, &found()),
            None => Self::found(&found(), arguments.chip, missing),
        };
        Self {
            asked: arguments.device.is_some(),
            ..chosen
        }
    }

    /// Whether it is the processor.
    pub(crate) fn is_processor(&self) -> bool {
        self.policy.library.is_none()
    }

    /// Warns of an accelerator that is there and not used.
    pub(crate) fn warn_of_unused(&self, sink: &dyn Sink) {
        if let Some((chip, file)) = &self.unused {
            sink.emit(&Event::Warned {
                code: "runtime.device-unused".to_owned(),
                args: vec![
                    ("chip".to_owned(), chip.clone()),
                    ("file".to_owned(), file.clone()),
                ],
            });
        }
    }

    /// As `--device` takes it.
    pub(crate) fn label(&self) -> String {
        if self.is_processor() {
            self.policy.device.clone()
        } else {
            format!("{}:{}", self.policy.device, self.index)
        }
    }

    /// Its chip as people call it.
    pub(crate) fn title(&self) -> &str {
        let family = Family::named(&self.policy.name).map(|family| family.title.as_str());
        let chip = self.chip.map(|chip| chip.title.as_str());
        chip.or(family).unwrap_or(&self.policy.device)
    }

    fn of(
        policy: &'static Policy,
        index: usize,
        chip: Option<&'static Chip>,
        found: &[Device],
    ) -> Self {
        let mut own = found.iter().filter(|device| device.family == policy.name);
        // Boxes with chips of several kinds were not seen; the first one speaks for all.
        let device = own.next().filter(|_| chip.is_none());
        let known = device.and_then(|device| Chip::named(device.chip.as_deref()?));
        Self {
            policy,
            index,
            asked: false,
            chip: chip.or(known),
            model: device.map(|device| device.device.clone()),
            unused: None,
        }
    }

    /// The first accelerator for which nothing is `missing`, else the processor.
    fn found(
        found: &[Device],
        chip: Option<&'static Chip>,
        missing: impl Fn(&Policy) -> Option<String>,
    ) -> Self {
        let mut unused = None;
        for policy in Policy::all().iter().filter(|one| one.library.is_some()) {
            let meant = chip.and_then(|chip| Family::of_chip(&chip.name));
            let meant = meant.is_some_and(|family| family.name == policy.name);
            let device = found.iter().find(|device| device.family == policy.name);
            if device.is_none() && !meant {
                continue;
            }
            let Some(missing) = missing(policy) else {
                return Self::of(policy, 0, chip, found);
            };
            let name = device.and_then(|device| device.product.clone());
            let name = name.unwrap_or_else(|| policy.name.clone());
            unused = unused.or(Some((name, missing)));
        }
        Self {
            unused,
            ..Self::processor()
        }
    }
}

/// Where device libraries are looked for.
pub(crate) fn folders(home: &Home) -> Vec<PathBuf> {
    let given = env::var_os(FOLDERS).unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&given)
        .filter(|folder| folder.is_absolute())
        .collect();
    folders.extend(home.release.iter().map(|home| home.join("backend/lib")));
    let program = env::current_exe().ok();
    let beside = program.and_then(|path| Some(path.parent()?.parent()?.join("lib")));
    folders.extend(beside);
    folders.dedup();
    folders
}

#[cfg(feature = "native")]
mod native {
    use std::path::PathBuf;

    use console::View;
    use report::{Event, Sink as _, Trouble};
    use torch_backend::{Bridge, Library, Loaded, Place, Registers};

    use super::{Chosen, folders};
    use crate::error::RuntimeError;
    use crate::home::Home;
    use crate::rules;

    /// What the wheel's build of `torch_npu` asks of Python before it makes its first tensor, and no more: packages that
    /// are there already need no Python of theirs.
    const SCRIPT: &str = "import sys, types\n\
        def named(name):\n    made = types.ModuleType(name)\n    made.__file__ = '/nonexistent/' + name\n    return made\n\
        chip, torch, plugin = named('torch_npu.npu'), named('torch'), named('torch_npu')\n\
        chip._lazy_init = lambda: None\n\
        torch.npu = plugin.npu = chip\n\
        sys.modules.update({'torch': torch, 'torch.npu': chip, 'torch_npu': plugin, 'torch_npu.npu': chip})\n";

    impl Chosen {
        /// Loads the device's library; none for the processor.
        pub(crate) fn load(&self, home: &Home) -> Result<Option<Loaded>, Trouble> {
            let Some(library) = &self.policy.library else {
                return Ok(None);
            };
            let library = Library {
                file: &library.file,
                first: &library.first,
                registers: match library.registers.as_str() {
                    "cuda" => Registers::Cuda,
                    name => Registers::Private(name),
                },
                script: SCRIPT,
            };
            Ok(Some(library.load(&folders(home))?))
        }

        /// Makes it ready: where tensors are to be put from now on.
        pub(crate) fn open(&self, home: &Home, view: &View) -> Result<Place, Trouble> {
            self.warn_of_unused(view);
            match self.load(home)? {
                None => Ok(Place::PROCESSOR),
                Some(loaded) => Ok(loaded.choose(self.index)?),
            }
        }

        /// What adds numbers up on the devices themselves, where it is installed; `place` is that of this process. The first
        /// process of a run says where there is none, and looks whether it is made for the device's library.
        pub(crate) fn bridge(
            &self,
            home: &Home,
            place: Place,
            first: bool,
            view: &View,
        ) -> Result<Option<Bridge>, Trouble> {
            let (Some(library), Some(collective)) = (&self.policy.library, &self.policy.collective)
            else {
                return Ok(None);
            };
            let folders = folders(home);
            let find = |file: &str| -> Option<PathBuf> {
                let mut paths = folders.iter().map(|folder| folder.join(file));
                paths.find(|path| path.is_file())
            };
            let Some(path) = find(&collective.bridge) else {
                if first {
                    view.emit(&Event::Warned {
                        code: "runtime.no-bridge".to_owned(),
                        args: vec![
                            ("file".to_owned(), collective.bridge.clone()),
                            ("collective".to_owned(), collective.name.clone()),
                        ],
                    });
                }
                return Ok(None);
            };
            let library = find(&library.file).filter(|_| first);
            Ok(Some(Bridge::open(&path, library.as_deref(), place)?))
        }

        /// Who adds numbers up, by name.
        pub(crate) fn collective(&self, bridge: Option<&Bridge>) -> &str {
            match &self.policy.collective {
                Some(collective) if bridge.is_some() => &collective.name,
                _ => "gloo",
            }
        }

        /// Where the device's memory ran out, says what the chip allows to be done about that. `packs`: the job could hold
        /// its weights in four bits and does not.
        pub(crate) fn explained(&self, packs: bool, trouble: Trouble) -> Trouble {
            let error = trouble.diagnose();
            if self.is_processor() || error.code() != "torch.out-of-memory" {
                return trouble;
            }
            let args = error.args().into_iter();
            let reason = args.filter(|(name, _)| *name == "reason");
            let reason: String = reason.map(|(_, value)| value).collect();
            // The processor's memory may run out as well; libtorch says that in other words.
            if !reason.contains("out of memory") {
                return trouble;
            }
            RuntimeError::DeviceFull {
                chip: self.title().to_owned(),
                reason,
                packable: packs && !rules::refuses(self, "quantization_bit"),
            }
            .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use manifest_schema::site::DeviceState;

    use super::*;

    fn device(family: &str, chip: &str, number: &str) -> Device {
        Device {
            address: "0000:01:00.0".to_owned(),
            vendor: "19e5".to_owned(),
            device: number.to_owned(),
            subsystem: String::new(),
            class: "120000".to_owned(),
            family: family.to_owned(),
            chip: Some(chip.to_owned()),
            product: Some("a board".to_owned()),
            state: DeviceState::Ready,
        }
    }

    #[test]
    fn a_device_is_named_with_its_number() {
        for (text, label) in [
            ("cpu", "cpu"),
            ("npu", "npu:0"),
            ("npu:3", "npu:3"),
            ("dcu:1", "dcu:1"),
        ] {
            let wish = wish(text).unwrap();
            let chosen = Chosen::of(wish.policy, wish.index, None, &[]);
            assert_eq!(chosen.label(), label);
        }
        for wrong in ["gpu", "npu:", "npu:x", "npu:-1", "npu:1:2", ""] {
            assert!(wish(wrong).is_err(), "{wrong}");
        }
        assert!(wish("gpu").unwrap_err().contains("npu"));
    }

    #[test]
    fn an_accelerator_is_taken_where_chip_and_library_are_there() {
        let missing = |_: &Policy| Some("libtorch_npu.so".to_owned());
        let there = [device("ascend", "ascend-910b", "d802")];
        let without = Chosen::found(&there, None, missing);
        assert!(without.is_processor());
        let unused = without.unused.unwrap();
        assert_eq!(unused, ("a board".to_owned(), "libtorch_npu.so".to_owned()));
        let with = Chosen::found(&there, None, |_| None);
        assert_eq!(
            (with.label().as_str(), with.title()),
            ("npu:0", "Ascend 910B")
        );
        assert_eq!(with.model.as_deref(), Some("d802"));
        let elsewhere = Chosen::found(&[], None, |_| None);
        assert!(elsewhere.is_processor() && elsewhere.unused.is_none());
    }
}
