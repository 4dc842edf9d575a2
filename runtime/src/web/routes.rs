//! What is where, and who gets it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use console::Language;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderValue, SET_COOKIE};
use hyper::{Method, Request, StatusCode};
use report::Trouble;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::{self, WebError};
use super::gate::Gate;
use super::{App, chat, command, datasets, exports, job, live, models, runs, site, words};
use crate::http::{self, Answer, BodyFault, Door, json_answer};

/// Bytes of a request that is no upload.
const LARGEST: usize = 4 << 20;
/// How long a check may take: it reads all of the data.
const CHECK_TIME: Duration = Duration::from_mins(10);
/// Pages that may follow runs at a time.
const FOLLOWERS: usize = 48;
/// Examples that are shown as the model sees them.
const ROWS: &str = "5";

/// Answers a request, whatever it is.
pub(super) async fn answer(app: &Arc<App>, request: Request<Incoming>) -> Answer {
    let language = words::language(request.uri().query().unwrap_or_default(), app.language);
    let mut answer = match route(app, request, language).await {
        Ok(answer) => answer,
        Err(trouble) => {
            let status = error::status(trouble.diagnose());
            json_answer(
                status,
                &json!({"error": words::trouble(language, &trouble)}),
            )
        }
    };
    site::guard(answer.headers_mut());
    answer
}

async fn route(
    app: &Arc<App>,
    request: Request<Incoming>,
    language: Language,
) -> Result<Answer, Trouble> {
    let (method, headers) = (request.method().clone(), request.headers());
    app.gate.is_meant(headers)?;
    let path = request.uri().path().to_owned();
    let not_found = || WebError::NotFound {
        path: path.chars().take(200).collect(),
    };
    let Some(rest) = path.strip_prefix("/api/") else {
        // The page's files are no secret.
        let file = site::file(&path).filter(|_| method == Method::GET);
        return file.ok_or_else(|| not_found().into());
    };
    if (rest, &method) == ("words", &Method::GET) {
        return Ok(json_answer(StatusCode::OK, &words::table(language)));
    }
    if (rest, &method) == ("enter", &Method::POST) {
        Gate::is_own(&method, headers)?;
        return enter(app, request).await;
    }
    app.gate.check(&method, headers)?;
    let parts: Vec<String> = rest.split('/').map(unescaped).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let get = method == Method::GET;
    let post = method == Method::POST;
    let value = match &parts[..] {
        ["home"] if get => look(app, move |app| Ok(home(app))).await?,
        ["models"] if get => {
            let list = move |app: &App| {
                Ok(models::list(
                    app.folders.models.as_deref(),
                    &app.home,
                    language,
                ))
            };
            look(app, list).await?
        }
        ["datasets"] if get => look(app, |app| Ok(datasets::list(&app.folders))).await?,
        ["datasets", name, file] if post => {
            return upload(app, request, name, file).await;
        }
        ["check"] if post => {
            let text = text(app, request).await?;
            let place = app.checks.try_acquire().map_err(|_| WebError::Busy)?;
            let checked = look(app, move |app| check(app, &text, language)).await;
            drop(place);
            checked?
        }
        ["runs"] if get => look(app, move |app| Ok(runs::list(&app.folders, language))).await?,
        ["runs", name] if post => {
            let (name, text) = ((*name).to_owned(), text(app, request).await?);
            look(app, move |app| {
                runs::start(&app.folders, &app.home, &name, &text)
            })
            .await?
        }
        ["runs", name] if get => {
            let (name, folder) = ((*name).to_owned(), app.folders.run(name)?);
            look(app, move |_| Ok(runs::detail(&name, &folder, language))).await?
        }
        ["runs", name, "events"] if get => {
            return follow(app, &request, name, language);
        }
        ["runs", name, action] if post => {
            let (name, action) = ((*name).to_owned(), (*action).to_owned());
            let body = body(app, request).await?;
            look(app, move |app| act(app, &name, &action, &body)).await?
        }
        ["chat"] if get => look(app, move |app| Ok(app.chat.status(language))).await?,
        ["chat", "load"] if post => {
            let wish = parsed(&body(app, request).await?)?;
            look(app, move |app| load(app, wish)).await?
        }
        ["chat", "unload"] if post => {
            look(app, |app| {
                app.chat.unload();
                Ok(json!({"state": "none"}))
            })
            .await?
        }
        ["chat", "say"] if post => {
            let question = chat::question(&body(app, request).await?)?;
            return Ok(app.chat.say(&question).await?);
        }
        _ => return Err(not_found().into()),
    };
    Ok(json_answer(StatusCode::OK, &value))
}

