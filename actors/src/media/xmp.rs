//! XMP: the metadata that programs and people write into pictures, videos and sidecars, as XML.
//!
//! [`Document`] is the lossless tree, `properties` finds values in it by the rules of RDF, and `origin` takes
//! from them what is used as facts. Nothing else here or elsewhere reads XML.

mod origin;
mod properties;
mod tree;

pub(super) use origin::{extension_of, origin};
pub use tree::{Attribute, Content, Document, Element, Error};

/// The namespaces that are used here.
pub mod namespace {
    /// Dublin Core: title, description, subject.
    pub const DC: &str = "http://purl.org/dc/elements/1.1/";
    /// EXIF as XMP.
    pub const EXIF: &str = "http://ns.adobe.com/exif/1.0/";
    /// IPTC Core.
    pub const IPTC: &str = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/";
    /// Where the rest of a divided packet is.
    pub const NOTE: &str = "http://ns.adobe.com/xmp/note/";
    /// Photoshop.
    pub const PHOTOSHOP: &str = "http://ns.adobe.com/photoshop/1.0/";
    /// RDF, in whose terms all properties are written.
    pub const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
    /// TIFF as XMP.
    pub const TIFF: &str = "http://ns.adobe.com/tiff/1.0/";
    /// Every XML document may use it as `xml` without a declaration.
    pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
    /// The basic properties of XMP.
    pub const XMP: &str = "http://ns.adobe.com/xap/1.0/";
}
