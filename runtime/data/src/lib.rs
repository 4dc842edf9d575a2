//! Datasets, templates and tokens to batches.
