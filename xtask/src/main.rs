//! Developer tasks: obtain what is needed, demo, test, bench.

fn main() {}
