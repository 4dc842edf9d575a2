//! Verifies a bundle, checks the machine, installs and proves it.

fn main() {}
