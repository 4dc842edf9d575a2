//! What the types of a plan alone cannot say.

use std::collections::BTreeSet;

use super::packages;
use super::{
    HttpsSource, ImageSource, ManifestError, Other, Plan, PlanBackend, PlanComponent, PlanFile,
    PlanImage, PlanPython, PypiSource, Source, read_not,
};
use crate::{BackendName, Eula, check_host_items, license};

impl Plan {
    /// Reads a plan and checks that it makes sense in itself.
    ///
    /// # Errors
    /// Names the place, what was found there and what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let lock = Other {
            name: "lock",
            has: "plan_digest",
            lacks: "models",
        };
        let plan: Self = read_not(&lock, text)?;
        plan.check()?;
        Ok(plan)
    }

    /// Checks what the types alone cannot say.
    fn check(&self) -> Result<(), ManifestError> {
        if self.format != 1 {
            return Err(ManifestError::value("format", self.format.to_string(), "1"));
        }
        for (position, accepted) in self.accept_licenses.iter().enumerate() {
            check_license(accepted, &format!("accept_licenses[{position}]"))?;
        }
        for (list, components) in [("models", &self.models), ("datasets", &self.datasets)] {
            let mut names = BTreeSet::new();
            for (position, component) in components.iter().enumerate() {
                let at = format!("{list}[{position}]");
                if !names.insert(&component.name) {
                    return Err(ManifestError::value(
                        format!("{at}.name"),
                        format!("`{}` a second time", component.name),
                        "each name once",
                    ));
                }
                component.check(&at, &self.accept_licenses)?;
            }
        }
        let mut names = BTreeSet::new();
        for (position, backend) in self.backends.iter().enumerate() {
            let at = format!("backends[{position}]");
            if !names.insert(&backend.name) {
                return Err(ManifestError::value(
                    format!("{at}.name"),
                    format!("`{}` a second time", backend.name),
                    "each name once",
                ));
            }
            backend.check(&at)?;
        }
        let mut names = BTreeSet::new();
        for (position, image) in self.images.iter().enumerate() {
            let at = format!("images[{position}]");
            if !names.insert((&image.name, &image.tag)) {
                let found = format!("`{}` a second time", image.name);
                let expected = "each name and tag once";
                return Err(ManifestError::value(format!("{at}.name"), found, expected));
            }
            let backends = self.backends.iter().map(|backend| &backend.name);
            image.check(&at, &self.accept_licenses, &backends.collect())?;
        }
        for (arch, source) in &self.installers {
            let at = format!("installers.{arch}");
            if source.is_group() {
                return Err(ManifestError::value(at, "a group of files", "one file"));
            }
            check_source(source, &at)?;
        }
        packages::check(&self.os_packages)
    }
}

impl PlanComponent {
    fn check(&self, at: &str, accepted: &[String]) -> Result<(), ManifestError> {
        check_accepted(&self.license, at, accepted)?;
        if self.files.is_empty() && self.hub.is_none() && self.modelscope.is_none() {
            return Err(ManifestError::value(
                at,
                "no files",
                "`files`, `hub` or `modelscope`",
            ));
        }
        for key in self.fill.keys() {
            if key.is_empty() || key.trim() != key || key.contains(['{', '}']) {
                return Err(ManifestError::value(
                    format!("{at}.fill"),
                    format!("the key `{key}`"),
                    "a word without braces or spaces around it",
                ));
            }
        }
        check_eulas(&self.eulas, at)?;
        check_files(&self.files, at)
    }
}

impl PlanImage {
    fn check(
        &self,
        at: &str,
        accepted: &[String],
        known: &BTreeSet<&BackendName>,
    ) -> Result<(), ManifestError> {
        check_accepted(&self.license, at, accepted)?;
        if let Some(other) = self.backends.iter().find(|name| !known.contains(name)) {
            let (at, found) = (format!("{at}.backends"), format!("`{other}`"));
            return Err(ManifestError::value(at, found, "names of `backends`"));
        }
        let at = format!("{at}.source");
        match &self.source {
            ImageSource::Oci(source) => {
                if self.tag.is_none() && source.digest.is_none() {
                    let expected = "`tag`, or `digest` in `source.oci`";
                    return Err(ManifestError::value(at, "neither", expected));
                }
                for url in source.endpoint.iter().chain(&source.mirrors) {
                    check_address(url, &format!("{at}.oci"), "`login` names variables")?;
                    if url.contains(['?', '#']) {
                        let found = "an address with a query";
                        let expected = "`https://host` or `https://host/prefix`";
                        return Err(ManifestError::value(format!("{at}.oci"), found, expected));
                    }
                }
                for variable in source.login.iter().flat_map(|l| [&l.user, &l.password]) {
                    check_variable(variable, &format!("{at}.oci.login"), "a value")?;
                }
                Ok(())
            }
            ImageSource::OciLayout(local) => {
                check_text(&local.path, &format!("{at}.oci-layout.path"), "a path")
            }
            ImageSource::DockerArchive(local) => {
                check_text(&local.path, &format!("{at}.docker-archive.path"), "a path")
            }
        }
    }
}

