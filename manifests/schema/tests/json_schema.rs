//! `manifests/json-schema/` says what the types say. `FERRY_WRITE_SCHEMAS=1` writes it anew.

use std::path::Path;
use std::{env, fs};

use manifest_schema::{
    Index, Profiles, Provenance, lock::Lock, plan::Plan, policy::Policy, site::Inventory,
    site::Site,
};
use schemars::{Schema, schema_for};

#[test]
fn published_schemas_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../json-schema");
    let schemas: [(&str, Schema); 8] = [
        ("plan", schema_for!(Plan)),
        ("lock", schema_for!(Lock)),
        ("index", schema_for!(Index)),
        ("profiles", schema_for!(Profiles)),
        ("provenance", schema_for!(Provenance)),
        ("site", schema_for!(Site)),
        ("inventory", schema_for!(Inventory)),
        ("policy", schema_for!(Policy)),
    ];
    for (name, schema) in schemas {
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if env::var_os("FERRY_WRITE_SCHEMAS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == text,
            "{name}.json is out of date: run FERRY_WRITE_SCHEMAS=1 cargo test -p manifest-schema"
        );
    }
}
