//! `api`: a model for the clients of the `OpenAI` interface.
//!
//! ```text
//! client --HTTP--> server: door, request --orders--> engine: model
//!        <--JSON, or events as they come---replies--
//! ```
//!
//! One thread serves connections, this one computes. Everything that a client decides is bounded: connections, sizes,
//! times, and how many questions wait. A client that leaves ends its answer: the engine finds nobody to tell it.

mod calls;
mod engine;
mod events;
mod refusal;
mod reply;
mod request;
mod server;
mod stops;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use console::View;
use report::Trouble;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::ApiArguments;
use crate::error::RuntimeError;
use crate::http::{Address, Door, Listener};
use crate::signals::stop_on_request;
use crate::talk::Talk;

use engine::{Engine, Order};
use server::{App, Counts};

pub(crate) fn run(arguments: &ApiArguments, view: &View) -> Result<(), Trouble> {
    let wish = address(arguments.listen.as_deref())?;
    // Before the model is loaded, which takes long: an address that is taken is found out at once.
    let listener = Listener::bind(&wish)?;
    let address = listener.address()?;
    let (door, made) = Door::settle(arguments.token_file.as_deref(), "API_KEY", &address)?;
    if arguments.until_input_ends {
        end_with_input();
    }
    let Talk {
        model, voice, name, ..
    } = Talk::open(&arguments.talk, view)?;
    let voice = Arc::new(voice);

    let stop = stop_on_request();
    let (orders, waiting) = mpsc::channel(usize::from(arguments.queue));
    let (close, closed) = watch::channel(false);
    let name = shown_name(&name);
    let app = Arc::new(App {
        name: name.clone(),
        voice: Arc::clone(&voice),
        door,
        orders: orders.clone(),
        counts: Counts::default(),
        largest: usize::from(arguments.largest_request) << 20,
        patience: Duration::from_secs(arguments.patience.into()),
    });
    let served = {
        let (app, stop) = (Arc::clone(&app), Arc::clone(&stop));
        thread::spawn(move || {
            let served = server::serve(listener, &app, &stop, closed);
            // Without a server there is nobody to compute for.
            stop.store(true, Ordering::Relaxed);
            let _full = orders.try_send(Order::Stop);
            served
        })
    };
    let url = address.url("/v1");
    let told = match &made {
        Some(token) => format!(
            "{url}\n{}",
            view.text("runtime.api-token", &[("token", token.clone())])
        ),
        None => url.clone(),
    };
    view.result(
        &json!({"listening": url, "model": name, "token": made}),
        &told,
    );
    let engine = Engine {
        model: &model,
        voice: &voice,
        most: usize::from(arguments.concurrent),
        stop: &stop,
        counts: &app.counts,
    };
    engine.run(waiting);
    let _gone = close.send(true);
    match served.join() {
        Ok(served) => served.map_err(|source| RuntimeError::Listen {
            address: wish.to_string(),
            source,
        })?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    let answered = app.counts.answered.load(Ordering::Relaxed);
    if view.is_json() {
        view.result(&json!({"ended": true, "answered": answered}), "");
    }
    Ok(())
}

/// Ends this program as `kill` does when its input ends: when the program that started it is gone, however it went.
fn end_with_input() {
    thread::spawn(|| {
        let _all = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _alone = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM);
    });
}

/// What to listen on: what is asked for, else what the original's `API_HOST` and `API_PORT` say, else this machine's
/// own port 8000.
fn address(asked: Option<&str>) -> Result<Address, RuntimeError> {
    let of_environment = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let text = asked.map_or_else(
        || {
            let host = of_environment("API_HOST");
            let port = of_environment("API_PORT").unwrap_or_else(|| "8000".to_owned());
            match host {
                Some(host) if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => {
                    format!("[{host}]:{port}")
                }
                Some(host) => format!("{host}:{port}"),
                None => format!("{}:{port}", Ipv4Addr::LOCALHOST),
            }
        },
        str::to_owned,
    );
    Address::parse(&text)
}

/// The model's name for clients.
fn shown_name(name: &str) -> String {
    let chosen = std::env::var("API_MODEL_NAME").ok();
    chosen
        .filter(|chosen| !chosen.is_empty())
        .unwrap_or_else(|| {
            let path = Path::new(name);
            let last = path.file_name().filter(|_| path.exists());
            last.map_or_else(
                || name.to_owned(),
                |last| last.to_string_lossy().into_owned(),
            )
        })
}
