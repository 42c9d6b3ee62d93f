//! Colours are those that the file describes: by a profile, by code points, by gamma, or by EXIF.

#[path = "support/pictures.rs"]
mod pictures;
#[path = "support/profiles.rs"]
mod profiles;
#[path = "support/raws.rs"]
mod raws;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use mediamill_actors::media::Prepared;
use pictures::*;
use profiles::{ADOBE_RGB, BT_2020, Curve, DISPLAY_P3, GBR, Matrix, PROPHOTO, SRGB, code_in};
use raws::Value;

const FIELDS: [[u8; 3]; 4] = [[220, 30, 30], [30, 160, 40], [30, 60, 200], [240, 210, 40]];

/// Four fields whose colours are written in the code of a colour space.
fn card(code: impl Fn([u8; 3]) -> [f64; 3]) -> RgbImage {
    let fields = FIELDS.map(|colour| code(colour).map(|it| (it * 255.0).round() as u8));
    RgbImage::from_fn(80, 60, |x, y| Rgb(fields[usize::from(x >= 40) + 2 * usize::from(y >= 30)]))
}

fn card_in(space: &Matrix, curve: Curve) -> RgbImage {
    card(|colour| code_in(space, curve, colour))
}

/// The same with sixteen bits.
fn deep_card(code: impl Fn([u8; 3]) -> [f64; 3]) -> ImageBuffer<Rgb<u16>, Vec<u16>> {
    let fields = FIELDS.map(|colour| code(colour).map(|it| (it * 65_535.0).round() as u16));
    ImageBuffer::from_fn(80, 60, |x, y| Rgb(fields[usize::from(x >= 40) + 2 * usize::from(y >= 30)]))
}

/// Holds the fields in vision input and thumbnail to the card, and the facts to its names.
fn assert_card(name: &str, bytes: &[u8], most: u8) -> Prepared {
    let prepared = good(bytes);
    let thumbnail = prepared.thumbnail.as_ref().expect("asked for").as_ref().expect("made");
    let thumbnail = image::load_from_memory(thumbnail).expect("a JPEG").to_rgb8();
    for (&(x, y), expected) in [(20, 15), (60, 15), (20, 45), (60, 45)].iter().zip(FIELDS) {
        let found = pixel(&prepared, x, y);
        assert!(near(found, expected, most), "{name}: {found:?} instead of {expected:?}");
        assert!(near(thumbnail.get_pixel(x, y).0, expected, most + 8), "{name}, thumbnail");
    }
    let names: Vec<&str> = prepared.facts.colours.iter().map(|it| it.name.as_str()).collect();
    for colour in ["red", "green", "blue", "yellow"] {
        assert!(names.contains(&colour), "{name}: {names:?}");
    }
    prepared
}

/// Puts chunks behind the header of a PNG.
fn with_chunks(png: &[u8], chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let chunks: Vec<u8> = chunks.iter().flat_map(|(kind, body)| png_chunk(kind, body)).collect();
    [&png[..33], &chunks, &png[33..]].concat()
}

fn iccp(profile: &[u8]) -> (&'static [u8; 4], Vec<u8>) {
    use std::io::Write as _;
    let mut packed = flate2::write::ZlibEncoder::new(b"profile\0\0".to_vec(), flate2::Compression::fast());
    packed.write_all(profile).expect("in memory");
    (b"iCCP", packed.finish().expect("in memory"))
}

fn png(picture: impl Into<DynamicImage>, chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    with_chunks(&encoded(picture, ImageFormat::Png), chunks)
}

/// Puts a profile into a JPEG, in parts of `part` bytes.
fn with_profile(jpeg: &[u8], profile: &[u8], part: usize) -> Vec<u8> {
    let parts: Vec<&[u8]> = profile.chunks(part).collect();
    let count = parts.len() as u8;
    parts.iter().enumerate().rev().fold(jpeg.to_vec(), |jpeg, (i, part)| {
        with_segment(&jpeg, 0xe2, &[b"ICC_PROFILE\0", &[i as u8 + 1, count][..], part].concat())
    })
}

fn notes(bytes: &[u8]) -> Vec<String> {
    good(bytes).facts.notes
}