/// Does what reads files or waits for processes, while others are served.
async fn look<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let app = Arc::clone(app);
    let done = spawn_blocking(move || work(&app)).await;
    done.map_err(|_| WebError::NoAnswer {
        command: "web".to_owned(),
    })?
}

/// What the page shows everywhere.
fn home(app: &App) -> Value {
    let folders = &app.folders;
    json!({
        "version": env!("CARGO_PKG_VERSION"), "models": folders.models, "data": folders.data,
        "installed_data": folders.installed_data, "runs": folders.runs,
        "largest_upload": app.largest_upload, "machine": live::now(&folders.runs),
        "templates": train_data::Template::names().collect::<Vec<_>>(),
    })
}

/// Gives a page that shows the token the cookie that lets it in.
async fn enter(app: &Arc<App>, request: Request<Incoming>) -> Result<Answer, Trouble> {
    #[derive(Deserialize)]
    struct Shown {
        token: String,
    }
    let shown: Shown = parsed(&body(app, request).await?)?;
    let (Door::Token(_), true) = (&app.gate.door, app.gate.door.opens_by(&shown.token)) else {
        return Err(WebError::NoToken.into());
    };
    let mut answer = json_answer(StatusCode::OK, &json!({"entered": true}));
    let cookie = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000",
        app.gate.cookie, shown.token
    );
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| WebError::NoToken)?;
    answer.headers_mut().insert(SET_COOKIE, cookie);
    Ok(answer)
}

/// What `check` says of a job.
fn check(app: &App, text: &str, language: Language) -> Result<Value, Trouble> {
    job::confine(text, &app.folders, &app.home)?;
    let folder = passing(&app.folders.runs)?;
    let path = folder.0.join(job::FILE);
    fs::write(&path, text).map_err(|source| WebError::Write {
        path: path.clone(),
        source,
    })?;
    let shown = path.display().to_string();
    let arguments = ["check", "--rows", ROWS, shown.as_str()];
    let lines = command::ask(&arguments, &app.folders.runs, CHECK_TIME)?;
    let (mut warnings, mut errors, mut result) = (Vec::new(), Vec::new(), Value::Null);
    for line in lines {
        match words::event(language, &line) {
            Some(told) if told["kind"] == "error" => errors.push(told["error"].clone()),
            Some(told) if told["kind"] == "warned" => warnings.push(told),
            None if line.get("event").is_none() => result = line,
            Some(_) | None => {}
        }
    }
    // The file is the page's own; where it lay for a moment helps nobody.
    let told = json!({"warnings": warnings, "errors": errors, "result": result}).to_string();
    let told = told.replace(&shown, job::FILE);
    Ok(serde_json::from_str(&told).unwrap_or_default())
}

