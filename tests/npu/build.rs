//! Compiles the device library against the libtorch that `LIBTORCH` names. Without one there is nothing to stand in for.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let (Some(libtorch), Some(out)) = (env::var_os("LIBTORCH"), env::var_os("OUT_DIR")) else {
        return;
    };
    let libtorch = PathBuf::from(libtorch);
    let library = PathBuf::from(out).join("libtorch_npu.so");
    let mut compiler = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .get_compiler()
        .to_command();
    compiler.args([
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-fvisibility=hidden",
    ]);
    for headers in ["include", "include/torch/csrc/api/include"] {
        compiler.arg("-isystem").arg(libtorch.join(headers));
    }
    compiler.args(["cpp/host_npu.cpp", "-o"]).arg(&library);
    compiler.arg("-L").arg(libtorch.join("lib"));
    compiler.args(["-ltorch_cpu", "-lc10"]);
    let made = compiler.status().is_ok_and(|status| status.success());
    assert!(made, "the stand-in for a chip could not be compiled");
    println!("cargo::rustc-env=HOST_NPU={}", library.display());
}