#[test]
fn profiles_in_every_format_are_followed() {
    let spaces = [
        ("Display P3", DISPLAY_P3, Curve::Srgb),
        ("Adobe RGB", ADOBE_RGB, Curve::Gamma(2.199)),
        ("ProPhoto", PROPHOTO, Curve::Gamma(1.8)),
        ("turned channels", GBR, Curve::Srgb),
    ];
    for (name, space, curve) in spaces {
        let picture = card_in(&space, curve);
        for version in [2, 4] {
            let profile = profiles::rgb(version, &space, curve);
            let bytes = png(picture.clone(), &[iccp(&profile)]);
            let prepared = assert_card(&format!("{name}, PNG"), &bytes, 4);
            assert!(prepared.facts.notes.is_empty(), "{name}: {:?}", prepared.facts.notes);
            let jpeg = with_profile(&jpeg(&picture), &profile, 100);
            assert_card(&format!("{name}, JPEG in parts"), &jpeg, 14);
        }
        let profile = profiles::rgb(4, &space, curve);
        assert_card(&format!("{name}, TIFF"), &tiff_with_profile(&picture, &profile), 4);
        assert_card(&format!("{name}, WebP"), &webp_with_profile(&picture, &profile), 4);
        let deep = deep_card(|colour| code_in(&space, curve, colour));
        assert_card(&format!("{name}, PNG of 16 bits"), &png(deep, &[iccp(&profile)]), 4);
    }
}

/// A TIFF whose only directory is moved to the end and has one entry more.
fn tiff_with_profile(picture: &RgbImage, profile: &[u8]) -> Vec<u8> {
    let mut tiff = encoded(picture.clone(), ImageFormat::Tiff);
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize;
    let old = number(&tiff[4..8]);
    let count = usize::from(u16::from_le_bytes([tiff[old], tiff[old + 1]]));
    let mut entries: Vec<Vec<u8>> =
        tiff[old + 2..old + 2 + 12 * count].chunks(12).map(<[u8]>::to_vec).collect();
    let place = tiff.len() as u32;
    tiff.extend(profile);
    tiff.resize(tiff.len().next_multiple_of(2), 0);
    let length = (profile.len() as u32).to_le_bytes();
    entries
        .push([&34_675_u16.to_le_bytes()[..], &7_u16.to_le_bytes(), &length, &place.to_le_bytes()].concat());
    entries.sort_by_key(|entry| u16::from_le_bytes([entry[0], entry[1]]));
    let start = (tiff.len() as u32).to_le_bytes();
    tiff[4..8].copy_from_slice(&start);
    tiff.extend((entries.len() as u16).to_le_bytes());
    tiff.extend(entries.concat());
    tiff.extend([0; 4]);
    tiff
}

/// A lossless WebP in the extended format, with a profile.
fn webp_with_profile(picture: &RgbImage, profile: &[u8]) -> Vec<u8> {
    let simple = encoded(picture.clone(), ImageFormat::WebP);
    let chunk = |kind: &[u8; 4], body: &[u8]| {
        let mut chunk = [&kind[..], &(body.len() as u32).to_le_bytes(), body].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    };
    let side = |px: u32| (px - 1).to_le_bytes()[..3].to_vec();
    let head = [&[0x20, 0, 0, 0][..], &side(picture.width()), &side(picture.height())].concat();
    let body = [&b"WEBP"[..], &chunk(b"VP8X", &head), &chunk(b"ICCP", profile), &simple[12..]].concat();
    chunk(b"RIFF", &body)
}

#[test]
fn a_profile_of_srgb_changes_no_pixel() {
    let picture = card_in(&SRGB, Curve::Srgb);
    let plain = good(&png(picture.clone(), &[]));
    for profile in [profiles::rgb(2, &SRGB, Curve::Srgb), profiles::rgb(4, &SRGB, Curve::Srgb)] {
        assert_eq!(good(&png(picture.clone(), &[iccp(&profile)])).picture, plain.picture);
    }
}

#[test]
fn a_profile_of_a_table_is_followed() {
    // Each channel is that of the next colour.
    let turned = |place: &[f64]| [1, 2, 0].map(|it| profiles::linear((place[it] * 255.0).round() as u8));
    let picture = card(|[r, g, b]| [b, r, g].map(|it| f64::from(it) / 255.0));
    let profile = profiles::table(b"RGB ", 3, 18, turned);
    assert_card("a table", &png(picture.clone(), &[iccp(&profile)]), 4);
    let profile = profiles::coarse_table(b"RGB ", 3, 18, turned);
    assert_card("a table of eight bits", &png(picture, &[iccp(&profile)]), 6);
    // Saturated and dark, where the smallest shift of a hue is seen.
    let blue = RgbImage::from_pixel(40, 40, Rgb([244, 3, 62]));
    let found = pixel(&good(&png(blue, &[iccp(&profile)])), 20, 20);
    assert!(near(found, [3, 62, 244], 8), "{found:?}");
}

