//! What the commands are given that only the native engine has. They are known without it, and then answer that.

#![cfg_attr(
    not(feature = "native"),
    allow(dead_code, reason = "read only where libtorch is built in")
)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use crate::device::DeviceArguments;

/// What `chat` and `api` talk with.
#[derive(clap::Args)]
pub(crate) struct TalkArguments {
    /// Job file, in LLaMA-Factory's YAML or JSON. Where `--model` is given none is needed
    pub(crate) job: Option<PathBuf>,
    /// Settings that replace the file's, such as `top_p=0.8`
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Folder of the model, a GGUF file, or an installed model's name; instead of the job's
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Folder of a LoRA adapter, instead of the job's (can be repeated)
    #[arg(long)]
    pub(crate) adapter: Vec<PathBuf>,
    /// Chat template, as in a job file. Without it the model's own is used
    #[arg(long)]
    pub(crate) template: Option<String>,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// What `chat` needs.
#[derive(clap::Args)]
pub(crate) struct ChatArguments {
    #[command(flatten)]
    pub(crate) talk: TalkArguments,
    /// A question; give several to ask one after another. Without any, questions are read from standard input
    #[arg(long)]
    pub(crate) prompt: Vec<String>,
    /// What the model is told before the first question
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// Longest answer, in tokens. Without it the job's; without a job and settings 256
    #[arg(long)]
    pub(crate) max_tokens: Option<usize>,
    /// Draw each word by chance: above one wilder, below one tamer. Without it the job decides; without a job and
    /// settings the likeliest word is taken
    #[arg(long)]
    pub(crate) temperature: Option<f64>,
    /// Decides what is drawn: the same seed draws the same. Without it each run draws anew
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// What `api` needs.
#[derive(clap::Args)]
pub(crate) struct ApiArguments {
    #[command(flatten)]
    pub(crate) talk: TalkArguments,
    /// Address and port to listen on, or `unix:` and the path of a socket. Without it 127.0.0.1:8000, or what `API_HOST`
    /// and `API_PORT` say
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// End when standard input ends: for a program that starts this one and may be killed
    #[arg(long)]
    pub(crate) until_input_ends: bool,
    /// File with the token that clients must show. Without it `API_KEY` is the token; without both none is needed on this
    /// machine, and one is made and shown where others can reach the server
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Answers that are made at a time
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrent: u16,
    /// Requests that may wait for their turn; more are refused
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) queue: u16,
    /// Seconds that a client may take to send a request's head; twice as long for a body, and to take what it is sent
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) patience: u16,
    /// Largest request, in megabytes
    #[arg(long, value_name = "MB", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) largest_request: u16,
}

/// What `web` needs.
#[derive(clap::Args)]
pub(crate) struct WebArguments {
    /// Address to listen on. Where others than this machine can reach it, a token is asked for
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = host)]
    pub(crate) host: IpAddr,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 7860)]
    pub(crate) port: u16,
    /// File with the token that a browser must show once. Without it `FERRY_WEB_TOKEN` is the token; without both none is
    /// needed on this machine, and one is made and shown where others can reach the server
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Another name that leads browsers to this machine, such as that of a proxy (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,
    /// Folder of models. Without it the installed release's
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// Folder of datasets, which uploads are added to; the installed release's are shown beside them
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) datasets: PathBuf,
    /// Folder of runs, each in a folder of its own
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
    /// Largest file that is uploaded, in megabytes
    #[arg(long, value_name = "MB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) largest_upload: u32,
    /// Seconds that a browser may take to send a request's head; twice as long for more of a body, and to take what it is
    /// sent
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) patience: u16,
    /// Minutes after which a model that nobody talks with is put away
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) chat_idle: u16,
}

/// No name is looked up: that would ask another machine.
fn host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let expected = "an address in numbers is needed, such as 127.0.0.1 or 0.0.0.0";
    text.parse().map_err(|_| expected.to_owned())
}
