//! Where gradients gather: each trained tensor has a buffer of its own shape, filled by this crate's backward pass and
//! by libtorch's alike.

use tch::Tensor;

use crate::BackendError;

/// Turns gradients on for `parameter` and gives it a zero buffer.
pub(crate) fn want(parameter: &Tensor) -> Result<(), BackendError> {
    let parameter = parameter.f_set_requires_grad(true)?;
    // tch offers no way to set a gradient; a backward pass of zeros makes the buffer.
    tch::with_grad(|| {
        let zeros = parameter.f_zeros_like()?;
        Ok(parameter
            .f_mul(&zeros)?
            .f_sum(parameter.kind())?
            .f_backward()?)
    })
}

/// Adds `left @ right` to the gradient of `parameter`.
pub(crate) fn add_product(
    parameter: &Tensor,
    left: &Tensor,
    right: &Tensor,
) -> Result<(), BackendError> {
    let mut gradient = parameter.f_grad()?;
    // The ops ending in `_` change their tensor in place and return it once more.
    let _ = if gradient.kind() == left.kind() {
        gradient.f_addmm_(left, right)?
    } else {
        gradient.f_add_(&left.f_mm(right)?)?
    };
    Ok(())
}

/// Adds `part` to the gradient of `parameter`.
pub(crate) fn add(parameter: &Tensor, part: &Tensor) -> Result<(), BackendError> {
    let _ = parameter.f_grad()?.f_add_(part)?;
    Ok(())
}

/// `sum + left @ right`, in the place of `sum` where there is one.
pub(crate) fn plus_product(
    sum: Option<Tensor>,
    left: &Tensor,
    right: &Tensor,
) -> Result<Tensor, BackendError> {
    match sum {
        None => Ok(left.f_mm(right)?),
        Some(mut sum) => Ok(sum.f_addmm_(left, right)?),
    }
}
