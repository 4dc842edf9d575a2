//! What a step of `AdamW` does to one parameter, a piece at a time.

use tch::Tensor;
use torch_device::Place;

use crate::BackendError;
use crate::optimizer::AdamSettings;

/// Numbers of a parameter that a step works on at a time: what it makes by the way stays in the processor's cache, and takes
/// no memory worth the name.
const PIECE: i64 = 1 << 17;

/// What a step does to one parameter.
pub(crate) struct Change {
    /// Factor on the gradient.
    pub(crate) shrink: f64,
    /// Factor on the parameter, its decay.
    pub(crate) keep: f64,
    /// The rate, corrected for the mean's start at zero.
    pub(crate) size: f64,
    /// What the square's root is corrected by.
    pub(crate) root: f64,
    pub(crate) settings: AdamSettings,
}

impl Change {
    /// Applies a gradient to its parameter and their moments, and drops it.
    pub(crate) fn apply_to(&self, tensors: [&Tensor; 4]) -> Result<(), BackendError> {
        let count = tensors[0].numel() as i64;
        // A device has its own way with memory, and each piece would be a call more.
        let step = if Place::of(tensors[0]).is_processor() {
            PIECE
        } else {
            count
        };
        let [parameter, gradient, mean, square] = tensors.map(|tensor| tensor.f_view([-1]));
        let (parameter, gradient, mean, square) = (parameter?, gradient?, mean?, square?);
        let mut start = 0;
        while start < count {
            let length = step.min(count - start);
            let piece = |tensor: &Tensor| tensor.f_narrow(0, start, length);
            self.apply(
                piece(&parameter)?,
                piece(&gradient)?,
                piece(&mean)?,
                piece(&square)?,
            )?;
            start += length;
        }
        Ok(())
    }

    fn apply(
        &self,
        mut parameter: Tensor,
        mut gradient: Tensor,
        mut mean: Tensor,
        mut square: Tensor,
    ) -> Result<(), BackendError> {
        let AdamSettings {
            beta1,
            beta2,
            epsilon,
            ..
        } = self.settings;
        // The ops ending in `_` change their tensor in place and return it once more.
        if self.shrink < 1.0 {
            let _ = gradient.f_mul_scalar_(self.shrink)?;
        }
        if self.keep < 1.0 {
            let _ = parameter.f_mul_scalar_(self.keep)?;
        }
        let _ = mean.f_lerp_(&gradient, 1.0 - beta1)?;
        let squared = gradient.f_square()?.f_mul_scalar_(1.0 - beta2)?;
        let _ = square.f_mul_scalar_(beta2)?.f_add_(&squared)?;
        let below = square
            .f_sqrt()?
            .f_div_scalar_(self.root)?
            .f_add_scalar_(epsilon)?;
        let _ = parameter.f_sub_(&mean.f_div(&below)?.f_mul_scalar_(self.size)?)?;
        let _ = gradient.f_zero_()?;
        Ok(())
    }
}
