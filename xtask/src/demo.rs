//! The whole way, on this machine and on real input: pack, cross the gap, install, fine-tune, chat, audit.
//!
//! ```text
//! .ferry/demo/stage/   what the plan takes from this build: the runtime, two stand-in libraries
//! .ferry/demo/key/     a signing key of this demo
//! .ferry/demo/         ferry.lock, the bundle
//! /tmp/ferry-demo-*/   the other side of the gap: the prefix, the job, the results
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::libtorch::Libtorch;
use crate::programs::Programs;
use crate::{libtorch, paths, programs, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Language of everything that is shown
    #[arg(long, value_enum, default_value_t = Language::En)]
    lang: Language,
    /// Stop after this many optimizer steps instead of the whole three epochs
    #[arg(long)]
    max_steps: Option<u32>,
}

/// A language that the programs speak.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Language {
    Zh,
    En,
}

impl Language {
    fn pick<'a>(self, zh: &'a str, en: &'a str) -> &'a str {
        match self {
            Self::Zh => zh,
            Self::En => en,
        }
    }

    fn say(self, zh: &str, en: &str) {
        eprintln!("\n== {}", self.pick(zh, en));
    }

    fn flag(self) -> [&'static str; 2] {
        ["--lang", self.pick("zh", "en")]
    }
}

/// Runs the demo from an empty folder; downloads and built programs are kept for the next run.
pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let lang = args.lang;
    let site = install(lang)?;
    site.fine_tune(args.max_steps)?;
    site.audit()?;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    lang.say(
        &format!("完成，用时 {minutes:.1} 分钟"),
        &format!("done in {minutes:.1} minutes"),
    );
    eprintln!("{}", site.place.display());
    Ok(())
}

/// Builds and packs everything, crosses the gap, and installs the CPU backend.
pub(crate) fn install(lang: Language) -> Result<Site> {
    lang.say("取得 libtorch 与 uv", "obtain libtorch and uv");
    let libtorch = libtorch::obtain()?;
    let uv = libtorch::uv()?;
    lang.say("编译三个程序", "build the three programs");
    let programs = programs::build(&libtorch)?;

    let here = paths::root().join(".ferry/demo");
    if here.exists() {
        fs::remove_dir_all(&here)?;
    }
    stage(&here.join("stage"), &programs, &libtorch)?;
    let packed = pack(lang, &here, &programs, &uv)?;
    let site = Site::prepare(lang, &programs, &packed)?;
    site.install()?;
    Ok(site)
}

/// Lays out what the plan takes from this build.
fn stage(stage: &Path, programs: &Programs, libtorch: &Libtorch) -> Result<()> {
    fs::create_dir_all(stage.join("bin"))?;
    fs::create_dir_all(stage.join("lib"))?;
    fs::create_dir_all(stage.join("installer"))?;
    fs::copy(&programs.runtime, stage.join("bin/ferry-runtime"))?;
    fs::copy(
        &programs.installer,
        stage.join("installer").join(std::env::consts::ARCH),
    )?;
    for stand_in in ["libcudart.so.13", "libcupti.so.13"] {
        fs::copy(
            libtorch.libraries().join(stand_in),
            stage.join("lib").join(stand_in),
        )?;
    }
    Ok(())
}

/// A bundle, and the trust root that its reader must compare.
struct Packed {
    bundle: PathBuf,
    fingerprint: String,
}

fn pack(lang: Language, here: &Path, programs: &Programs, uv: &Path) -> Result<Packed> {
    let passphrase = here.join("passphrase");
    fs::write(&passphrase, "a demo key guards nothing\n")?;
    let bundler = || {
        let mut bundler = shell::command(&programs.bundler);
        bundler.args(lang.flag()).env("FERRY_UV", uv);
        bundler
    };
    let (key, lock, bundle) = (
        here.join("key"),
        here.join("ferry.lock"),
        here.join("demo.ferry"),
    );
    lang.say("生成签名密钥", "make a signing key");
    shell::run(
        bundler()
            .arg("keygen")
            .arg(&key)
            .arg("--passphrase-file")
            .arg(&passphrase),
    )?;
    lang.say(
        "锁定：每个文件的出处、大小与摘要",
        "lock: where each file is, its size and digest",
    );
    let plan = paths::root().join("tests/plans/demo.json");
    shell::run(bundler().arg("lock").arg(&plan).arg("--output").arg(&lock))?;
    lang.say("下载、校验并打包签名", "mirror, check, pack and sign");
    let mut build = bundler();
    build
        .arg("build")
        .arg(&lock)
        .arg("--key")
        .arg(&key)
        .arg("--passphrase-file")
        .arg(&passphrase);
    shell::run(build.arg("--output").arg(&bundle))?;
    let fingerprint = fs::read_to_string(key.join("fingerprint"))
        .with_context(|| format!("{} holds no fingerprint", key.display()))?;
    Ok(Packed {
        bundle,
        fingerprint: fingerprint.trim().to_owned(),
    })
}

/// The other side of the gap: a scratch folder of an ordinary user, without a network.
pub(crate) struct Site {
    lang: Language,
    place: PathBuf,
    installer: PathBuf,
    bundle: PathBuf,
    fingerprint: String,
    gap: Vec<String>,
}