fn check_accepted(expression: &str, at: &str, accepted: &[String]) -> Result<(), ManifestError> {
    check_license(expression, &format!("{at}.license"))?;
    if license::accepted_by(expression, accepted).is_some() {
        return Ok(());
    }
    Err(ManifestError::value(
        format!("{at}.license"),
        format!("`{expression}`, which was not accepted"),
        "an SPDX expression that `accept_licenses` is enough for",
    ))
}

impl PlanBackend {
    fn check(&self, at: &str) -> Result<(), ManifestError> {
        check_files(&self.files, at)?;
        if let Some(python) = &self.python {
            python.check(&format!("{at}.python"))?;
        }
        check_eulas(&self.eulas, at)?;
        let at = format!("{at}.host");
        check_host_items(&self.host, &self.chip, &at, |file| &file.path)?;
        for (position, item) in self.host.iter().enumerate() {
            for (field, file) in item.files() {
                check_one_file(file, &format!("{at}[{position}].{field}"))?;
            }
        }
        Ok(())
    }
}

impl PlanPython {
    fn check(&self, at: &str) -> Result<(), ManifestError> {
        check_python_version(&self.version, &format!("{at}.version"))?;
        for (position, path) in self.requirement_files.iter().enumerate() {
            check_text(
                path,
                &format!("{at}.requirement_files[{position}]"),
                "a path",
            )?;
        }
        for (position, wheel) in self.wheels.iter().enumerate() {
            let at = format!("{at}.wheels[{position}]");
            if wheel.is_group() {
                return Err(ManifestError::value(at, "a group of files", "one wheel"));
            }
            check_source(wheel, &at)?;
        }
        if let Some(interpreter) = &self.interpreter {
            let at = format!("{at}.interpreter");
            if interpreter.taken().0.is_some() || matches!(interpreter, Source::Folder(_)) {
                return Err(ManifestError::value(
                    at,
                    "one file",
                    "an archive with a Python",
                ));
            }
            check_source(interpreter, &at)?;
        }
        if let Some(version) = &self.uv {
            check_word(version, &format!("{at}.uv"), "version")?;
        }
        Ok(())
    }
}

fn check_eulas(eulas: &[Eula<PlanFile>], at: &str) -> Result<(), ManifestError> {
    for (position, eula) in eulas.iter().enumerate() {
        check_one_file(&eula.text, &format!("{at}.eulas[{position}].text"))?;
    }
    Ok(())
}

fn check_one_file(file: &PlanFile, at: &str) -> Result<(), ManifestError> {
    if file.source.is_group() {
        return Err(ManifestError::value(at, "a group of files", "one file"));
    }
    check_source(&file.source, &format!("{at}.source"))
}

fn check_files(files: &[PlanFile], at: &str) -> Result<(), ManifestError> {
    let mut paths = BTreeSet::new();
    for (position, file) in files.iter().enumerate() {
        let at = format!("{at}.files[{position}]");
        // A folder may take several groups; a file has one source.
        if !file.source.is_group() && !paths.insert(&file.path) {
            return Err(ManifestError::value(
                format!("{at}.path"),
                format!("`{}` a second time", file.path),
                "each path once",
            ));
        }
        check_source(&file.source, &format!("{at}.source"))?;
    }
    Ok(())
}

fn check_source(source: &Source, at: &str) -> Result<(), ManifestError> {
    let (member, members, _) = source.taken();
    if member.is_some() && !members.is_empty() {
        let found = "`member` and `members`";
        return Err(ManifestError::value(at, found, "one of the two"));
    }
    match source {
        Source::Pypi(source) => check_pypi(source, &format!("{at}.pypi")),
        Source::Https(source) => check_https(source, &format!("{at}.https")),
        Source::File(file) => check_text(&file.path, &format!("{at}.file.path"), "a path"),
        Source::Folder(folder) => check_text(&folder.path, &format!("{at}.folder.path"), "a path"),
        Source::Own(own) => {
            let at = format!("{at}.own");
            check_text(&own.from, &format!("{at}.from"), "where to get the file")?;
            check_text(&own.file_name, &format!("{at}.file_name"), "its name")
        }
    }
}