#[test]
fn grey_follows_its_profile_and_keeps_to_it() {
    let profile = profiles::grey(Curve::Gamma(1.0), b"XYZ ");
    let picture = GrayImage::from_pixel(40, 40, Luma([55]));
    let bytes = png(picture.clone(), &[iccp(&profile)]);
    // A fifth of the light is 128 in sRGB.
    assert!(near(pixel(&good(&bytes), 20, 20), [128; 3], 2), "{:?}", pixel(&good(&bytes), 20, 20));
    // Half of the lightness is 119.
    let lightness = [iccp(&profiles::grey(Curve::Gamma(1.0), b"Lab "))];
    let half = png(GrayImage::from_pixel(40, 40, Luma([128])), &lightness);
    assert!(near(pixel(&good(&half), 20, 20), [119; 3], 2), "{:?}", pixel(&good(&half), 20, 20));
    // Programs leave the profile of a colour picture in its grey copy.
    let bytes = png(picture, &[iccp(&profiles::rgb(2, &DISPLAY_P3, Curve::Srgb))]);
    let prepared = good(&bytes);
    assert!(near(pixel(&prepared, 20, 20), [55; 3], 1) && prepared.facts.notes.is_empty());
}

/// A profile of a press with odd inks: cyan looks orange, magenta green, yellow violet, and black dark blue.
fn odd_press() -> Vec<u8> {
    let inks = [[255, 140, 40], [40, 160, 60], [130, 60, 190], [20, 20, 90]];
    let inks = inks.map(|it: [u8; 3]| it.map(profiles::linear));
    let colour = |place: &[f64]| {
        place.iter().zip(inks).fold([1.0; 3], |light, (amount, ink)| {
            [0, 1, 2].map(|c| light[c] * (1.0 - amount * (1.0 - ink[c])))
        })
    };
    profiles::table(b"CMYK", 4, 5, colour)
}

#[test]
fn ink_in_a_tiff_follows_its_profile() {
    let tiff = |profile: &[u8], compressed: bool| {
        // Cyan, magenta, yellow, black.
        let rows: Vec<u8> =
            (0..4).flat_map(|ink| (0..4).map(move |it| if it == ink { 255 } else { 0 })).collect();
        let data = if compressed { [&[15_u8][..], &rows].concat() } else { rows };
        raws::Tiff::write(
            b"II*\0",
            &[],
            &[vec![
                (0x0100, Value::Short(4)),
                (0x0101, Value::Short(1)),
                (0x0102, Value::Shorts(vec![8; 4])),
                (0x0103, Value::Long(if compressed { 32_773 } else { 1 })),
                (0x0106, Value::Short(5)),
                (0x0117, Value::Long(data.len() as u32)),
                (0x0111, Value::At(data)),
                (0x0115, Value::Short(4)),
                (0x8773, Value::Bytes(profile.to_vec())),
            ]],
        )
    };
    for compressed in [false, true] {
        let prepared = good(&tiff(&odd_press(), compressed));
        assert!(prepared.facts.notes.is_empty(), "{:?}", prepared.facts.notes);
        for (x, expected) in (0..).zip([[255, 140, 40], [40, 160, 60], [130, 60, 190], [20, 20, 90]]) {
            let found = pixel(&prepared, x, 0);
            assert!(near(found, expected, 6), "{x}: {found:?} instead of {expected:?}");
        }
    }
    let prepared = good(&tiff(&profiles::grey(Curve::Gamma(2.2), b"XYZ "), false));
    assert_eq!(pixel(&prepared, 0, 0), [0, 255, 255], "cyan");
    assert_eq!(prepared.facts.notes, ["the colour profile is one for grey pictures and was ignored"]);
}

#[test]
fn ink_follows_its_profile() {
    let profile = odd_press();
    for kind in [jpeg_encoder::ColorType::Cmyk, jpeg_encoder::ColorType::CmykAsYcck] {
        for (ink, expected) in [
            ([255, 0, 0, 0], [255, 140, 40]),
            ([0, 255, 0, 0], [40, 160, 60]),
            ([0, 0, 255, 0], [130, 60, 190]),
            ([0, 0, 0, 255], [20, 20, 90]),
            ([0, 0, 0, 0], [255, 255, 255]),
        ] {
            let mut bytes = Vec::new();
            let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
            encoder.encode(&ink.repeat(64 * 64), 64, 64, kind).expect("encodes");
            // Without a profile ink is what it is called.
            let plain = pixel(&good(&bytes), 30, 30);
            assert!(ink != [255, 0, 0, 0] || near(plain, [0, 255, 255], 4), "{plain:?}");
            let prepared = good(&with_profile(&bytes, &profile, 60_000));
            let found = pixel(&prepared, 30, 30);
            assert!(near(found, expected, 8), "{ink:?} of {kind:?}: {found:?} instead of {expected:?}");
            assert!(prepared.facts.notes.is_empty());
        }
    }
}

