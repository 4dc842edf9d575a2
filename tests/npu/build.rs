//! Compiles the device library and its bridge against the libtorch that `LIBTORCH` names. Without one there is nothing to
//! stand in for.

use std::env;
use std::path::{Path, PathBuf};

/// What the bridge shares with the program: its door, and what the wheels leave out of gloo's headers.
const SHARED: &str = "../../runtime/device/cpp";

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-changed={SHARED}");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let (Some(libtorch), Some(out)) = (env::var_os("LIBTORCH"), env::var_os("OUT_DIR")) else {
        return;
    };
    let (libtorch, out) = (PathBuf::from(libtorch), PathBuf::from(out));
    for (source, library, name) in [
        ("cpp/host_npu.cpp", out.join("libtorch_npu.so"), "HOST_NPU"),
        (
            "cpp/host_hccl.cpp",
            out.join("libferry_hccl.so.apart"),
            "HOST_HCCL",
        ),
    ] {
        compile(&libtorch, source, &library);
        println!("cargo::rustc-env={name}={}", library.display());
    }
}

fn compile(libtorch: &Path, source: &str, library: &Path) {
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
        "-DUSE_C10D_GLOO",
    ]);
    for headers in ["include", "include/torch/csrc/api/include"] {
        compiler.arg("-isystem").arg(libtorch.join(headers));
    }
    compiler
        .args(["-isystem", SHARED, source, "-o"])
        .arg(library);
    compiler.arg("-L").arg(libtorch.join("lib"));
    compiler.args(["-ltorch_cpu", "-lc10"]);
    let made = compiler.status().is_ok_and(|status| status.success());
    assert!(made, "the stand-in `{source}` could not be compiled");
}
