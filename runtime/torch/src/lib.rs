//! Models and optimizer steps on libtorch: the only crate that names tch.