#[test]
fn useless_profiles_are_ignored_with_a_note() {
    let picture = card_in(&SRGB, Curve::Srgb);
    let sound = profiles::rgb(2, &GBR, Curve::Srgb);
    let black = profiles::rgb(2, &[[0.0; 3]; 3], Curve::Srgb);
    let mut link = sound.clone();
    link[12..16].copy_from_slice(b"link");
    for (what, profile, note) in [
        ("cut in its header", sound[..100].to_vec(), "the colour profile is broken and was ignored"),
        ("cut in its tags", sound[..260].to_vec(), "the colour profile is broken and was ignored"),
        ("empty", vec![], "the colour profile is broken and was ignored"),
        ("zeros", vec![0; 500], "the colour profile is broken and was ignored"),
        ("all black", black, "the colour profile is broken and was ignored"),
        ("of ten MiB", vec![1; 10 << 20], "MiB, more than any real one, and was ignored"),
        ("of grey", profiles::grey(Curve::Gamma(2.2), b"XYZ "), "is one for grey pictures and was ignored"),
        (
            "of ink",
            profiles::table(b"CMYK", 4, 2, |ink| [0, 1, 2].map(|it| 1.0 - ink[it])),
            "is one for CMYK pictures and was ignored",
        ),
        ("of a link", link, "describes no pictures and was ignored"),
    ] {
        let prepared = assert_card(what, &png(picture.clone(), &[iccp(&profile)]), 2);
        assert!(
            prepared.facts.notes.iter().any(|it| it.ends_with(note)),
            "{what}: {:?}",
            prepared.facts.notes
        );
        assert_eq!(prepared.facts.notes.len(), 1, "{what}");
        if profile.len() < 16 << 20 {
            let bytes = with_profile(&jpeg(&picture), &profile, 65_000);
            let prepared = assert_card(what, &bytes, 14);
            // An empty profile has no segment.
            assert_eq!(prepared.facts.notes.len(), usize::from(!profile.is_empty()), "{what}");
        }
    }
    // Of three parts the second is missing.
    let whole = with_profile(&jpeg(&picture), &sound, 200);
    let second =
        whole.windows(14).position(|it| it.starts_with(b"ICC_PROFILE\0\x02")).expect("a second part");
    let missing = [&whole[..second - 4], &whole[second + 14 + 200..]].concat();
    assert_eq!(notes(&missing), ["the colour profile is broken and was ignored"]);
    // Not packed at all.
    let bytes = png(picture, &[(b"iCCP", b"profile\0\0nonsense".to_vec())]);
    assert_eq!(notes(&bytes), ["the colour profile is broken and was ignored"]);
}

#[test]
fn a_png_s_gamma_and_chromaticities_are_followed() {
    let number = |value: f64| ((value * 100_000.0).round() as u32).to_be_bytes();
    let gama = |value: f64| (b"gAMA", number(value).to_vec());
    let linear_light = card_in(&SRGB, Curve::Gamma(1.0));
    assert_card("gAMA of 1.0", &png(linear_light.clone(), &[gama(1.0)]), 6);
    let chrm = [0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06].map(number).concat();
    let adobe = card_in(&ADOBE_RGB, Curve::Gamma(2.2));
    assert_card("cHRM", &png(adobe, &[gama(1.0 / 2.2), (b"cHRM", chrm)]), 8);
    // What is said more exactly counts.
    let plain = card_in(&SRGB, Curve::Srgb);
    assert_card("sRGB before gAMA", &png(plain.clone(), &[gama(1.0), (b"sRGB", vec![0])]), 2);
    let profile = iccp(&profiles::rgb(4, &GBR, Curve::Srgb));
    assert_card("iCCP before gAMA", &png(card_in(&GBR, Curve::Srgb), &[gama(1.0), profile.clone()]), 4);
    let cicp = (b"cICP", vec![1, 13, 0, 1]);
    assert_card("cICP before iCCP", &png(plain.clone(), &[cicp, profile]), 2);
    // Nonsense counts for nothing.
    for chunk in [gama(0.0), gama(40_000.0), (b"cHRM", vec![0; 32]), (b"gAMA", vec![1])] {
        assert_card("nonsense", &png(plain.clone(), &[chunk]), 2);
    }
}

