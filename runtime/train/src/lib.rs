//! Job files, the training loop, schedules and checkpoints; no libtorch.
