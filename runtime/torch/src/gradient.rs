//! Where gradients gather: each trained tensor has a buffer of its own shape, filled by this crate's backward pass and
//! by libtorch's alike.

use tch::Tensor;

use crate::BackendError;
use crate::owed::Owed;

/// Turns gradients on for `parameter`.
pub(crate) fn want(parameter: &Tensor) -> Result<(), BackendError> {
    let _same = parameter.f_set_requires_grad(true)?;
    Ok(())
}

/// The buffer of `parameter`, which turned gradients on. It is made of zeros when it is first asked for: memory is taken
/// as the first backward pass reaches it.
pub(crate) fn of(parameter: &Tensor) -> Result<Tensor, BackendError> {
    let gradient = parameter.f_grad()?;
    if gradient.defined() {
        return Ok(gradient);
    }
    // tch offers no way to set a gradient. One of none of the parameter's numbers is a zero for each of them.
    tch::with_grad(|| {
        let none = parameter.f_narrow(0, 0, 0)?;
        none.f_sum(parameter.kind())?.f_backward()
    })?;
    Ok(parameter.f_grad()?)
}

/// Adds `left @ right` to the gradient of `parameter`.
pub(crate) fn add_product(
    parameter: &Tensor,
    left: &Tensor,
    right: &Tensor,
) -> Result<(), BackendError> {
    let mut gradient = of(parameter)?;
    // The ops ending in `_` change their tensor in place and return it once more.
    let _ = if gradient.kind() == left.kind() {
        gradient.f_addmm_(left, right)?
    } else {
        gradient.f_add_(&left.f_mm(right)?)?
    };
    Ok(())
}

/// Adds `out^T x` to the gradient of `parameter`, or to what it is `owed`.
pub(crate) fn add_outer(
    parameter: &Tensor,
    owed: Option<&Owed>,
    out: &Tensor,
    x: &Tensor,
) -> Result<(), BackendError> {
    match owed {
        Some(owed) => owed.add(parameter, out, x),
        None => add_product(parameter, &out.f_transpose(0, 1)?, x),
    }
}

/// Adds `part` to the gradient of `parameter`.
pub(crate) fn add(parameter: &Tensor, part: &Tensor) -> Result<(), BackendError> {
    let _ = of(parameter)?.f_add_(part)?;
    Ok(())
}
