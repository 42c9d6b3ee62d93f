//! The language that a description should have.

use whatlang::Lang;

/// Most letters that are read to recognise a language.
const READ: usize = 600;
/// Fewer letters are too few to tell languages of one script apart.
const LEAST: usize = 60;

/// The language of a description, as far as the audit distinguishes languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language(Option<Lang>);

impl Language {
    /// All rows apply.
    pub const ENGLISH: Self = Self(Some(Lang::Eng));
    /// A language that the audit cannot recognise: rows 8 to 10 and 16 do not apply.
    pub const UNKNOWN: Self = Self(None);

    /// Recognises a configured name or tag, in any case: `English`, `en`, `en-GB`, `German`, `Deutsch`, `de`.
    pub fn of(name: &str) -> Self {
        let name = name.trim().to_lowercase();
        let first = name.split(['-', '_', ' ', '(']).next().unwrap_or_default();
        let known = |lang: &Lang| {
            lang.code() == first
                || TAGS.contains(&(first, *lang))
                || lang.eng_name().to_lowercase() == first
                || lang.name().to_lowercase() == first
        };
        Self(Lang::all().iter().copied().find(known))
    }

    pub(super) fn is_english(self) -> bool {
        self.0 == Some(Lang::Eng)
    }

    /// Whether a text is certainly in another language.
    pub(super) fn is_another(self, text: &str) -> bool {
        let Some(expected) = self.0 else { return false };
        let start: String = text.chars().take(READ).collect();
        let letters = start.chars().filter(|c| c.is_alphabetic()).count();
        let Some(found) = whatlang::detect(&start) else { return false };
        if expected == found.lang() {
            return false;
        }
        // Ten characters of Chinese say as much as a sentence.
        if found.script() != script_of(expected) {
            return letters >= 10;
        }
        let relatives = RELATIVES.iter().any(|it| it.contains(&expected) && it.contains(&found.lang()));
        letters >= LEAST && !relatives && found.is_reliable() && found.confidence() >= 0.9
    }
}

/// ISO 639-1 tags, and names that differ from those of the detector.
const TAGS: [(&str, Lang); 34] = [
    ("en", Lang::Eng),
    ("de", Lang::Deu),
    ("fr", Lang::Fra),
    ("es", Lang::Spa),
    ("it", Lang::Ita),
    ("pt", Lang::Por),
    ("nl", Lang::Nld),
    ("sv", Lang::Swe),
    ("da", Lang::Dan),
    ("nb", Lang::Nob),
    ("no", Lang::Nob),
    ("norwegian", Lang::Nob),
    ("fi", Lang::Fin),
    ("pl", Lang::Pol),
    ("cs", Lang::Ces),
    ("sk", Lang::Slk),
    ("hu", Lang::Hun),
    ("ro", Lang::Ron),
    ("bg", Lang::Bul),
    ("ru", Lang::Rus),
    ("uk", Lang::Ukr),
    ("el", Lang::Ell),
    ("tr", Lang::Tur),
    ("ar", Lang::Ara),
    ("he", Lang::Heb),
    ("hi", Lang::Hin),
    ("th", Lang::Tha),
    ("vi", Lang::Vie),
    ("id", Lang::Ind),
    ("ja", Lang::Jpn),
    ("ko", Lang::Kor),
    ("zh", Lang::Cmn),
    ("chinese", Lang::Cmn),
    ("ca", Lang::Cat),
];

/// Languages that the detector takes for one another.
const RELATIVES: [&[Lang]; 6] = [
    &[Lang::Dan, Lang::Nob, Lang::Swe],
    &[Lang::Spa, Lang::Por, Lang::Cat],
    &[Lang::Ces, Lang::Slk],
    &[Lang::Nld, Lang::Afr, Lang::Deu],
    &[Lang::Rus, Lang::Ukr, Lang::Bel, Lang::Bul, Lang::Srp, Lang::Mkd],
    &[Lang::Cmn, Lang::Jpn],
];

/// The script in which a language is written.
fn script_of(lang: Lang) -> whatlang::Script {
    use whatlang::Script;
    match lang {
        Lang::Cmn => Script::Mandarin,
        Lang::Jpn => Script::Hiragana,
        Lang::Kor => Script::Hangul,
        Lang::Rus | Lang::Ukr | Lang::Bel | Lang::Bul | Lang::Srp | Lang::Mkd => Script::Cyrillic,
        Lang::Ara | Lang::Urd | Lang::Pes => Script::Arabic,
        Lang::Heb | Lang::Yid => Script::Hebrew,
        Lang::Ell => Script::Greek,
        Lang::Hin | Lang::Mar | Lang::Nep => Script::Devanagari,
        Lang::Ben => Script::Bengali,
        Lang::Guj => Script::Gujarati,
        Lang::Pan => Script::Gurmukhi,
        Lang::Kan => Script::Kannada,
        Lang::Mal => Script::Malayalam,
        Lang::Tam => Script::Tamil,
        Lang::Tel => Script::Telugu,
        Lang::Ori => Script::Oriya,
        Lang::Sin => Script::Sinhala,
        Lang::Tha => Script::Thai,
        Lang::Khm => Script::Khmer,
        Lang::Mya => Script::Myanmar,
        Lang::Amh => Script::Ethiopic,
        Lang::Hye => Script::Armenian,
        Lang::Kat => Script::Georgian,
        _ => Script::Latin,
    }
}
