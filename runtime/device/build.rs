//! Compiles the C++ that tch lacks against the libtorch that `torch-sys` found.

use std::env;

/// Stands where libtorch's own headers are, so that they may warn of what they like.
const SYSTEM: &str = "-isystem";

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    // A machine that only reads the documentation has no libtorch.
    let Some(libraries) = env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    let libraries = libraries.to_string_lossy();
    let include = format!("{libraries}/../include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(1);
    build
        .flag("-Wall")
        .flag("-Wextra")
        .flag("-fvisibility=hidden");
    for folder in [include.clone(), format!("{include}/torch/csrc/api/include")] {
        build.flag(SYSTEM).flag(folder);
    }
    // The wheels bring the header of gloo's process group, not those of gloo.
    build.flag(SYSTEM).flag("cpp").define("USE_C10D_GLOO", None);
    build.file("cpp/device.cpp").file("cpp/group.cpp");
    build.compile("ferry_device");
    println!("cargo::rustc-link-search=native={libraries}");
    println!("cargo::rustc-link-lib=torch_cpu");
    println!("cargo::rustc-link-lib=c10");
    println!("cargo::rustc-link-lib=dl");
}
