//! A lossless tree of an XML document.
//!
//! Each node refers to its own markup in the text of the document, so a document that is written again has
//! the same bytes: blanks in tags, quotes, the order of attributes, comments and padding included. Names are
//! resolved to namespaces, and values are unescaped, when the document is read.

use std::fmt;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{XmlVersion, name::QName};

use super::namespace;

/// Largest document, in bytes; masks of Lightroom have megabytes.
const MAX_BYTES: usize = 16 << 20;
/// Most nodes and attributes, each of which takes about a hundred bytes of memory.
const MAX_NODES: usize = 200_000;
/// Most elements inside one another; XMP has about fifteen.
const MAX_DEPTH: usize = 100;
/// Most namespaces that are declared at one place; ExifTool declares about sixty.
const MAX_NAMESPACES: usize = 500;

/// Why a document cannot be read: a sentence in lower case without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// How the text of a document is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Utf8,
    Utf16Little,
    Utf16Big,
}

/// An XML document that can be written again without any loss.
#[derive(Debug, Clone)]
pub struct Document {
    text: String,
    coding: Coding,
    /// In the order of the document; a node is followed by all that is in it.
    nodes: Vec<Node>,
    /// The namespaces that elements and attributes have, by number.
    namespaces: Vec<String>,
}

#[derive(Debug, Clone)]
struct Node {
    /// Its own markup in the text: a start tag, or everything else up to the next markup.
    markup: Range<usize>,
    /// The number of the first node after it that is not in it.
    next: usize,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Element {
        name: Name,
        attributes: Vec<(Name, String)>,
        /// The end tag in the text; empty for `<a/>`.
        end: Range<usize>,
    },
    /// Characters, with all references resolved.
    Text(String),
    /// Comments, instructions and the XML declaration.
    Other,
}

/// A name: the number of its namespace, if it has one, and its local part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    namespace: Option<usize>,
    local: String,
}

impl Document {
    /// Reads a document of UTF-8, or of UTF-16 with its mark. Entities are not expanded, beyond the five that
    /// XML has, and nothing is fetched.
    ///
    /// # Errors
    /// If the document is no well-formed XML, has a document type, is larger than 16 MiB, has more than
    /// 200,000 nodes and attributes, is nested more than a hundred deep, or uses more than 500 namespaces.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
        }
        let (text, coding) = decode(bytes)?;
        let mut builder = Builder::default();
        builder.read(&text)?;
        let Builder { nodes, namespaces, .. } = builder;
        Ok(Self { text, coding, nodes, namespaces })
    }

    /// The document as bytes; those that were read, if nothing was changed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(self.text.len());
        let mut open: Vec<(usize, &Range<usize>)> = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            while let Some((_, end)) = open.pop_if(|(next, _)| *next <= number) {
                text.push_str(&self.text[end.clone()]);
            }
            text.push_str(&self.text[node.markup.clone()]);
            if let Kind::Element { end, .. } = &node.kind {
                open.push((node.next, end));
            }
        }
        while let Some((_, end)) = open.pop() {
            text.push_str(&self.text[end.clone()]);
        }
        let units = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect();
        match self.coding {
            Coding::Utf8 => text.into_bytes(),
            Coding::Utf16Little => units(u16::to_le_bytes),
            Coding::Utf16Big => units(u16::to_be_bytes),
        }
    }

    /// The elements that are in no other one: one, in a whole document.
    pub fn roots(&self) -> impl Iterator<Item = Element<'_>> {
        elements(self, 0..self.nodes.len())
    }

    /// All elements of a name, in the order of the document.
    pub fn all<'a>(&'a self, namespace: &'a str, local: &'a str) -> impl Iterator<Item = Element<'a>> {
        let numbers = 0..self.nodes.len();
        numbers.filter_map(|number| Element::at(self, number)).filter(move |it| it.is(namespace, local))
    }

    fn namespace(&self, name: &Name) -> &str {
        name.namespace.and_then(|number| self.namespaces.get(number)).map_or("", String::as_str)
    }
}

/// An element of a document.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    document: &'a Document,
    number: usize,
    node: &'a Node,
    name: &'a Name,
    attributes: &'a [(Name, String)],
}

/// An attribute of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The namespace of its name; empty if the name has none.
    pub namespace: &'a str,
    /// Its name without prefix.
    pub local: &'a str,
    /// Its value, unescaped.
    pub value: &'a str,
}

