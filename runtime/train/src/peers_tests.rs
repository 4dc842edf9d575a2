//! Two processes of a run, as two threads.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use report::Recorder;
use train_data::{Batch, Example, Item};

use super::*;
use crate::{Ending, Job, Material, StepReport, Summary, Trainer, run};

/// One of two threads that stand for processes.
struct Half {
    rank: usize,
    meeting: Arc<(Barrier, Mutex<Vec<Vec<f64>>>)>,
}

impl Half {
    fn pair() -> [Self; 2] {
        let meeting = Arc::new((Barrier::new(2), Mutex::new(Vec::new())));
        [0, 1].map(|rank| Self {
            rank,
            meeting: Arc::clone(&meeting),
        })
    }
}

impl Peers for Half {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        2
    }

    fn sum(&self, numbers: &mut [f64]) -> Result<(), TrainError> {
        let (barrier, said) = &*self.meeting;
        said.lock().unwrap().push(numbers.to_vec());
        barrier.wait();
        let all = said.lock().unwrap().clone();
        for (place, number) in numbers.iter_mut().enumerate() {
            *number = all.iter().map(|one| one[place]).sum();
        }
        if barrier.wait().is_leader() {
            said.lock().unwrap().clear();
        }
        barrier.wait();
        Ok(())
    }
}

/// Remembers what it was given; its loss is the first token of each batch.
#[derive(Default)]
struct Fake {
    seen: Vec<i64>,
    loads: usize,
}

impl Trainer for Fake {
    fn step(&mut self, batches: &[Batch], _rate: f64) -> Result<StepReport, TrainError> {
        let rows = batches.iter().flat_map(|b| b.input_ids.chunks(b.columns));
        self.seen.extend(rows.map(|row| row[0]));
        Ok(StepReport {
            loss: 1.0,
            grad_norm: 1.0,
            ..StepReport::default()
        })
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<f64, TrainError> {
        Ok(batch.input_ids[0] as f64)
    }

    fn save(&mut self, folder: &Path) -> Result<(), TrainError> {
        fs::write(folder.join("weights"), self.seen.len().to_string()).unwrap();
        Ok(())
    }

    fn save_state(&mut self, _folder: &Path) -> Result<(), TrainError> {
        Ok(())
    }

    fn load(&mut self, _folder: &Path, _state: bool) -> Result<(), TrainError> {
        self.loads += 1;
        Ok(())
    }
}

fn train(folder: &Path, more: &str, stop: Option<usize>) -> [(Summary, Fake); 2] {
    let text = format!(
        "model_name_or_path: m\ndataset: d\ntemplate: qwen\noutput_dir: {}\nlogging_steps: 1\n\
         per_device_train_batch_size: 2\ngradient_accumulation_steps: 2\nnum_train_epochs: 1\n{more}",
        folder.join("out").display()
    );
    let job = Job::parse("job.yaml", &text, &[]).unwrap();
    let items: Vec<Item> = (0..16_u32)
        .map(|id| {
            Item::Single(Example {
                input_ids: vec![id, 1],
                labels: vec![i64::from(id), 1],
                packed: None,
            })
        })
        .collect();
    let one = |half: Half| {
        let stop = AtomicBool::new(stop == Some(half.rank));
        let material = Material {
            items: &items,
            stream: None,
            eval_items: &items[..6],
            eval_parts: &[],
            padding_id: 0,
            threads: 1,
            stop: &stop,
            peers: &half,
        };
        let mut fake = Fake::default();
        let summary = run(&job, &material, &mut fake, &Recorder::default()).unwrap();
        (summary, fake)
    };
    thread::scope(|scope| {
        let [first, second] = Half::pair();
        let other = scope.spawn(|| one(second));
        let first = one(first);
        [first, other.join().unwrap()]
    })
}

#[test]
fn each_process_learns_its_part_and_the_first_one_writes() {
    let folder = tempfile::tempdir().unwrap();
    let more = "disable_shuffling: true\neval_strategy: steps\neval_steps: 1\nsave_steps: 1\n\
                val_size: 6\nper_device_eval_batch_size: 2\nload_best_model_at_end: true\nplot_loss: true\n";
    let [(first, a), (second, b)] = train(folder.path(), more, None);
    assert_eq!(a.seen, [0, 1, 4, 5, 8, 9, 12, 13]);
    assert_eq!(b.seen, [2, 3, 6, 7, 10, 11, 14, 15]);
    assert_eq!((first.steps, first.planned), (2, 2));
    assert_eq!(first.losses, second.losses);
    // Three micro-batches of two, that begin with 0, 2 and 4, dealt round.
    assert_eq!(first.evaluations, second.evaluations);
    assert!(
        first
            .evaluations
            .iter()
            .all(|(_, loss)| (loss - 2.0).abs() < 1e-12)
    );
    // Both go back to the best weights, which one of them wrote.
    assert_eq!((a.loads, b.loads), (1, 1));
    let at = |name: &str| folder.path().join("out").join(name);
    let log = fs::read_to_string(at("trainer_log.jsonl")).unwrap();
    assert_eq!(log.matches("\"loss\"").count(), 2, "{log}");
    assert_eq!(fs::read_to_string(at("checkpoint-2/weights")).unwrap(), "8");
    let left = fs::read_dir(at("")).unwrap();
    let left = left.filter(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn a_stop_that_one_process_sees_stops_all_at_the_same_step() {
    for rank in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        let both = train(folder.path(), "", Some(rank));
        for (summary, fake) in both {
            assert_eq!((summary.ending, summary.steps), (Ending::Stopped, 0));
            assert!(fake.seen.is_empty());
        }
        assert!(folder.path().join("out/checkpoint-0/weights").exists());
    }
}