impl Site {
    fn prepare(lang: Language, programs: &Programs, packed: &Packed) -> Result<Self> {
        let place = std::env::temp_dir().join(format!("ferry-demo-{}", std::process::id()));
        fs::create_dir_all(&place)?;
        let installer = place.join("ferry-installer");
        fs::copy(&programs.installer, &installer)?;
        let bundle = place.join("demo.ferry");
        // A link where both lie on one disk: the medium that is carried across.
        if fs::hard_link(&packed.bundle, &bundle).is_err() {
            fs::copy(&packed.bundle, &bundle)?;
        }
        fs::set_permissions(&bundle, fs::Permissions::from_mode(0o644))?;
        let gap = gap();
        if gap.is_empty() {
            eprintln!(
                "{}",
                lang.pick(
                    "本机不允许无特权的网络命名空间：演示继续，但没有断网",
                    "unprivileged network namespaces are not allowed here: going on without the air gap",
                )
            );
        } else if gap[0] == "setpriv" {
            std::os::unix::fs::chown(&place, Some(ORDINARY_USER), Some(ORDINARY_USER))?;
        }
        let fingerprint = packed.fingerprint.clone();
        Ok(Self {
            lang,
            place,
            installer,
            bundle,
            fingerprint,
            gap,
        })
    }

    /// The scratch folder.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Where the bundle is installed.
    pub(crate) fn prefix(&self) -> PathBuf {
        self.place.join("prefix")
    }

    fn install(&self) -> Result<()> {
        let lang = self.lang;
        lang.say(
            "断网。探测本机",
            "across the gap, no network: probe this machine",
        );
        shell::run(self.run(&self.installer).arg("probe"))?;
        lang.say("安装前检查", "preflight");
        shell::run(&mut self.with_trust("preflight"))?;
        lang.say(
            "安装：只解开 cpu 后端",
            "install: unpack the cpu backend only",
        );
        shell::run(self.with_trust("install").arg("--yes"))
    }

    fn fine_tune(&self, max_steps: Option<u32>) -> Result<()> {
        let lang = self.lang;
        let results = self.place.join("results");
        let job = self.place.join("job.yaml");
        fs::copy(paths::root().join("tests/plans/demo-job.yaml"), &job)?;
        fs::set_permissions(&job, fs::Permissions::from_mode(0o644))?;
        lang.say("微调之前", "before fine-tuning");
        self.chat(None)?;
        lang.say("LoRA 微调", "fine-tune with LoRA");
        let mut train = self.run(&self.runtime());
        train
            .arg("train")
            .arg(&job)
            .arg(format!("output_dir={}", results.display()));
        if let Some(steps) = max_steps {
            train.arg(format!("max_steps={steps}"));
        }
        shell::run(&mut train)?;
        lang.say("微调之后", "after fine-tuning");
        self.chat(Some(&results))
    }

    fn audit(&self) -> Result<()> {
        self.lang.say(
            "审计：每个文件的签名与上游",
            "audit: the signature and the upstream of every file",
        );
        let mut audit = self.run(&self.installer);
        shell::run(audit.args(["audit", "--prefix"]).arg(self.prefix()))
    }

    /// The installed runtime.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.prefix().join("current/bin/ferry-runtime")
    }

    /// Asks the installed model the demo's questions.
    pub(crate) fn chat(&self, adapter: Option<&Path>) -> Result<()> {
        let mut chat = self.run(&self.runtime());
        chat.args(["chat", "--model", MODEL, "--template", "smollm2"]);
        if let Some(adapter) = adapter {
            chat.arg("--adapter").arg(adapter);
        }
        for question in [
            "Who are you?",
            "你叫什么名字？",
            "What is the capital of France?",
        ] {
            chat.args(["--prompt", question]);
        }
        shell::run(&mut chat)
    }

    fn with_trust(&self, command: &str) -> Command {
        let mut installer = self.run(&self.installer);
        installer
            .arg(command)
            .arg(&self.bundle)
            .arg("--prefix")
            .arg(self.prefix());
        installer.args(["--trust-root", &self.fingerprint]);
        installer
    }

    /// `program` on the far side of the gap, in the demo's language.
    fn run(&self, program: &Path) -> Command {
        let mut command = match self.gap.split_first() {
            Some((first, rest)) => {
                let mut command = shell::command(first);
                command.args(rest).arg(program);
                command
            }
            None => shell::command(program),
        };
        command.args(self.lang.flag());
        command
            .current_dir(&self.place)
            .env("HOME", &self.place)
            .env_remove("LD_LIBRARY_PATH");
        command
    }
}

/// `program`, as this user, in a namespace without a network, where that is allowed.
pub(crate) fn beyond_the_gap(program: &Path) -> Command {
    let Some((first, rest)) = UNSHARE.split_first().filter(|_| works(&UNSHARE)) else {
        return shell::command(program);
    };
    let mut command = shell::command(first);
    command.args(rest).arg(program);
    command
}

/// The words that put a command into a namespace without a network as an ordinary user; empty where that
/// is not allowed.
fn gap() -> Vec<String> {
    let ordinary = ORDINARY_USER.to_string();
    let drop = [
        "setpriv",
        "--reuid",
        &ordinary,
        "--regid",
        &ordinary,
        "--clear-groups",
    ];
    let ways = [[&drop[..], &UNSHARE[..]].concat(), UNSHARE.to_vec()];
    let way = ways.into_iter().find(|words| works(words));
    let words = way.unwrap_or_default().into_iter();
    words.map(str::to_owned).collect()
}

/// Whether a command can be started behind `words`.
fn works(words: &[&str]) -> bool {
    let tried = Command::new(words[0])
        .args(&words[1..])
        .arg("true")
        .output();
    tried.is_ok_and(|output| output.status.success())
}

const UNSHARE: [&str; 5] = ["unshare", "--user", "--map-current-user", "--net", "--"];
/// `nobody`: what the demo becomes where it was started by root.
const ORDINARY_USER: u32 = 65534;
const MODEL: &str = "HuggingFaceTB/SmolLM2-135M-Instruct";
