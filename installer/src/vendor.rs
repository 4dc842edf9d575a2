//! What vendors' own signatures say of the files that a backend brings, shown before anything is written.

use std::time::{SystemTime, UNIX_EPOCH};

use bundle_format::{Fault, Verified};
use console::View;
use host_probe::{Check, Verdict};
use install_steps::{HostError, Prefix, VendorFile, vendor_files};
use manifest_schema::{BackendName, HostKind};
use report::{Diagnose as _, Trouble};
use serde_json::Value;

use crate::machine::{check_json, check_line};

/// The vendors' files of a backend, each judged.
pub(crate) struct Vendor {
    files: Vec<VendorFile>,
    /// What would be installed on the machine itself.
    kinds: Vec<HostKind>,
    pub(crate) checks: Vec<Check>,
}

impl Vendor {
    /// Checks what `backend` brings; `kinds` are what would be installed on the machine itself.
    pub(crate) fn of(
        view: &View,
        bundle: &Verified,
        prefix: &Prefix,
        backend: Option<&BackendName>,
        kinds: &[HostKind],
    ) -> Self {
        let mut backends = bundle.profiles.backends.iter();
        let chosen = backends.find(|one| Some(&one.name) == backend);
        let files = chosen.map_or_else(Vec::new, |one| vendor_files(bundle, prefix, one, view));
        let mut checked = Self {
            files,
            kinds: kinds.to_vec(),
            checks: Vec::new(),
        };
        let checks = checked
            .files
            .iter()
            .flat_map(|file| checked.judge(view, file));
        let checks: Vec<Check> = checks.collect();
        checked.checks = checks;
        checked
    }

    /// Packages of the backend are always used; what belongs to the machine only where it is asked for.
    fn is_used(&self, file: &VendorFile) -> bool {
        file.kind
            .as_ref()
            .is_none_or(|kind| self.kinds.contains(kind))
    }

    fn judge(&self, view: &View, file: &VendorFile) -> Vec<Check> {
        let stop = if self.is_used(file) {
            Verdict::Stop
        } else {
            Verdict::Warn
        };
        match &file.signed {
            Ok(signer) => {
                let mut check = Check::new(
                    "host.vendor-signed",
                    Verdict::Pass,
                    &file.file,
                    &signer.name,
                );
                check.args.push(("root", signer.root.clone()));
                let mut checks = vec![check];
                for remark in signer.remarks(now()) {
                    let mut check =
                        Check::new(remark.code(), Verdict::Warn, &file.file, &signer.name);
                    check.args.extend(remark.args());
                    checks.push(check);
                }
                checks
            }
            Err(HostError::Bundle(error)) if is_elsewhere(&error.fault) => {
                let verdict = Verdict::Warn;
                vec![Check::new(
                    "host.vendor-signature-later",
                    verdict,
                    &file.file,
                    "-",
                )]
            }
            Err(error) => {
                let mut check = Check::new("host.vendor-signature-broken", stop, &file.file, "-");
                check.args.push(("reason", reason(view, error)));
                vec![check]
            }
        }
    }

    /// Fails where a file that would be used is not what its vendor signed.
    pub(crate) fn refuse(self) -> Result<(), Trouble> {
        let kinds = self.kinds;
        let used = |file: &VendorFile| file.kind.as_ref().is_none_or(|kind| kinds.contains(kind));
        for file in self.files.into_iter().filter(used) {
            match file.signed {
                Ok(_) => {}
                Err(HostError::Bundle(error)) if is_elsewhere(&error.fault) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// As a person reads them; nothing where the backend has no such file.
    pub(crate) fn lines(&self, view: &View) -> Vec<String> {
        if self.checks.is_empty() {
            return Vec::new();
        }
        let none: &[(&str, String)] = &[];
        let title = view.text("installer.of-vendor", none);
        let lines = self.checks.iter().map(|check| check_line(view, check));
        std::iter::once(title).chain(lines).collect()
    }

    pub(crate) fn to_json(&self, view: &View) -> Vec<Value> {
        self.checks
            .iter()
            .map(|check| check_json(view, check))
            .collect()
    }
}

/// The vendor's file lies on a disc that is not in.
fn is_elsewhere(fault: &Fault) -> bool {
    matches!(fault, Fault::VolumesMissing { .. })
}

/// Why, in the reader's language: the vendor's signature itself says more than that it does not hold.
fn reason(view: &View, error: &HostError) -> String {
    let (code, args, text) = match error {
        HostError::VendorSignature { source, .. } => {
            (source.code(), source.args(), source.to_string())
        }
        other => (other.code(), other.args(), other.to_string()),
    };
    console::text(view.language(), code, &args).map_or(text, |found| found.text)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
