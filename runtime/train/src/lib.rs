//! Job files, the training loop, schedules and checkpoints; no libtorch.
//!
//! ```text
//! job file --Job::parse--> Job --run(Material, Trainer)--> output_dir
//! ```

mod checkpoint;
mod counts;
mod deal;
mod finish;
mod job;
mod memory;
mod order;
mod output;
mod peers;
mod plot;
mod progress;
mod results;
mod run;
mod run_folder;
mod schedule;
mod shape;
mod steps;
mod streamed_deal;
mod stretch;
mod trainer;

pub use checkpoint::Point;
pub use job::{
    Asked, Calibration, ChatJob, DataSettings, EvalJob, Evaluation, Every, ExamJob, ExportJob,
    ExportNumbers, FeedbackSettings, FineTuning, FreezeSettings, Generation, Job, JobError, Length,
    LoraSettings, LossJob, Numeric, Objective, PredictJob, PreferenceLoss, PreferenceSettings,
    Quantization, Resume, Saving, UsedModel, When, Wording, asks_for_nothing, number_in, switch,
};
pub use memory::Memory;
pub use output::is_taken;
pub use peers::{Alone, Peers};
pub use plot::{png, smoothed, svg};
pub use results::{save_file, save_results, speed};
pub use run::{Ending, Material, Summary, begin, run};
pub use run_folder::{
    FRONT_JOB, FRONT_SAID, Failure, HANDED_JOB, HANDED_LOG, OTHER_MACHINE, Record, RunFolder,
    State, ask_to_stop, is_asked_to_stop,
};
pub use schedule::{Curve, Plateau, Scheduler, Stages};
pub use shape::{ModelShape, ShapeError};
pub use steps::Steps;
pub use stretch::{Reach, Stretch, StretchRule};
pub use trainer::{StepReport, TrainError, Trainer};