/// A part of an element's contents.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// An element.
    Element(Element<'a>),
    /// Characters, unescaped.
    Text(&'a str),
}

impl<'a> Element<'a> {
    fn at(document: &'a Document, number: usize) -> Option<Self> {
        let node = document.nodes.get(number)?;
        let Kind::Element { name, attributes, .. } = &node.kind else { return None };
        Some(Self { document, number, node, name, attributes })
    }

    /// The namespace of its name; empty if the name has none.
    pub fn namespace(&self) -> &'a str {
        self.document.namespace(self.name)
    }

    /// Its name without prefix.
    pub fn local(&self) -> &'a str {
        &self.name.local
    }

    /// Whether it has this name.
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.name.local == local && self.namespace() == namespace
    }

    /// Its attributes in order, without declarations of namespaces.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let document = self.document;
        self.attributes.iter().map(move |(name, value)| Attribute {
            namespace: document.namespace(name),
            local: &name.local,
            value,
        })
    }

    /// The value of an attribute.
    pub fn attribute(&self, namespace: &str, local: &str) -> Option<&'a str> {
        self.attributes().find(|it| it.local == local && it.namespace == namespace).map(|it| it.value)
    }

    /// The elements in it, without those that are in them.
    pub fn elements(&self) -> impl Iterator<Item = Element<'a>> + use<'a> {
        elements(self.document, self.number + 1..self.node.next)
    }

    /// Elements and characters in it, in order, without comments and instructions.
    pub fn contents(&self) -> impl Iterator<Item = Content<'a>> + use<'a> {
        contents(self.document, self.number + 1..self.node.next)
    }

    /// The characters in it, without those of elements in it.
    pub fn text(&self) -> String {
        let texts = self.contents().filter_map(|it| match it {
            Content::Text(text) => Some(text),
            Content::Element(_) => None,
        });
        texts.collect()
    }

    /// The element as it is written in the document, from its start tag to its end tag.
    pub fn markup(&self) -> &'a str {
        let Kind::Element { end, .. } = &self.node.kind else { return "" };
        let end = if end.is_empty() { self.node.markup.end } else { end.end };
        &self.document.text[self.node.markup.start..end]
    }
}

fn elements(document: &Document, within: Range<usize>) -> impl Iterator<Item = Element<'_>> {
    contents(document, within).filter_map(|it| match it {
        Content::Element(element) => Some(element),
        Content::Text(_) => None,
    })
}

fn contents(document: &Document, within: Range<usize>) -> impl Iterator<Item = Content<'_>> {
    let mut number = within.start;
    std::iter::from_fn(move || {
        while number < within.end {
            let here = number;
            let node = document.nodes.get(here)?;
            number = node.next;
            match &node.kind {
                Kind::Element { .. } => return Element::at(document, here).map(Content::Element),
                Kind::Text(text) => return Some(Content::Text(text)),
                Kind::Other => {}
            }
        }
        None
    })
}

/// The text of a document, with its mark, and its coding.
fn decode(bytes: &[u8]) -> Result<(String, Coding), Error> {
    let wide = |coding, unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|&pair| unit(pair)).collect();
        let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty());
        Ok((text.ok_or_else(|| Error("it is no UTF-16".into()))?, coding))
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(Coding::Utf16Little, u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(Coding::Utf16Big, u16::from_be_bytes),
        _ => {
            let text = std::str::from_utf8(bytes).map_err(|_| Error("it is no UTF-8".into()))?;
            Ok((text.to_owned(), Coding::Utf8))
        }
    }
}

/// Builds the nodes of a document.
#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    namespaces: Vec<String>,
    /// Numbers of the elements that are not closed yet, each with the number of declarations before it.
    open: Vec<(usize, usize)>,
    /// The declarations that hold here: a prefix, empty for the default, and the number of its namespace.
    declared: Vec<(String, Option<usize>)>,
    /// Number of nodes and attributes.
    size: usize,
}

impl Builder {
    fn read(&mut self, text: &str) -> Result<(), Error> {
        // The reader would pass over a mark without counting it, also over a second one.
        let mark = text.len() - text.trim_start_matches('\u{feff}').len();
        if mark > 0 {
            self.add(0..mark, Kind::Other)?;
        }
        let mut reader = Reader::from_str(&text[mark..]);
        let config = reader.config_mut();
        config.check_end_names = true;
        // Programs write these too; they are kept as they are.
        config.allow_dangling_amp = true;
        loop {
            let start = mark + reader.buffer_position() as usize;
            let event = reader.read_event().map_err(|error| Error(format!("it is no XML: {error}")))?;
            let markup = start..mark + reader.buffer_position() as usize;
            match event {
                Event::Start(tag) => self.open(&tag, markup, true)?,
                Event::Empty(tag) => self.open(&tag, markup, false)?,
                Event::End(_) => self.close(markup)?,
                Event::Text(it) => self.add(markup, Kind::Text(it.xml10_content().into_owned()))?,
                Event::CData(it) => self.add(markup, Kind::Text(it.xml10_content().into_owned()))?,
                Event::GeneralRef(it) => self.add(markup, Kind::Text(resolved(&it)))?,
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => self.add(markup, Kind::Other)?,
                Event::DocType(_) => return Err(Error("it has a document type, which XMP has not".into())),
                Event::Eof => break,
            }
        }
        if self.open.is_empty() { Ok(()) } else { Err(Error("it ends early".into())) }
    }

