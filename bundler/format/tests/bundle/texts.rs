//! Every code has a text and a hint in each language, and no text names a value that is not given.

use std::fs;
use std::path::Path;

const SOURCES: [&str; 6] = [
    "src/build_error.rs",
    "src/chain.rs",
    "src/key_error.rs",
    "src/parity.rs",
    "src/sign_error.rs",
    "src/verify_error.rs",
];

#[test]
fn every_code_has_a_text_and_a_hint() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for language in ["en", "zh"] {
        let file = here.join(format!(
            "../../installer/console/catalog/{language}/bundle.toml"
        ));
        let catalogue: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
        let mut codes = 0;
        for source in SOURCES {
            let source = fs::read_to_string(here.join(source)).unwrap();
            for code in source.split('"').filter(|text| text.starts_with("bundle.")) {
                let entry = catalogue
                    .get(code)
                    .unwrap_or_else(|| panic!("{language}: no {code}"));
                for part in ["text", "hint"] {
                    let text = entry
                        .get(part)
                        .and_then(toml::Value::as_str)
                        .unwrap_or_default();
                    assert!(!text.is_empty(), "{language}: {code} has no {part}");
                }
                codes += 1;
            }
        }
        assert!(codes > 30, "{codes}");
    }
}
