//! `web`: a page in the browser, for people who have never seen a terminal.
//!
//! ```text
//! browser --HTTP--> gate, routes --+--> folders: models, datasets, runs               read
//!                                  +--> `ferry-runtime check`                         asked, and waited for
//!                                  +--> `ferry-runtime train`, `ferry-runtime export` left to themselves
//!                                  +--> `ferry-runtime api` on a socket               one model at a time
//! ```
//!
//! The page is a front end of run folders and job files and knows nothing that `--json` of the commands does not tell. A run
//! is a process in a session of its own that talks to files, so neither a page nor this program can hold it up or end
//! it, and whoever starts this program again finds all runs by their folders.

mod chat;
mod command;
mod datasets;
mod error;
mod exports;
mod folders;
mod gate;
mod job;
mod live;
mod models;
mod routes;
mod runs;
mod site;
mod tail;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use console::{Language, View};
use report::Trouble;
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use crate::error::RuntimeError;
use crate::home::Home;
use crate::http::{self, Address, Door, Listener};
use crate::native::WebArguments;
use crate::signals::stop_on_request;

use chat::Chat;
use folders::Folders;
use gate::Gate;

/// Checks of jobs at a time.
const CHECKS: usize = 2;

/// What all requests share.
struct App {
    folders: Folders,
    home: Home,
    gate: Gate,
    chat: Chat,
    /// Jobs that are being checked.
    checks: Semaphore,
    /// Pages that follow a run.
    followers: AtomicUsize,
    patience: Duration,
    largest_upload: u64,
    /// Of who names none.
    language: Language,
}

pub(crate) fn run(arguments: &WebArguments, view: &View) -> Result<(), Trouble> {
    let wish = Address::Port(SocketAddr::new(arguments.host, arguments.port));
    let listener = Listener::bind(&wish)?;
    let address = listener.address()?;
    let token_file = arguments.token_file.as_deref();
    let (door, made) = Door::settle(token_file, "FERRY_WEB_TOKEN", &address)?;
    let home = Home::find();
    let folders = Folders::settle(arguments, &home)?;
    runs::tidy(&folders.runs);
    let port = address.port().map_or(0, |(_, port)| port);
    let mut names = arguments.name.clone();
    names.extend(own_name());
    let app = Arc::new(App {
        gate: Gate {
            door,
            names,
            cookie: format!("ferry-{port}"),
        },
        chat: Chat::open(Duration::from_secs(60 * u64::from(arguments.chat_idle)))?,
        checks: Semaphore::new(CHECKS),
        followers: AtomicUsize::new(0),
        patience: Duration::from_secs(arguments.patience.into()),
        largest_upload: u64::from(arguments.largest_upload) << 20,
        language: view.language(),
        folders,
        home,
    });
    // Behind `#`, so that no log on the way holds the token.
    let secret = made.as_ref().map(|token| format!("/#token={token}"));
    let url = address.url(secret.as_deref().unwrap_or("/"));
    let shown = url
        .replace("//0.0.0.0:", "//127.0.0.1:")
        .replace("//[::]:", "//[::1]:");
    let runs = app.folders.runs.display().to_string();
    let told = view.text(
        "runtime.web-ready",
        &[("url", shown.clone()), ("runs", runs.clone())],
    );
    view.result(
        &json!({"listening": address.url("/"), "open": shown, "runs": runs, "token": made}),
        &told,
    );
    let stop = stop_on_request();
    let (close, closed) = watch::channel(false);
    let look = || {
        if stop.load(Ordering::Relaxed) {
            let _gone = close.send(true);
        }
        app.chat.rest();
    };
    let answering = Arc::clone(&app);
    let handler = move |request| {
        let app = Arc::clone(&answering);
        async move { routes::answer(&app, request).await }
    };
    let served = http::serve(listener, app.patience, look, closed, handler);
    app.chat.unload();
    served.map_err(|source| RuntimeError::Listen {
        address: wish.to_string(),
        source,
    })?;
    Ok(())
}

/// The name of this machine, and its first part.
fn own_name() -> Vec<String> {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().into_owned();
    let first = name.split('.').next().unwrap_or_default().to_owned();
    let names = [name, first].into_iter();
    names.filter(|name| !name.is_empty()).collect()
}
