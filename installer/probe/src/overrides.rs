//! Facts that a person states instead of the probe: `--fact NAME=VALUE`. Printed in the plan and kept in the log.

use manifest_schema::chip::Family;
use manifest_schema::os::OsTable;
use manifest_schema::site::{Fact, Os, Release, Site, VendorSoftware};
use report::{Args, Diagnose, Outcome};

/// A stated fact cannot be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactError {
    /// No fact has this name.
    #[error("no fact is called `{name}`; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The value is none for this fact.
    #[error("`{value}` cannot be the fact `{name}`; expected {expected}")]
    Value {
        /// The fact.
        name: String,
        /// The value.
        value: String,
        /// What it should be, by an example.
        expected: &'static str,
    },
}

impl Diagnose for FactError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "host.fact-unknown",
            Self::Value { .. } => "host.fact-value",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Unknown { name, known } => vec![("name", name.clone()), ("known", known.clone())],
            Self::Value {
                name,
                value,
                expected,
            } => vec![
                ("name", name.clone()),
                ("value", value.clone()),
                ("expected", (*expected).to_owned()),
            ],
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

/// Puts a stated fact in the place of what the probe found. `driver`, `firmware` and `toolkit` speak of every vendor
/// whose device is here; `ascend.driver` of one.
///
/// # Errors
/// When there is no such fact, or the value cannot be one.
pub fn override_fact(site: &mut Site, name: &str, value: &str) -> Result<(), FactError> {
    let wrong = |expected| FactError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        expected,
    };
    match name {
        "arch" => site.arch = Some(stated(value.parse().map_err(|_| wrong("aarch64"))?)),
        "glibc" => site.glibc = Some(stated(value.parse().map_err(|_| wrong("2.28"))?)),
        "kernel" => site.kernel = Some(stated(value.to_owned())),
        "page-size" => site.page_size = Some(stated(value.parse().map_err(|_| wrong("65536"))?)),
        "memory" => {
            let gib: u64 = value.parse().map_err(|_| wrong("64"))?;
            let bytes = gib.checked_mul(1 << 30).ok_or_else(|| wrong("64"))?;
            site.memory = Some(stated(manifest_schema::ByteSize(bytes)));
        }
        "os" => site.os = Some(stated(os(value).ok_or_else(|| wrong("kylin-v10/SP3"))?)),
        _ => return software(site, name, value),
    }
    Ok(())
}

fn stated<T>(value: T) -> Fact<T> {
    Fact {
        value,
        source: SOURCE.to_owned(),
    }
}

/// `TABLE/EDITION`, by the names that the tables have.
fn os(value: &str) -> Option<Os> {
    let (table, edition) = value.split_once('/')?;
    let table = OsTable::named(table)?;
    let edition = table.editions.iter().find(|known| known.name == edition)?;
    Some(Os {
        id: table.name.clone(),
        name: format!("{} {}", table.name, edition.name),
        version: None,
        table: Some(table.name.clone()),
        edition: Some(edition.name.clone()),
    })
}

fn software(site: &mut Site, name: &str, value: &str) -> Result<(), FactError> {
    let unknown = || FactError::Unknown {
        name: name.to_owned(),
        known: KNOWN.to_owned(),
    };
    let (family, what) = match name.split_once('.') {
        Some((family, what)) => (Some(Family::named(family).ok_or_else(unknown)?), what),
        None => (None, name),
    };
    if !["driver", "firmware", "toolkit"].contains(&what) {
        return Err(unknown());
    }
    if value.is_empty() || value.chars().any(char::is_whitespace) {
        return Err(FactError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: "25.5.0",
        });
    }
    if let Some(family) = family.filter(|family| site.vendor(&family.name).is_none()) {
        site.vendors.push(VendorSoftware {
            family: family.name.clone(),
            ..VendorSoftware::default()
        });
    }
    let ours = |vendor: &&mut VendorSoftware| family.is_none_or(|one| one.name == vendor.family);
    for vendor in site.vendors.iter_mut().filter(ours) {
        // What the file accepts is not stated, so only the vendor's tables are asked about it.
        let release = Some(stated(Release {
            version: value.to_owned(),
            ..Release::default()
        }));
        match what {
            "driver" => vendor.driver = release,
            "firmware" => vendor.firmware = release,
            _ => vendor.toolkit = release,
        }
    }
    Ok(())
}

/// What a stated fact names as its source.
const SOURCE: &str = "--fact";
const KNOWN: &str =
    "arch, glibc, kernel, memory, os, page-size, driver, firmware, toolkit, FAMILY.driver";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stated_fact_is_checked_and_says_that_it_was_stated() {
        let mut site = Site::default();
        for (name, value, good) in [
            ("glibc", "2.28", true),
            ("glibc", "new", false),
            ("arch", "riscv64", false),
            ("memory", "64", true),
            ("memory", "18446744073709551615", false),
            ("os", "kylin-v10/SP3", true),
            ("os", "kylin-v10", false),
            ("ascend.driver", "25.5.0", true),
            ("ascend.driver", "", false),
            ("nobody.driver", "1", false),
            ("colour", "red", false),
        ] {
            assert_eq!(
                override_fact(&mut site, name, value).is_ok(),
                good,
                "{name}={value}"
            );
        }
        assert_eq!(site.glibc.unwrap().source, "--fact");
        assert_eq!(
            site.vendors[0].driver.as_ref().unwrap().value.version,
            "25.5.0"
        );
    }
}
