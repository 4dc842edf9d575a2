//! Lets the program find libtorch beside it: `bin/ferry-runtime` and `lib/*.so`.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib");
}