    fn count(&mut self, more: usize) -> Result<(), Error> {
        self.size = self.size.saturating_add(more);
        if self.size > MAX_NODES {
            return Err(Error(format!("it has more than {MAX_NODES} nodes")));
        }
        Ok(())
    }

    fn add(&mut self, markup: Range<usize>, kind: Kind) -> Result<(), Error> {
        self.count(1)?;
        let next = self.nodes.len() + 1;
        self.nodes.push(Node { markup, next, kind });
        Ok(())
    }

    fn open(&mut self, tag: &BytesStart<'_>, markup: Range<usize>, has_end: bool) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Error(format!("it is nested more than {MAX_DEPTH} deep")));
        }
        let before = self.declared.len();
        let mut raw = Vec::new();
        for attribute in tag.attributes().with_checks(false) {
            self.count(1)?;
            let attribute = attribute.map_err(|error| Error(format!("it is no XML: {error}")))?;
            let value = match attribute.normalized_value_with(
                XmlVersion::Implicit1_0,
                1,
                resolve_predefined_entity,
            ) {
                Ok(value) => value.into_owned(),
                // A reference that XML does not know is kept as it is.
                Err(_) => attribute.value.clone().into_owned(),
            };
            match declaration(attribute.key) {
                Some(prefix) => self.declare(prefix, value)?,
                None => raw.push((attribute.key, value)),
            }
        }
        let attributes = raw.into_iter().map(|(key, value)| (self.name(key, false), value)).collect();
        let name = self.name(tag.name(), true);
        let number = self.nodes.len();
        let end = markup.end..markup.end;
        self.add(markup, Kind::Element { name, attributes, end })?;
        if has_end {
            self.open.push((number, before));
        } else {
            self.declared.truncate(before);
        }
        Ok(())
    }

    fn close(&mut self, markup: Range<usize>) -> Result<(), Error> {
        let (number, before) =
            self.open.pop().ok_or_else(|| Error("it has an end without a start".into()))?;
        self.declared.truncate(before);
        let next = self.nodes.len();
        if let Some(node) = self.nodes.get_mut(number) {
            node.next = next;
            if let Kind::Element { end, .. } = &mut node.kind {
                *end = markup;
            }
        }
        Ok(())
    }

    fn declare(&mut self, prefix: &str, namespace: String) -> Result<(), Error> {
        if self.declared.len() >= MAX_NAMESPACES {
            return Err(Error(format!("it declares more than {MAX_NAMESPACES} namespaces")));
        }
        let number = (!namespace.is_empty()).then(|| self.number(namespace));
        if number.is_some_and(|it| it >= MAX_NAMESPACES) {
            return Err(Error(format!("it uses more than {MAX_NAMESPACES} namespaces")));
        }
        self.declared.push((prefix.to_owned(), number));
        Ok(())
    }

    fn number(&mut self, namespace: String) -> usize {
        self.namespaces.iter().position(|it| *it == namespace).unwrap_or_else(|| {
            self.namespaces.push(namespace);
            self.namespaces.len() - 1
        })
    }

    /// Resolves a name. The default namespace holds for elements only.
    fn name(&mut self, name: QName<'_>, is_element: bool) -> Name {
        let name = name.0;
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        let namespace = match prefix {
            "" if !is_element => None,
            "xml" => Some(self.number(namespace::XML.into())),
            prefix => self.declared.iter().rev().find(|(it, _)| it == prefix).and_then(|(_, number)| *number),
        };
        Name { namespace, local: local.to_owned() }
    }
}

/// The prefix that an attribute declares, if it is a declaration.
fn declaration<'a>(key: QName<'a>) -> Option<&'a str> {
    match key.0 {
        "xmlns" => Some(""),
        name => name.strip_prefix("xmlns:"),
    }
}

