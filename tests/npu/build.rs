//! Compiles the device library and its bridge against the libtorch that `LIBTORCH` names. Without one there is nothing to
//! stand in for.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

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
    let library = out.join("libtorch_npu.so");
    compile(&libtorch, "cpp/host_npu.cpp", &library, &[]);
    let bridge = out.join("libferry_hccl.so.apart");
    let made_for = format!("-DFERRY_VENDOR_SHA256=\"{}\"", digest_of(&library));
    compile(&libtorch, "cpp/host_hccl.cpp", &bridge, &[&made_for]);
    println!("cargo::rustc-env=HOST_NPU={}", library.display());
    println!("cargo::rustc-env=HOST_HCCL={}", bridge.display());
}

fn digest_of(library: &Path) -> String {
    let bytes = std::fs::read(library).expect("the stand-in has just been made");
    let mut digest = String::new();
    for byte in Sha256::digest(bytes) {
        let _never_fails = write!(digest, "{byte:02x}");
    }
    digest
}

fn compile(libtorch: &Path, source: &str, library: &Path, flags: &[&str]) {
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
    compiler.args(flags);
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