/// The code of PQ for light of which 1.0 is reference white.
fn pq(light: f64) -> f64 {
    let y = (light.max(0.0) * 203.0 / 10_000.0).powf(2610.0 / 16_384.0);
    ((0.8359375 + 18.8515625 * y) / (1.0 + 18.6875 * y)).powf(78.84375)
}

/// The code of HLG for light of which 1.0 is reference white.
fn hlg(light: f64) -> f64 {
    let scene = light.max(0.0) * 0.265;
    if scene <= 1.0 / 12.0 {
        return (3.0 * scene).sqrt();
    }
    0.178_832_77 * (12.0 * scene - 0.284_668_92).ln() + 0.559_910_73
}

#[test]
fn hdr_in_a_png_is_shown_with_its_colours() {
    for (name, points, code) in [
        (
            "PQ",
            vec![9, 16, 0, 1],
            Box::new(|it| profiles::light_in(&BT_2020, it).map(pq)) as Box<dyn Fn(_) -> _>,
        ),
        ("PQ of P3", vec![12, 16, 0, 1], Box::new(|it| profiles::light_in(&DISPLAY_P3, it).map(pq))),
        ("HLG", vec![9, 18, 0, 1], Box::new(|it| profiles::light_in(&BT_2020, it).map(hlg))),
    ] {
        let chunks = [(b"cICP", points)];
        assert_card(&format!("{name} of 16 bits"), &png(deep_card(&code), &chunks), 3);
        assert_card(&format!("{name} of 8 bits"), &png(card(&code), &chunks), 8);
        let white: [f64; 3] = code([255; 3]);
        let white = ImageBuffer::from_pixel(20, 20, Rgb(white.map(|it| (it * 65_535.0).round() as u16)));
        let found = pixel(&good(&png(white, &chunks)), 10, 10);
        assert!(near(found, [255; 3], 2), "{name}: {found:?}");
    }
    // Wide colours without HDR.
    let cicp = [(b"cICP", vec![12, 13, 0, 1])];
    assert_card("P3 by cICP", &png(card_in(&DISPLAY_P3, Curve::Srgb), &cicp), 4);
}

#[test]
fn transparent_hdr_is_white() {
    let code = |colour| profiles::light_in(&BT_2020, colour).map(pq);
    let picture = deep_card(code);
    let picture: ImageBuffer<image::Rgba<u16>, Vec<u16>> = ImageBuffer::from_fn(80, 60, |x, y| {
        let Rgb([r, g, b]) = *picture.get_pixel(x, y);
        image::Rgba([r, g, b, if x < 40 { 0 } else { u16::MAX }])
    });
    let prepared = good(&png(picture, &[(b"cICP", vec![9, 16, 0, 1])]));
    assert_eq!(pixel(&prepared, 20, 15), [255; 3]);
    assert!(near(pixel(&prepared, 60, 15), FIELDS[1], 3));
}

#[test]
fn adobe_rgb_is_known_by_exif_alone() {
    let picture = jpeg(&card_in(&ADOBE_RGB, Curve::Gamma(2.199)));
    // The first directory points to the one of the photo, which has the colour space.
    let exif = |space: u32, interoperability: &[u8; 4]| {
        let mut block = exif(&[(0x8769, 4, 1, 26)], &[]);
        block.extend(2_u16.to_le_bytes());
        for (tag, kind, count, value) in [(0xa001_u16, 3_u16, 1_u32, space), (0xa005, 4, 1, 56)] {
            block.extend(tag.to_le_bytes());
            block.extend(kind.to_le_bytes());
            block.extend(count.to_le_bytes());
            block.extend(value.to_le_bytes());
        }
        block.extend([0; 4]);
        block.extend(1_u16.to_le_bytes());
        block.extend([1, 0, 2, 0, 4, 0, 0, 0]);
        block.extend(interoperability);
        block.extend([0; 4]);
        block
    };
    for (space, interoperability) in [(2, b"R98\0"), (0xffff, b"R03\0")] {
        let bytes = with_segment(&picture, 0xe1, &exif(space, interoperability));
        assert_card("Adobe RGB by EXIF", &bytes, 14);
    }
    let plain = jpeg(&card_in(&SRGB, Curve::Srgb));
    assert_card("sRGB by EXIF", &with_segment(&plain, 0xe1, &exif(1, b"R98\0")), 14);
    // A profile says it more exactly.
    let both = with_profile(&jpeg(&card_in(&GBR, Curve::Srgb)), &profiles::rgb(2, &GBR, Curve::Srgb), 900);
    assert_card("a profile before EXIF", &with_segment(&both, 0xe1, &exif(2, b"R03\0")), 14);
}