fn check_license(text: &str, at: &str) -> Result<(), ManifestError> {
    license::parse(text).map(drop).map_err(|problem| {
        let found = format!("`{text}` ({problem})");
        ManifestError::value(
            at,
            found,
            "an SPDX expression, or `LicenseRef-…` for others",
        )
    })
}

fn check_text(text: &str, at: &str, expected: &str) -> Result<(), ManifestError> {
    if text.is_empty() {
        return Err(ManifestError::value(at, "nothing", expected));
    }
    Ok(())
}

fn check_pypi(source: &PypiSource, at: &str) -> Result<(), ManifestError> {
    if let Some(target) = &source.target {
        check_python_version(&target.python, &format!("{at}.target.python"))?;
    }
    for (key, text) in [("project", &source.project), ("version", &source.version)] {
        check_word(text, &format!("{at}.{key}"), key)?;
    }
    Ok(())
}

/// The name of a project, or its version.
fn check_word(text: &str, at: &str, key: &str) -> Result<(), ManifestError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+!".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return Ok(());
    }
    Err(ManifestError::value(
        at,
        format!("`{text}`"),
        format!("the exact {key}, without operators or spaces"),
    ))
}

fn check_https(source: &HttpsSource, at: &str) -> Result<(), ManifestError> {
    for url in std::iter::once(&source.url).chain(&source.mirrors) {
        let instead = "`secret_headers` names a variable that holds a secret";
        check_address(url, &format!("{at}.url"), instead)?;
    }
    for (name, value) in &source.headers {
        check_header(name, &format!("{at}.headers"))?;
        let secret = [
            "authorization",
            "cookie",
            "proxy-authorization",
            "private-token",
        ];
        if secret.contains(&name.to_ascii_lowercase().as_str()) {
            let found = format!("`{name}`");
            let expected = "headers without secrets; this one belongs in `secret_headers`";
            return Err(ManifestError::value(
                format!("{at}.headers"),
                found,
                expected,
            ));
        }
        if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            let found = format!("the value of `{name}`");
            return Err(ManifestError::value(
                format!("{at}.headers"),
                found,
                "printable ASCII",
            ));
        }
    }
    for (name, variable) in &source.secret_headers {
        check_header(name, &format!("{at}.secret_headers"))?;
        let found = format!("the value of `{name}`");
        check_variable(variable, &format!("{at}.secret_headers"), &found)?;
    }
    Ok(())
}

/// An address without a secret in it. `instead` says where a secret belongs.
pub(super) fn check_address(url: &str, at: &str, instead: &str) -> Result<(), ManifestError> {
    // Plain HTTP is as good here: the digest is pinned.
    let rest = url.strip_prefix("https://").or(url.strip_prefix("http://"));
    let Some(rest) = rest else {
        let expected = "an address that begins with `https://`";
        return Err(ManifestError::value(at, format!("`{url}`"), expected));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        // Not shown: it may be a password.
        let found = "an address with a user name or a password";
        let expected = format!("an address without; {instead}");
        return Err(ManifestError::value(at, found, expected));
    }
    Ok(())
}

/// The name of an environment variable. What is there instead is not shown: it may be the secret itself.
fn check_variable(name: &str, at: &str, found: &str) -> Result<(), ManifestError> {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(());
    }
    let expected = "the name of an environment variable, such as `VENDOR_TOKEN`";
    Err(ManifestError::value(at, found, expected))
}

/// The name of a header that does not steer the transfer itself.
fn check_header(name: &str, at: &str) -> Result<(), ManifestError> {
    let ours = [
        "host",
        "range",
        "accept-encoding",
        "content-length",
        "connection",
        "transfer-encoding",
    ];
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let good = !name.is_empty() && name.bytes().all(plain);
    if good && !ours.contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let expected = "the name of a header that the transfer itself does not need";
    Err(ManifestError::value(at, format!("`{name}`"), expected))
}

fn check_python_version(version: &str, at: &str) -> Result<(), ManifestError> {
    let good = version
        .split_once('.')
        .is_some_and(|(major, minor)| major == "3" && minor.parse::<u8>().is_ok());
    if good {
        return Ok(());
    }
    Err(ManifestError::value(
        at,
        format!("`{version}`"),
        "a Python version such as `3.11`",
    ))
}
