//! The facts that XMP has: when, where and by which camera, and the title.

use super::namespace::{DC, EXIF, IPTC, NOTE, PHOTOSHOP, TIFF, XMP};
use super::tree::Document;
use crate::media::moment::Moment;
use crate::media::origin::{self, Origin};

/// What a document says of the origin of a picture or video. Times at which something was only changed do not
/// count.
pub(crate) fn origin(document: &Document) -> Origin {
    let value = |namespace, local| document.value(namespace, local);
    let dates = [
        (EXIF, "DateTimeOriginal"),
        (PHOTOSHOP, "DateCreated"),
        (EXIF, "DateTimeDigitized"),
        (XMP, "CreateDate"),
    ];
    let degrees = |local, letters| degrees(&value(EXIF, local)?, letters);
    let coordinates = degrees("GPSLatitude", ['N', 'S']).zip(degrees("GPSLongitude", ['E', 'W']));
    let place = [(IPTC, "Location"), (PHOTOSHOP, "City"), (PHOTOSHOP, "State"), (PHOTOSHOP, "Country")];
    Origin {
        taken: dates.into_iter().find_map(|(space, local)| Moment::read(&value(space, local)?)),
        camera: origin::camera(value(TIFF, "Make").as_deref(), value(TIFF, "Model").as_deref()),
        coordinates: coordinates.and_then(|(north, east)| origin::coordinates(north, east)),
        title: [(DC, "title"), (PHOTOSHOP, "Headline")]
            .into_iter()
            .find_map(|(space, local)| origin::title(&value(space, local)?)),
        place: origin::place(place.map(|(space, local)| value(space, local))),
    }
}

/// The name of the second document that a JPEG has if its XMP is too large for one segment.
pub(crate) fn extension_of(document: &Document) -> Option<String> {
    document.value(NOTE, "HasExtendedXMP")
}

/// Degrees from `50,5.166667N`, `50,5,10N`, or a decimal number. `letters` name the positive and the negative
/// half.
fn degrees(text: &str, letters: [char; 2]) -> Option<f64> {
    let text = text.trim();
    let letter = text.chars().last()?.to_ascii_uppercase();
    let (numbers, sign) = match letters.iter().position(|&it| it == letter) {
        Some(0) => (text.get(..text.len() - 1)?, 1.0),
        Some(_) => (text.get(..text.len() - 1)?, -1.0),
        None => (text, 1.0),
    };
    let mut numbers = numbers.split(',').map(|it| it.trim().parse::<f64>().ok().filter(|it| it.is_finite()));
    let first = numbers.next()??;
    let mut degrees = first.abs();
    for unit in [60.0, 3600.0] {
        if let Some(number) = numbers.next() {
            degrees += number?.abs() / unit;
        }
    }
    let sign = if first.is_sign_negative() { -1.0 } else { sign };
    numbers.next().is_none().then_some(degrees * sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_are_read_as_programs_write_them() {
        let near = |text, letters, expected: f64| {
            let found = degrees(text, letters).expect("a number");
            assert!((found - expected).abs() < 1e-6, "{text}: {found}");
        };
        near("50,5.166667N", ['N', 'S'], 50.086_111);
        near("50,5,10N", ['N', 'S'], 50.086_111);
        near("14,25.0W", ['E', 'W'], -14.416_667);
        near("33.5S", ['N', 'S'], -33.5);
        near("-33.5", ['N', 'S'], -33.5);
        near(" 18.25 ", ['E', 'W'], 18.25);
        for text in ["", "N", "50,5,10,3N", "50;5N", "NaN", "inf", "fifty", "50,5N,"] {
            assert_eq!(degrees(text, ['N', 'S']), None, "{text}");
        }
    }

    #[test]
    fn every_fact_is_found() {
        let xml = format!(
            "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='{}'><rdf:Description xmlns:exif='{EXIF}' \
             xmlns:photoshop='{PHOTOSHOP}' xmlns:dc='{DC}' xmlns:tiff='{TIFF}' xmlns:xmp='{XMP}' \
             xmlns:i='{IPTC}' xmp:CreateDate='2021-01-01T00:00:00' tiff:Make='Maker' tiff:Model='Model 5' \
             photoshop:DateCreated='2019-05-04T10:11:12.5+02:00' exif:GPSLatitude='50,5.166667N' \
             exif:GPSLongitude='14,25.0E' photoshop:City='Praha' photoshop:Country='Czechia'>\
             <photoshop:Headline>no</photoshop:Headline><i:Location>Hrad</i:Location><dc:title>\
             <rdf:Alt><rdf:li xml:lang='x-default'>The  castle\n</rdf:li></rdf:Alt></dc:title>\
             </rdf:Description></rdf:RDF></x:xmpmeta>",
            super::super::namespace::RDF
        );
        let origin = origin(&Document::read(xml.as_bytes()).expect("well-formed"));
        assert_eq!(origin.taken.map(|it| it.to_string()).as_deref(), Some("2019-05-04T10:11:12+02:00"));
        assert_eq!(origin.camera.as_deref(), Some("Maker Model 5"));
        assert_eq!(origin.coordinates, Some((50.086111, 14.416667)));
        assert_eq!(origin.title.as_deref(), Some("The castle"));
        let place = origin.place.expect("names");
        assert_eq!((place.location.as_deref(), place.city.as_deref()), (Some("Hrad"), Some("Praha")));
        assert_eq!((place.region, place.country.as_deref()), (None, Some("Czechia")));
    }
}
