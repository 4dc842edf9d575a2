//! `doctor`: what this program computes with, and where it looks.

use console::View;
use host_probe::{RealHost, accelerators};
use manifest_schema::policy::Policy;
use report::Trouble;
use serde_json::{Value, json};

use crate::device::{Chosen, folders};
use crate::home::Home;
use crate::{DoctorArguments, engine, start};

pub(crate) fn run(arguments: &DoctorArguments, view: &View) -> Result<(), Trouble> {
    let home = Home::find();
    let mut chosen = Chosen::by(&arguments.device, &home);
    let together = together(arguments.processes, &mut chosen, &home, view)?;
    let seen = seen(&home);
    // A vendor's library is loaded only for who asks for its device: it may take seconds, or hang.
    let opened = match &arguments.device.device {
        Some(_) => opened(&chosen, &home)?,
        None => Value::Null,
    };
    let threads = threads();
    let release = home.release.as_ref().map(|path| path.display().to_string());
    let cache = home.cache.display().to_string();
    let policy = policy(&chosen, &home);
    let engines = engine::usable(&home);
    let value = json!({
        "native": cfg!(feature = "native"), "engines": engines, "threads": threads, "home": release, "cache": cache,
        "device": chosen.label(), "policy": policy, "accelerators": seen, "opened": opened,
        "together": together,
    });
    let mut lines = vec![
        format!("native   {}", cfg!(feature = "native")),
        format!("other    {}", other_engine(&engines)),
        format!("threads  {threads}"),
        format!("home     {}", release.as_deref().unwrap_or("-")),
        format!("cache    {cache}"),
        format!("device   {}, {}", chosen.label(), chosen.title()),
    ];
    for one in &seen {
        let word = |name: &str| one[name].as_str().unwrap_or("-").to_owned();
        lines.push(format!(
            "chip     {} ({}), {}",
            word("product"),
            word("address"),
            word("library")
        ));
    }
    for (name, value) in policy.as_object().into_iter().flatten() {
        for row in value.as_array().into_iter().flatten() {
            lines.push(format!("{name:8} {}", row.as_str().unwrap_or_default()));
        }
    }
    if !opened.is_null() {
        lines.push(format!("opened   {opened}"));
    }
    if !together.is_null() {
        lines.push(format!("together {together}"));
    }
    view.result(&value, &lines.join("\n"));
    Ok(())
}

/// The engine that is not in this program, or why there is none.
fn other_engine(engines: &Value) -> String {
    let other = &engines["llamafactory"];
    let title = other["title"].as_str().map(str::to_owned);
    let why = || other["why"]["message"].as_str().unwrap_or_default();
    title.unwrap_or_else(|| format!("no LLaMA-Factory: {}", why()))
}

/// The accelerators on the bus, with the library that would serve each, where there is one.
fn seen(home: &Home) -> Vec<Value> {
    let folders = folders(home);
    let found = accelerators(&RealHost::default()).into_iter();
    let one = found.map(|device| {
        let policy = Policy::of_family(&device.family);
        let library = policy.and_then(|policy| policy.library.as_ref());
        let path = library.and_then(|library| {
            let paths = folders.iter().map(|folder| folder.join(&library.file));
            let mut paths = paths.filter(|path| path.is_file());
            paths.next()
        });
        json!({
            "address": device.address, "family": device.family, "chip": device.chip,
            "product": device.product, "device": policy.map(|policy| &policy.device), "library": path,
        })
    });
    one.collect()
}

/// What the chosen device's policy does before the program starts.
fn policy(chosen: &Chosen, home: &Home) -> Value {
    let rows = chosen.policy.environment.iter();
    let (set, may): (Vec<_>, Vec<_>) = rows.partition(|row| row.certain);
    let shown = |row: &manifest_schema::policy::Variable| format!("{}={}", row.name, row.value);
    let preload = start::preloads(chosen.policy, &folders(home));
    json!({
        "set": set.into_iter().map(shown).collect::<Vec<_>>(),
        "may help": may.into_iter().map(shown).collect::<Vec<_>>(),
        "preload": preload,
    })
}

#[cfg(feature = "native")]
fn opened(chosen: &Chosen, home: &Home) -> Result<Value, Trouble> {
    let Some(loaded) = chosen.load(home)? else {
        return Ok(Value::Null);
    };
    let place = loaded.choose(chosen.index)?;
    let memory = place.memory();
    Ok(json!({
        "library": loaded.path(), "devices": loaded.count(), "torch": torch_backend::torch_version(),
        "copies": place.copies()?,
        "free": memory.map(|memory| memory.free), "total": memory.map(|memory| memory.total),
    }))
}

#[cfg(not(feature = "native"))]
fn opened(chosen: &Chosen, _home: &Home) -> Result<Value, Trouble> {
    if chosen.is_processor() {
        return Ok(Value::Null);
    }
    Err(crate::error::RuntimeError::NotNative.into())
}

/// What several processes make of numbers that training would add up and share; null where there is one.
#[cfg(feature = "native")]
fn together(asked: u16, chosen: &mut Chosen, home: &Home, view: &View) -> Result<Value, Trouble> {
    use crate::processes::Processes;

    let asked = usize::from(asked);
    let count = Processes::count(asked)?;
    if count < 2 {
        return Ok(Value::Null);
    }
    let mut processes = Processes::gather(asked, 1)?;
    if !chosen.is_processor() {
        chosen.index += processes.rank();
    }
    let place = chosen.open(home, view)?;
    let bridge = chosen.bridge(home, place, processes.rank() == 0, view)?;
    let path = bridge.as_ref().map(|bridge| bridge.path().to_owned());
    let collective = chosen.collective(bridge.as_ref());
    let Some(group) = processes.join(bridge, place)? else {
        return Ok(Value::Null);
    };
    let trial = group.trial(place);
    let trial = trial.map_err(|error| processes.explained(error.into()))?;
    drop(group);
    processes.finish();
    Ok(json!({
        "processes": count, "collective": collective, "bridge": path, "sums": trial.sums, "shares": trial.shares,
        "bytes_per_second": trial.rate as u64,
    }))
}

#[cfg(not(feature = "native"))]
fn together(
    asked: u16,
    _chosen: &mut Chosen,
    _home: &Home,
    _view: &View,
) -> Result<Value, Trouble> {
    if asked < 2 {
        return Ok(Value::Null);
    }
    Err(crate::error::RuntimeError::NotNative.into())
}

#[cfg(feature = "native")]
fn threads() -> usize {
    torch_backend::use_threads(torch_backend::Threads::Idle)
}

#[cfg(not(feature = "native"))]
fn threads() -> usize {
    0
}
