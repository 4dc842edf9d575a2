//! Loss scaling for 16-bit floating point, as torch.amp's `GradScaler` does it.
//!
//! Gradients are computed so many times too large that small ones do not vanish. Where one of them overflows, the step is
//! left out and the next one is scaled less; after many steps that went well it is scaled more.

/// How much a loss is scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scaler {
    /// The factor, a power of two.
    pub(crate) scale: f64,
    /// Steps that went well since it last changed.
    pub(crate) good: u32,
    /// Steps left out in all.
    pub(crate) skipped: u32,
}

/// The defaults of the original.
const START: f64 = 65_536.0;
const GROWTH: f64 = 2.0;
const BACKOFF: f64 = 0.5;
const INTERVAL: u32 = 2000;

impl Default for Scaler {
    fn default() -> Self {
        Self {
            scale: START,
            good: 0,
            skipped: 0,
        }
    }
}

impl Scaler {
    /// Takes note of a step whose gradients were, or were not, all finite.
    pub(crate) fn note(&mut self, finite: bool) {
        if !finite {
            self.scale *= BACKOFF;
            self.good = 0;
            self.skipped += 1;
            return;
        }
        self.good += 1;
        if self.good == INTERVAL {
            // As in the original: no further than 32 bits reach.
            if self.scale * GROWTH <= f64::from(f32::MAX) {
                self.scale *= GROWTH;
            }
            self.good = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_halves_and_two_thousand_good_steps_double() {
        let mut scaler = Scaler::default();
        scaler.note(true);
        scaler.note(false);
        assert_eq!(
            (scaler.scale, scaler.good, scaler.skipped),
            (32_768.0, 0, 1)
        );
        (0..INTERVAL - 1).for_each(|_| scaler.note(true));
        assert_eq!((scaler.scale, scaler.good), (32_768.0, INTERVAL - 1));
        scaler.note(true);
        assert_eq!(
            (scaler.scale, scaler.good, scaler.skipped),
            (65_536.0, 0, 1)
        );
    }
}
