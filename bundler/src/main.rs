//! Mirrors models, datasets and runtimes into one signed bundle.

fn main() {}
