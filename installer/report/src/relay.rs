//! Events that wait for nobody.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::event::{Event, Sink};

/// Events that may wait to be shown.
const WAITING: usize = 1024;

/// Lets `work` emit without ever waiting for a terminal or a pipe that nobody reads: `sink` shows from a thread of its
/// own, and what it cannot keep up with is dropped. Returns once everything that waited is shown.
pub fn relayed<T>(sink: &dyn Sink, work: impl FnOnce(&dyn Sink) -> T) -> T {
    let (sender, receiver) = sync_channel(WAITING);
    thread::scope(|scope| {
        scope.spawn(move || receiver.iter().for_each(|event| sink.emit(&event)));
        let relay = Relay(sender);
        work(&relay)
    })
}

/// The end that never waits.
struct Relay(SyncSender<Event>);

impl Sink for Relay {
    fn emit(&self, event: &Event) {
        // Figures are absolute, so a lost event harms nothing.
        let _ = self.0.try_send(event.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::Recorder;

    fn progress(done: u64) -> Event {
        Event::Progress {
            step: "step.fetch".to_owned(),
            subject: String::new(),
            done,
        }
    }

    #[test]
    fn everything_arrives_in_order() {
        let recorder = Recorder::default();
        relayed(&recorder, |sink| {
            (0..100).for_each(|n| sink.emit(&progress(n)));
        });
        let wanted: Vec<Event> = (0..100).map(progress).collect();
        assert_eq!(recorder.events(), wanted);
    }

    /// Shows nothing before it may.
    struct Stuck<'a>(&'a Mutex<()>, Recorder);

    impl Sink for Stuck<'_> {
        fn emit(&self, event: &Event) {
            let _may = self.0.lock().unwrap();
            self.1.emit(event);
        }
    }

    #[test]
    fn a_sink_that_is_stuck_stops_nothing() {
        let gate = Mutex::new(());
        let stuck = Stuck(&gate, Recorder::default());
        let closed = gate.lock().unwrap();
        relayed(&stuck, |sink| {
            (0..5000).for_each(|n| sink.emit(&progress(n)));
            drop(closed);
        });
        let shown = stuck.1.events().len();
        assert!((WAITING..5000).contains(&shown), "{shown} were shown");
    }
}