/// The character of a reference, or the reference as it is written if XML does not know it.
fn resolved(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.into();
    }
    let name: &str = reference;
    resolve_predefined_entity(name).map_or_else(|| format!("&{name};"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDECAR: &str = "\u{feff}<?xpacket begin='\u{feff}' id='W5M0MpCehiHzreSzNTczkc9d'?>\r\n\
        <x:xmpmeta xmlns:x=\"adobe:ns:meta/\" x:xmptk = 'Core &amp; 5' >\n\
        <!-- a <b> comment --><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n\
        \t<rdf:Description rdf:about='' xmlns:dc='http://purl.org/dc/elements/1.1/'\n  \
        dc:format=\"image/x\"><dc:title><rdf:Alt><rdf:li xml:lang='x-default'>\
        T&#252;r &lt;<![CDATA[<&>]]> &unknown; &c</rdf:li></rdf:Alt></dc:title >\
        <dc:empty  /></rdf:Description></rdf:RDF></x:xmpmeta>\n  \n<?xpacket end=\"w\"?>\0";

    #[test]
    fn a_document_that_is_written_again_has_the_same_bytes() {
        let document = Document::read(SIDECAR.as_bytes()).expect("well-formed");
        assert_eq!(document.to_bytes(), SIDECAR.as_bytes());
        let wide = |unit: fn(u16) -> [u8; 2]| SIDECAR.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for bytes in [wide(u16::to_le_bytes), wide(u16::to_be_bytes)] {
            assert_eq!(Document::read(&bytes).expect("well-formed").to_bytes(), bytes);
        }
    }

    #[test]
    fn elements_attributes_and_text_are_found_by_their_namespaces() {
        let document = Document::read(SIDECAR.as_bytes()).expect("well-formed");
        let root = document.roots().next().expect("a root");
        assert!(root.is("adobe:ns:meta/", "xmpmeta"));
        assert_eq!(root.attribute("adobe:ns:meta/", "xmptk"), Some("Core & 5"));
        let description = document.all(namespace::RDF, "Description").next().expect("one");
        assert_eq!(description.attribute(namespace::DC, "format"), Some("image/x"));
        assert_eq!(description.attribute("", "format"), None);
        let names: Vec<&str> = description.elements().map(|it| it.local()).collect();
        assert_eq!(names, ["title", "empty"]);
        let item = document.all(namespace::RDF, "li").next().expect("one");
        assert_eq!(item.attribute(namespace::XML, "lang"), Some("x-default"));
        assert_eq!(item.text(), "T\u{fc}r <<&> &unknown; &c");
        let empty = document.all(namespace::DC, "empty").next().expect("one");
        assert_eq!((empty.markup(), empty.text()), ("<dc:empty  />", String::new()));
        assert!(item.markup().starts_with("<rdf:li") && item.markup().ends_with("</rdf:li>"));
    }

    #[test]
    fn the_same_prefix_may_mean_something_else_further_in() {
        let document = Document::read(
            b"<a xmlns='u:1' xmlns:p='u:2'><p:b xmlns:p='u:3' p:c='1' d='2'><e xmlns=''/></p:b><p:b/></a>",
        );
        let document = document.expect("well-formed");
        let found: Vec<(&str, &str)> =
            document.roots().flat_map(|a| a.elements()).map(|it| (it.namespace(), it.local())).collect();
        assert_eq!(found, [("u:3", "b"), ("u:2", "b")]);
        let inner = document.all("u:3", "b").next().expect("one");
        assert_eq!((inner.attribute("u:3", "c"), inner.attribute("", "d")), (Some("1"), Some("2")));
        assert!(document.all("", "e").next().is_some() && document.all("u:1", "a").next().is_some());
    }

    #[test]
    fn hostile_documents_are_refused_in_a_moment() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbbbbbbbb\"><!ENTITY c \"&b;&b;&b;&b;\">]><a>&c;</a>";
        let deep = "<a>".repeat(100_000);
        let many = format!("<a>{}</a>", "<b/>".repeat(300_000));
        let attributes = format!("<a {}/>", "b='' ".repeat(300_000));
        let namespaces: String = (0..1000).map(|n| format!("xmlns:n{n}='u:{n}' ")).collect();
        let namespaces = format!("<a {namespaces}/>");
        let apart: String = (0..1000).map(|n| format!("<b xmlns:p='u:{n}'/>")).collect();
        let apart = format!("<a>{apart}</a>");
        let large = vec![b' '; MAX_BYTES + 1];
        for (bytes, why) in [
            (bomb.as_bytes(), "document type"),
            (deep.as_bytes(), "deep"),
            (many.as_bytes(), "nodes"),
            (attributes.as_bytes(), "nodes"),
            (namespaces.as_bytes(), "namespaces"),
            (apart.as_bytes(), "namespaces"),
            (&large, "larger"),
            (b"<a><b></a>", "no XML"),
            (b"<a>", "early"),
            (b"<a", "no XML"),
            (b"</a>", "no XML"),
            (b"\xff", "UTF-8"),
            (b"\xff\xfe\0", "UTF-16"),
        ] {
            let error = Document::read(bytes).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
