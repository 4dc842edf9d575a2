//! How a run is made to end: politely first, then less and less so.

use std::time::{Duration, Instant};

/// One way to ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rung {
    /// Finish the step and save: `TERM` to who trains, where transformers takes it so.
    Ask,
    /// Stop where you are: `INT` to who trains.
    Interrupt,
    /// `TERM` to all.
    Terminate,
    /// `KILL` to all.
    Kill,
}

/// The rungs in their order, each with the time that it gives.
pub(crate) struct Ladder {
    rungs: Vec<(Rung, Duration)>,
    /// How many were used.
    used: usize,
    until: Option<Instant>,
}

impl Ladder {
    /// A run that `saves` when asked gets `grace` for it; the harder ways get less.
    pub(crate) fn new(saves: bool, grace: Duration) -> Self {
        let mut rungs = Vec::new();
        if saves {
            rungs.push((Rung::Ask, grace));
        }
        rungs.push((Rung::Interrupt, grace.min(Duration::from_secs(30))));
        rungs.push((Rung::Terminate, grace.min(Duration::from_secs(10))));
        rungs.push((Rung::Kill, Duration::MAX));
        Self {
            rungs,
            used: 0,
            until: None,
        }
    }

    /// What is due `now`: the first rung when somebody asks, the next when its time is up or somebody asks again.
    pub(crate) fn next(&mut self, asked: bool, now: Instant) -> Option<Rung> {
        let is_up = self.until.is_some_and(|until| now >= until);
        if !asked && !is_up {
            return None;
        }
        let (rung, time) = *self.rungs.get(self.used)?;
        self.used += 1;
        self.until = now.checked_add(time);
        Some(rung)
    }

    /// Whether anybody asked.
    pub(crate) fn has_begun(&self) -> bool {
        self.used > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rung_has_its_time_and_asking_again_takes_the_next() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut ladder = Ladder::new(true, second * 60);
        assert_eq!(ladder.next(false, start), None);
        assert!(!ladder.has_begun());
        assert_eq!(ladder.next(true, start), Some(Rung::Ask));
        assert_eq!(ladder.next(false, start + second * 59), None);
        assert_eq!(
            ladder.next(false, start + second * 60),
            Some(Rung::Interrupt)
        );
        assert_eq!(
            ladder.next(true, start + second * 61),
            Some(Rung::Terminate)
        );
        assert_eq!(ladder.next(false, start + second * 71), Some(Rung::Kill));
        assert_eq!(ladder.next(true, start + second * 72), None);
        let mut older = Ladder::new(false, second);
        assert_eq!(older.next(true, start), Some(Rung::Interrupt));
        assert_eq!(older.next(false, start + second), Some(Rung::Terminate));
    }
}
