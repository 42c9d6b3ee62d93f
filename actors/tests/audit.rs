//! The audit on answers in the manner of many models: true descriptions, and answers that describe nothing. Each
//! line of the fixtures was written for this test.

use mediamill_actors::analysis::audit::{Language, audit};

const DESCRIPTIONS: &str = include_str!("fixtures/descriptions/true.tsv");
const NONE: &str = include_str!("fixtures/descriptions/none.tsv");

#[test]
fn true_descriptions_pass() {
    let failed: Vec<String> = DESCRIPTIONS
        .lines()
        .filter_map(|line| {
            let (language, text) = line.split_once('\t').expect("a language and a text");
            let found = audit(text, Language::of(language));
            let answers = found.strikes.iter().any(|strike| strike.row > 10);
            (answers || !found.passed()).then(|| format!("{text}: {}", found.reasons()))
        })
        .collect();
    // One of 500 may be mistaken for another answer.
    assert!(failed.len() * 500 <= DESCRIPTIONS.lines().count(), "{failed:#?}");
}

#[test]
fn an_answer_that_describes_nothing_fails_by_its_row() {
    for line in NONE.lines() {
        let mut fields = line.splitn(3, '\t');
        let mut next = || fields.next().expect("row, language and text");
        let (row, language, text) = (next(), next(), next());
        let found = audit(text, Language::of(language));
        let rows: Vec<String> = found.strikes.iter().map(|it| it.row.to_string()).collect();
        assert!(!found.passed() && rows.iter().any(|it| it == row), "{text}: rows {rows:?}");
    }
}

#[test]
fn a_refusal_counts_only_where_little_else_is_said() {
    let described = "I cannot identify the person. A woman in a red coat sits on a bench in a park, with a book in \
                     her hands and a small dog at her feet.";
    assert!(audit(described, Language::ENGLISH).passed());
    let refused =
        "A photo. I cannot identify the person, and I am not able to describe faces or other details.";
    assert!(!audit(refused, Language::ENGLISH).passed());
}

#[test]
fn languages_are_known_by_name_and_tag() {
    for name in ["English", "en", " en-GB ", "EN_us", "eng"] {
        assert_eq!(Language::of(name), Language::ENGLISH, "{name}");
    }
    for name in ["German", "Deutsch", "de", "de-AT", "deu"] {
        assert_eq!(Language::of(name), Language::of("German"), "{name}");
        assert_ne!(Language::of(name), Language::UNKNOWN, "{name}");
    }
    for name in ["", "Klingon"] {
        assert_eq!(Language::of(name), Language::UNKNOWN, "{name}");
    }
    assert!(audit("一只棕色的狗沿着宽阔的沙滩奔跑，背景中有两个人。光线温暖，像是傍晚。大海是蓝色的，天空中有几朵白云，远处有一艘船。", Language::of("Chinese")).passed());
}
