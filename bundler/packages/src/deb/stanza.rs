//! Paragraphs of `Name: value` lines, as all of Debian's files have them.

/// One paragraph. A value that goes on has its further lines as they are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stanza {
    pub(crate) fields: Vec<(String, String)>,
}

impl Stanza {
    /// Reads one paragraph. `None` where a line is neither a field nor goes on with one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                let (_, value) = fields.last_mut()?;
                value.push('\n');
                value.push_str(line.trim_end());
            } else if !line.starts_with('#') {
                let (name, value) = line.split_once(':')?;
                if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return None;
                }
                fields.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        Some(Self { fields })
    }

    /// The value of a field, whatever the case of its name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_is_read() {
        let stanza =
            Stanza::parse("Package: a\nDescription: short\n long\n .\ndepends: b, c\n").unwrap();
        assert_eq!(stanza.field("package"), Some("a"));
        assert_eq!(stanza.field("Depends"), Some("b, c"));
        assert_eq!(stanza.field("Description"), Some("short\n long\n ."));
        assert_eq!(stanza.field("None"), None);
        for text in [" goes on with nothing", "no field", ": x", "a b: c"] {
            assert_eq!(Stanza::parse(text), None, "{text}");
        }
    }
}