/// A folder that goes when it is dropped.
struct Passing(std::path::PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn passing(folder: &Path) -> Result<Passing, WebError> {
    let token = crate::chance::token().unwrap_or_default();
    let short = token.get(..12).unwrap_or_default();
    let path = folder.join(format!("{}{short}", runs::CHECK));
    fs::create_dir(&path).map_err(|source| WebError::Write {
        path: path.clone(),
        source,
    })?;
    Ok(Passing(path))
}

/// Does something with a run.
fn act(app: &App, name: &str, action: &str, body: &[u8]) -> Result<Value, Trouble> {
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct More {
        checkpoint: Option<u64>,
        name: String,
    }
    let folders = &app.folders;
    if action == "export" {
        return exports::start(folders, name, &parsed(body)?);
    }
    let more: More = parsed(body)?;
    match action {
        "stop" => runs::stop(folders, name),
        "resume" => runs::resume(folders, &app.home, name, more.checkpoint),
        "delete" => runs::delete(folders, name, &more.name),
        _ => Err(WebError::NotFound {
            path: action.chars().take(200).collect(),
        }
        .into()),
    }
}

/// Begins to load a model to talk with.
fn load(app: &App, wish: chat::Wish) -> Result<Value, Trouble> {
    let outside = |path: &str| WebError::Outside {
        key: "model".to_owned(),
        path: path.chars().take(200).collect(),
    };
    if !app.folders.hold(Path::new(&wish.model)) || wish.model.starts_with('-') {
        return Err(outside(&wish.model).into());
    }
    let known = |name: &String| train_data::Template::names().any(|known| known == name.as_str());
    if let Some(template) = wish.template.as_ref().filter(|name| !known(name)) {
        return Err(WebError::BadName {
            name: template.chars().take(96).collect(),
        }
        .into());
    }
    let run = wish
        .run
        .as_deref()
        .map(|run| app.folders.run(run))
        .transpose()?;
    app.chat.load(wish, run.as_deref())?;
    Ok(json!({"state": "loading"}))
}

/// Follows a run from where the page was.
fn follow(
    app: &Arc<App>,
    request: &Request<Incoming>,
    name: &str,
    language: Language,
) -> Result<Answer, Trouble> {
    let folder = app.folders.run(name)?;
    if app.followers.load(Ordering::Relaxed) >= FOLLOWERS {
        return Err(WebError::Busy.into());
    }
    let since = request.headers().get("last-event-id");
    let since = since.and_then(|since| since.to_str().ok());
    // A page that stopped listening for a while cannot send the header.
    let asked = request.uri().query().unwrap_or_default().split('&');
    let mut asked = asked.filter_map(|part| part.strip_prefix("since="));
    let since = since.or_else(|| asked.next()).unwrap_or_default();
    let guard = Follower::of(app);
    Ok(live::follow(
        name.to_owned(),
        folder,
        since,
        language,
        guard,
    ))
}

/// Counts a page as long as it follows a run.
pub(super) struct Follower(Arc<App>);

impl Follower {
    fn of(app: &Arc<App>) -> Self {
        app.followers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(app))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a data file as it comes.
async fn upload(
    app: &Arc<App>,
    request: Request<Incoming>,
    name: &str,
    file: &str,
) -> Result<Answer, Trouble> {
    let limit = app.largest_upload;
    if request.body().size_hint().lower() > limit {
        return Err(WebError::TooLarge { limit }.into());
    }
    let (name, file) = (name.to_owned(), file.to_owned());
    let begun = look(app, move |app| {
        Ok(datasets::Upload::begin(&app.folders, &name, &file, limit)?)
    });
    let mut upload = begun.await?;
    let mut body = request.into_body();
    loop {
        let next = timeout(2 * app.patience, body.frame()).await;
        let frame = match next.map_err(|_| WebError::Cut)? {
            None => break,
            Some(frame) => frame.map_err(|_| WebError::Cut)?,
        };
        if let Ok(piece) = frame.into_data() {
            // A slow disk must not hold up others.
            upload = look(app, move |_| {
                upload.push(&piece)?;
                Ok(upload)
            })
            .await?;
        }
    }
    let listed = look(app, move |_| Ok(upload.finish()?)).await?;
    Ok(json_answer(StatusCode::OK, &listed))
}

async fn body(app: &Arc<App>, request: Request<Incoming>) -> Result<Vec<u8>, Trouble> {
    let body = http::whole(request.into_body(), LARGEST, app.patience).await;
    body.map_err(|fault| {
        Trouble::from(match fault {
            BodyFault::TooLarge => WebError::TooLarge {
                limit: LARGEST as u64,
            },
            BodyFault::Cut(_) | BodyFault::TooSlow => WebError::Cut,
        })
    })
}

async fn text(app: &Arc<App>, request: Request<Incoming>) -> Result<String, Trouble> {
    let limit = job::LARGEST;
    let body = body(app, request).await?;
    if body.len() > limit {
        let limit = limit as u64;
        return Err(WebError::TooLarge { limit }.into());
    }
    String::from_utf8(body).map_err(|_| {
        let reason = "not UTF-8".to_owned();
        WebError::Malformed { reason }.into()
    })
}

fn parsed<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, WebError> {
    let body = if body.is_empty() { &b"{}"[..] } else { body };
    serde_json::from_slice(body).map_err(|error| WebError::Malformed {
        reason: error.to_string(),
    })
}

/// A part of a path with its `%` undone. What is no text then becomes what no name has.
fn unescaped(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = std::str::from_utf8(behind.get(..2).unwrap_or_default()).unwrap_or_default();
        match u8::from_str_radix(hex, 16) {
            Ok(byte) if *first == b'%' && hex.len() == 2 => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| "\0".to_owned())
}
