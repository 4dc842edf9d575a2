//! `doctor`: what this program computes with, and where it looks.

use console::View;
use serde_json::json;

use crate::home::Home;

pub(crate) fn run(view: &View) {
    let home = Home::find();
    let threads = threads();
    let release = home.release.as_ref().map(|path| path.display().to_string());
    let cache = home.cache.display().to_string();
    let value = json!({"native": cfg!(feature = "native"), "threads": threads, "home": release, "cache": cache});
    let human = format!(
        "native   {}\nthreads  {threads}\nhome     {}\ncache    {cache}",
        cfg!(feature = "native"),
        release.as_deref().unwrap_or("-"),
    );
    view.result(&value, &human);
}

#[cfg(feature = "native")]
fn threads() -> usize {
    torch_backend::use_threads(torch_backend::Threads::Idle)
}

#[cfg(not(feature = "native"))]
fn threads() -> usize {
    0
}
