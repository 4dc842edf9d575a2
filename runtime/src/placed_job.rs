//! A job as a device computes it.

use console::View;
use report::Trouble;
use serde_json::Value;
use train::Job;

use crate::device::Chosen;
use crate::rules::{self, Applied};

/// A job that a device computes.
pub(crate) trait PlacedJob: Sized {
    /// Whether something is trained, which not every chip is made for.
    const TRAINS: bool;
    /// Every key as it was given.
    fn settings(&self) -> &Value;
    /// The processor is wanted, even if there is an accelerator.
    fn use_cpu(&self) -> bool;
}

/// Reads a job as it is computed on `chosen`: what the chip's rules say is done to it, and told. A job that wants the
/// processor gets it, unless the command line says otherwise. `read` reads the job with given overrides.
pub(crate) fn fitted<J: PlacedJob>(
    chosen: &mut Chosen,
    settings: &[String],
    view: &View,
    read: impl Fn(&[String]) -> Result<J, Trouble>,
) -> Result<(J, Applied), Trouble> {
    let job = read(settings)?;
    if job.use_cpu() && !chosen.asked {
        *chosen = Chosen::processor();
    }
    let applied = rules::apply(chosen, job.settings(), J::TRAINS)?;
    applied.warn(view);
    if applied.settings.is_empty() {
        return Ok((job, applied));
    }
    let settings = [settings, &applied.settings].concat();
    Ok((read(&settings)?, applied))
}

impl PlacedJob for Job {
    const TRAINS: bool = true;

    fn settings(&self) -> &Value {
        &self.settings
    }

    fn use_cpu(&self) -> bool {
        self.use_cpu
    }
}

#[cfg(feature = "native")]
mod native {
    use console::View;
    use report::Trouble;
    use serde_json::Value;
    use torch_backend::{Place, Threads, use_threads};
    use train::{ChatJob, EvalJob, PredictJob, UsedModel};

    use super::{PlacedJob, fitted};
    use crate::device::{Chosen, DeviceArguments};
    use crate::home::Home;
    use crate::job_file;

    /// A job that uses a model as it is.
    pub(crate) trait UsingJob {
        fn used(&self) -> &UsedModel;
    }

    impl UsingJob for PredictJob {
        fn used(&self) -> &UsedModel {
            &self.used
        }
    }

    impl UsingJob for ChatJob {
        fn used(&self) -> &UsedModel {
            &self.used
        }
    }

    impl UsingJob for EvalJob {
        fn used(&self) -> &UsedModel {
            match self {
                Self::Exam(job) => &job.used,
                Self::Loss(job) => &job.used,
            }
        }
    }

    impl<J: UsingJob> PlacedJob for J {
        const TRAINS: bool = false;

        fn settings(&self) -> &Value {
            &self.used().settings
        }

        fn use_cpu(&self) -> bool {
            self.used().use_cpu
        }
    }

    /// A device that is ready for a model to be used on it.
    pub(crate) struct Desk {
        pub(crate) home: Home,
        pub(crate) chosen: Chosen,
        pub(crate) place: Place,
        /// Threads that compute.
        pub(crate) threads: usize,
    }

    impl Desk {
        /// Reads a job by `read`, and makes ready the device that it is computed on.
        pub(crate) fn open<J: UsingJob>(
            arguments: &DeviceArguments,
            settings: &[String],
            view: &View,
            read: impl Fn(&[String]) -> Result<J, Trouble>,
        ) -> Result<(J, Self), Trouble> {
            let home = Home::find();
            let mut chosen = Chosen::by(arguments, &home);
            let (job, _applied) = fitted(&mut chosen, settings, view, read)?;
            job_file::warn_of_numbers(&chosen, job.used().numeric, view);
            let threads = use_threads(Threads::Idle);
            // Before anything else asks libtorch for a device: it remembers the answer.
            let place = chosen.open(&home, view)?;
            let desk = Self {
                home,
                chosen,
                place,
                threads,
            };
            Ok((job, desk))
        }

        /// Says what can be done where the device's memory ran out for `used`.
        pub(crate) fn explained(&self, used: &UsedModel, trouble: Trouble) -> Trouble {
            self.chosen.explained(used.quantization.is_none(), trouble)
        }
    }
}

#[cfg(feature = "native")]
pub(crate) use native::{Desk, UsingJob};
