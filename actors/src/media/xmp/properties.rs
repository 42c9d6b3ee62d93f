//! Finds the values of properties by the rules of RDF, in all the forms in which programs write them.

use super::namespace;
use super::tree::{Document, Element};

/// Most items of a list that are looked at.
const MAX_ITEMS: usize = 1000;

impl Document {
    /// The first value of a property that is not blank. Of alternatives it is the one of the default
    /// language, otherwise the first.
    pub fn value(&self, namespace: &str, local: &str) -> Option<String> {
        let values = self.subjects().flat_map(|it| {
            let attribute = it.attribute(namespace, local).map(str::to_owned);
            let elements = it.elements().filter(|it| it.is(namespace, local));
            attribute.into_iter().chain(elements.filter_map(|it| value(&it)))
        });
        let mut values = values.filter(|it| !it.trim().is_empty());
        values.next()
    }

    /// The elements whose attributes and elements are the properties of the document.
    fn subjects(&self) -> impl Iterator<Item = Element<'_>> {
        let all = self.all(namespace::RDF, "RDF").flat_map(|it| it.elements());
        all.filter(|it| it.is(namespace::RDF, "Description"))
    }
}

/// The value of a property that is written as an element: characters, the first item of a list, or a value
/// with qualifiers.
fn value(element: &Element<'_>) -> Option<String> {
    if let Some(value) = element.attribute(namespace::RDF, "resource") {
        return Some(value.to_owned());
    }
    let Some(inner) = element.elements().next() else {
        let text = element.text();
        return Some(text).filter(|it| !it.trim().is_empty());
    };
    if ["Alt", "Seq", "Bag"].iter().any(|it| inner.is(namespace::RDF, it)) {
        let items = || inner.elements().filter(|it| it.is(namespace::RDF, "li")).take(MAX_ITEMS);
        let is_default = |it: &Element<'_>| it.attribute(namespace::XML, "lang") == Some("x-default");
        let texts = items().filter(is_default).chain(items()).map(|it| item(&it));
        return texts.into_iter().flatten().next();
    }
    qualified(element).or_else(|| qualified(&inner))
}

/// An item of a list: characters, or a value with qualifiers.
fn item(element: &Element<'_>) -> Option<String> {
    let text = match element.elements().next() {
        None => Some(element.text()),
        Some(inner) => qualified(element).or_else(|| qualified(&inner)),
    };
    text.filter(|it| !it.trim().is_empty())
}

/// The value among its qualifiers, which are other properties.
fn qualified(element: &Element<'_>) -> Option<String> {
    let attribute = element.attribute(namespace::RDF, "value").map(str::to_owned);
    attribute.or_else(|| element.elements().find(|it| it.is(namespace::RDF, "value")).map(|it| it.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(inside: &str) -> Option<String> {
        let xml = format!(
            "<rdf:RDF xmlns:rdf='{}' xmlns:dc='{}'><rdf:Description{inside}</rdf:Description></rdf:RDF>",
            namespace::RDF,
            namespace::DC
        );
        Document::read(xml.as_bytes()).expect("well-formed").value(namespace::DC, "title")
    }

    #[test]
    fn a_value_is_found_in_every_form_of_rdf() {
        let list =
            |kind: &str, items: &str| format!("><dc:title><rdf:{kind}>{items}</rdf:{kind}></dc:title>");
        let resource = "rdf:parseType='Resource'><rdf:value>Lake</rdf:value>";
        for form in [
            " dc:title='Lake'>",
            "><dc:title>Lake</dc:title>",
            &list("Alt", "<rdf:li xml:lang='de'>See</rdf:li><rdf:li xml:lang='x-default'>Lake</rdf:li>"),
            &list("Alt", "<rdf:li xml:lang='en'>Lake</rdf:li><rdf:li>See</rdf:li>"),
            &list("Seq", "<rdf:li> </rdf:li><rdf:li>Lake</rdf:li>"),
            &list("Bag", &format!("<rdf:li {resource}</rdf:li>")),
            &format!("><dc:title {resource}<dc:x>y</dc:x></dc:title>"),
            "><dc:title><rdf:Description rdf:value='Lake' dc:x='y'/></dc:title>",
            "><dc:title rdf:resource='Lake'/>",
            "/><rdf:Description dc:title='  '/><rdf:Description><dc:title>Lake</dc:title>",
        ] {
            assert_eq!(title(form).as_deref(), Some("Lake"), "{form}");
        }
        for form in
            [">", "><dc:title/>", "><dc:title><rdf:Alt/></dc:title>", "><x>Lake</x>", " title='Lake'>"]
        {
            assert_eq!(title(form), None, "{form}");
        }
    }
}
