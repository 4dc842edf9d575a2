//! XML as nodes: no entities but the five that need no declaration, no document types, no node longer than a limit.

use std::io::{self, BufRead, Read};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::error::PackageError;

/// One thing in a document. Names are without their prefix.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Node {
    Open(Element),
    Text(String),
    Close(String),
    End,
}

/// An opening tag.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let found = self.attributes.iter_mut().find(|(key, _)| key == name);
        found.map(|(_, value)| std::mem::take(value))
    }
}

/// A document that is read once, from its beginning.
pub(super) struct Document<'a> {
    reader: Reader<Rationed<Box<dyn BufRead + 'a>>>,
    buffer: Vec<u8>,
    file: &'a str,
    depth: usize,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a str, source: Box<dyn BufRead + 'a>) -> Self {
        let mut reader = Reader::from_reader(Rationed {
            source,
            left: LONGEST_NODE,
        });
        // `<a/>` counts as `<a></a>`.
        reader.config_mut().expand_empty_elements = true;
        Self {
            reader,
            buffer: Vec::new(),
            file,
            depth: 0,
        }
    }

    pub(super) fn wrong(&self, problem: impl std::fmt::Display) -> PackageError {
        PackageError::metadata(self.file, problem)
    }

    pub(super) fn next(&mut self) -> Result<Node, PackageError> {
        loop {
            self.buffer.clear();
            self.reader.get_mut().left = LONGEST_NODE;
            let event = self.reader.read_event_into(&mut self.buffer);
            let wrong = |problem: String| PackageError::metadata(self.file, problem);
            let event = event.map_err(|error| wrong(error.to_string()))?;
            return Ok(match event {
                Event::Start(start) => {
                    self.depth += 1;
                    Node::Open(element(&start).map_err(wrong)?)
                }
                Event::End(end) => {
                    self.depth -= 1;
                    Node::Close(local(end.name().as_ref()))
                }
                Event::Text(text) => Node::Text(text.xml10_content().into_owned()),
                Event::CData(text) => Node::Text(text.xml10_content().into_owned()),
                Event::GeneralRef(reference) => {
                    let named = reference.xml10_content();
                    let text = match reference.resolve_char_ref() {
                        Ok(Some(letter)) => Some(letter.to_string()),
                        _ => quick_xml::escape::resolve_predefined_entity(&named).map(Into::into),
                    };
                    match text {
                        Some(text) => Node::Text(text),
                        None => return Err(wrong(format!("it uses the entity `&{named};`"))),
                    }
                }
                Event::DocType(_) => return Err(wrong("it declares a document type".to_owned())),
                Event::Eof if self.depth > 0 => {
                    return Err(wrong("it ends in the middle".to_owned()));
                }
                Event::Eof => Node::End,
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            });
        }
    }

    /// The text up to the end of the element that was just opened; elements inside are passed over.
    pub(super) fn text(&mut self) -> Result<String, PackageError> {
        let (mut all, mut depth) = (String::new(), 1);
        while depth > 0 {
            match self.next()? {
                Node::Text(text) if depth == 1 => all.push_str(&text),
                Node::Text(_) => {}
                Node::Open(_) => depth += 1,
                Node::Close(_) => depth -= 1,
                Node::End => return Err(self.wrong("it ends in the middle")),
            }
            if all.len() > LONGEST_NODE {
                return Err(self.wrong("a text is too long"));
            }
        }
        Ok(all)
    }
}

fn element(start: &BytesStart) -> Result<Element, String> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.map_err(|error| error.to_string())?.into_owned();
        attributes.push((local(attribute.key.as_ref()), value));
    }
    Ok(Element {
        name: local(start.name().as_ref()),
        attributes,
    })
}

/// A name without its prefix.
fn local(name: &(impl AsRef<[u8]> + ?Sized)) -> String {
    let name = String::from_utf8_lossy(name.as_ref());
    let (_, local) = name.rsplit_once(':').unwrap_or(("", &name));
    local.to_owned()
}

/// Gives at most so many bytes until it is filled up again: what one node may take.
struct Rationed<R> {
    source: R,
    left: usize,
}

impl<R: BufRead> BufRead for Rationed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            let problem = format!("one node of it has more than {LONGEST_NODE} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        let bytes = self.source.fill_buf()?;
        Ok(&bytes[..bytes.len().min(self.left)])
    }

    fn consume(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
        self.source.consume(count);
    }
}

impl<R: BufRead> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// More than any description.
const LONGEST_NODE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<Node>, PackageError> {
        let mut document = Document::new("a.xml", Box::new(text.as_bytes()));
        let mut nodes = Vec::new();
        loop {
            match document.next()? {
                Node::End => return Ok(nodes),
                node => nodes.push(node),
            }
        }
    }

    #[test]
    fn nodes_come_without_prefixes_and_with_their_five_entities() {
        let nodes =
            all("<?xml version='1.0'?><rpm:a b='&lt;1'>x &amp; &#21517;<c/></rpm:a>").unwrap();
        let shown = format!("{nodes:?}");
        assert!(
            shown.contains(r#"("b", "<1")"#) && shown.contains('名'),
            "{shown}"
        );
        assert_eq!(nodes.last(), Some(&Node::Close("a".into())));
    }

    #[test]
    fn declarations_foreign_entities_and_endless_nodes_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b 'xxxxxxxx'><!ENTITY c '&b;&b;&b;&b;'>]><a>&c;</a>";
        let long = format!("<a>{}</a>", "x".repeat(LONGEST_NODE + 1));
        let wide = format!("<a {}/>", "b='' ".repeat(LONGEST_NODE / 4));
        for (text, expected) in [
            (bomb, "document type"),
            ("<a>&c;</a>", "&c;"),
            ("<a b='&c;'/>", "c"),
            (long.as_str(), "more than"),
            (wide.as_str(), ""),
            ("<a><b></a>", ""),
            ("<a><b>", "middle"),
            ("<a", ""),
        ] {
            let error = all(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
