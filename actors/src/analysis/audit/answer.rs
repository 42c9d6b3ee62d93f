//! Rows 11 to 16: answers that are no description. Each sentence outside quotation marks is judged by its first
//! words, so that a sign that says "I'm sorry, we are closed" is a description of a sign.

use std::collections::HashSet;

use super::Language;
use crate::analysis::prompts;

/// The part of a text, in percent of its letters, that must describe something.
const LEAST_DESCRIBED: usize = 40;
/// Number of consecutive words of a prompt that are an echo of it.
const ECHO: usize = 8;

/// How a sentence speaks, if it does not describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// The model refuses.
    Refusal,
    /// The model says that it has no picture.
    NoPicture,
    /// The model speaks of itself or to the user.
    Talk,
}

/// Beginnings of a refusal, in lower case with straight apostrophes.
const REFUSALS: &[&str] = &[
    "i'm sorry, but",
    "i am sorry, but",
    "i'm sorry, i ",
    "i am sorry, i ",
    "sorry, but i",
    "sorry, i can",
    "i apologize",
    "i apologise",
    "my apologies",
    "as an ai",
    "as a language model",
    "as a large language",
    "as a text-based",
    "i cannot assist",
    "i can't assist",
    "i cannot help",
    "i can't help",
    "i cannot provide",
    "i can't provide",
    "i cannot comply",
    "i can't comply",
    "i cannot fulfill",
    "i can't fulfill",
    "i cannot describe",
    "i can't describe",
    "i cannot identify",
    "i can't identify",
    "i cannot analyze",
    "i can't analyze",
    "i cannot discuss",
    "i can't discuss",
    "i cannot generate",
    "i cannot create",
    "i can't do that",
    "i cannot do that",
    "i'm unable to",
    "i am unable to",
    "i'm not able to",
    "i am not able to",
    "i will not describe",
    "i won't describe",
    "i must decline",
    "i have to decline",
    "i'm designed to",
    "i am designed to",
    "i do not feel comfortable",
    "i'm not comfortable",
    "this request goes against",
    "this content may violate",
    "this request violates",
    "unfortunately, i cannot",
    "unfortunately, i can't",
    "unfortunately, i am",
    "unfortunately, i'm",
    "es tut mir leid, aber",
    "es tut mir leid, ich",
    "tut mir leid, aber ich",
    "leider kann ich",
    "ich kann dieses bild nicht",
    "ich kann das bild nicht",
    "ich kann diese anfrage nicht",
    "ich kann dir dabei nicht",
    "ich kann ihnen dabei nicht",
    "ich kann dabei nicht",
    "ich bin nicht in der lage",
    "als ki",
    "als sprachmodell",
    "je suis désolé",
    "désolé, mais je",
    "désolée, mais je",
    "je ne peux pas",
    "je ne suis pas en mesure",
    "malheureusement, je ne",
    "en tant qu'ia",
    "en tant que modèle",
    "lo siento, pero",
    "lo siento, no puedo",
    "no puedo ayudar",
    "no puedo describir",
    "no puedo proporcionar",
    "no puedo ver",
    "como modelo de lenguaje",
    "como ia",
    "lamento, pero",
    "mi dispiace, ma",
    "non posso",
    "desculpe, mas",
    "não posso",
    "抱歉",
    "很抱歉",
    "对不起",
    "我无法",
    "我不能",
    "作为一个ai",
    "申し訳ありません",
    "申し訳ございません",
    "죄송합니다",
];

/// Beginnings of a sentence about a missing picture.
const NO_PICTURE: &[&str] = &[
    "i don't see any image",
    "i don't see an image",
    "i don't see a picture",
    "i don't see any picture",
    "i do not see an",
    "i don't see the image",
    "i can't see the",
    "i can't see any",
    "i can't see an",
    "i cannot see the",
    "i cannot see any",
    "i cannot see an",
    "i can't view",
    "i cannot view",
    "i can not view",
    "i can't actually see",
    "i cannot actually see",
    "i can't access",
    "i cannot access",
    "i can't open",
    "i didn't receive",
    "i did not receive",
    "i haven't received",
    "i have not received",
    "i don't have access",
    "i do not have access",
    "no image was",
    "no image has been",
    "no image is attached",
    "no image attached",
    "no picture was provided",
    "no photo was provided",
    "there is no image attached",
    "there is no image provided",
    "there's no image",
    "there is no picture attached",
    "it seems there is no image",
    "it seems that no image",
    "it looks like no image",
    "it looks like there is no image",
    "it looks like you",
    "it seems like you haven't",
    "it appears that no image",
    "it appears no image",
    "the image is not visible",
    "the image isn't visible",
    "the image did not load",
    "the image failed to load",
    "the image could not be loaded",
    "the image was not provided",
    "you haven't provided",
    "you have not provided",
    "you didn't provide",
    "you haven't uploaded",
    "you have not uploaded",
    "you didn't attach",
    "please upload",
    "please provide the image",
    "please provide an image",
    "please provide a",
    "please share the",
    "please share an",
    "please attach",
    "could you please upload",
    "could you please provide",
    "could you please share",
    "could you upload",
    "could you share",
    "can you please upload",
    "can you please provide",
    "ich sehe kein bild",
    "ich kann kein bild",
    "es wurde kein bild",
    "bitte lade",
    "bitte laden sie",
    "je ne vois pas d'image",
    "je ne vois aucune image",
    "aucune image",
    "veuillez télécharger",
    "veuillez fournir",
    "no veo ninguna imagen",
    "no se ha proporcionado ninguna imagen",
    "por favor, sube",
    "por favor, proporciona",
    "我没有看到",
    "我看不到",
    "请上传",
    "请提供图片",
];

/// Beginnings of a sentence that speaks of the model or to the user.
const TALK: &[&str] = &[
    "i ",
    "i'm ",
    "i'd ",
    "i'll ",
    "i've ",
    "if you",
    "you can",
    "you may",
    "you could",
    "you're welcome",
    "let me ",
    "please ",
    "could you",
    "can you",
    "would you",
    "do you",
    "how can i",
    "how may i",
    "what would you",
    "feel free",
    "however, i ",
    "but i ",
    "my purpose",
    "my role",
    "my guidelines",
    "my training",
    "my abilities",
    "my capabilities",
    "thank you for",
    "thanks for",
    "hello! ",
    "hello, how",
    "hi there",
    "instead, i",
    "sure",
    "ich ",
    "wenn du",
    "wenn sie",
    "bitte ",
    "kannst du",
    "können sie",
    "gerne ",
    "je ",
    "j'",
    "si vous",
    "pouvez-vous",
    "puis-je",
    "si quieres",
    "si deseas",
    "si necesitas",
    "puedo ",
    "¿puedes",
    "¿podrías",
    "¿en qué puedo",
];

/// Beginnings of a sentence that describes, though it speaks of the model or to the user.
const DESCRIBING: &[&str] = &[
    "i see a",
    "i see the",
    "i see two",
    "i can see a",
    "i can see the",
    "i can see two",
    "you can see",
    "you see",
    "if you look",
    "if you zoom",
    "ich sehe ein",
    "je vois",
    "puedo ver",
];

/// Fillers that templates and programs put in the place of a description, in lower case.
const PLACEHOLDERS: &[&str] = &[
    "lorem ipsum",
    "dolor sit amet",
    "[insert",
    "[description",
    "[your ",
    "<insert",
    "{description}",
    "{{description}}",
    "description goes here",
    "description here]",
    "your description here",
    "placeholder text",
    "no description available",
    "no description provided",
    "description not available",
    "image description unavailable",
];

/// Keys that only a JSON schema has.
const SCHEMA: [&str; 3] = ["\"properties\":", "\"$schema\":", "\"additionalproperties\":"];

/// The rows that apply: number, penalty, reason.
pub(super) fn rows(text: &str, language: Language) -> Vec<(u8, u8, &'static str)> {
    let lower = text.to_lowercase().replace(['’', '‘', '`'], "'");
    let mut rows = Vec::new();
    match speech(&lower) {
        Some(Speech::Refusal) => rows.push((11, 100, "a refusal instead of a description")),
        Some(Speech::NoPicture) => rows.push((12, 100, "the model says that it has no picture")),
        Some(Speech::Talk) => rows.push((13, 60, "talk to the user instead of a description")),
        None => {}
    }
    if PLACEHOLDERS.iter().any(|it| lower.contains(it)) {
        rows.push((14, 100, "placeholder text"));
    }
    let dense = lower.replace(' ', "");
    if SCHEMA.iter().any(|it| dense.contains(it)) || echoes(&lower) {
        rows.push((15, 100, "an echo of the question"));
    }
    if language.is_another(text) {
        rows.push((16, 50, "another language than the configured one"));
    }
    rows
}

/// How a text speaks that describes little or nothing.
fn speech(lower: &str) -> Option<Speech> {
    let (mut described, mut all, mut worst) = (0, 0, None);
    let mut quotes_follow = false;
    for sentence in sentences(&without_quotations(lower)) {
        let letters = sentence.chars().filter(|c| c.is_alphabetic()).count();
        all += letters;
        let found = if quotes_follow { None } else { speech_of(sentence) };
        // Behind "a sign reads:" the sentences may be those of the sign.
        quotes_follow |= found.is_none() && sentence.contains(':');
        match found {
            None => described += letters,
            Some(speech) => worst = Some(worst.map_or(speech, |it| graver(it, speech))),
        }
    }
    worst.filter(|_| described * 100 < all * LEAST_DESCRIBED)
}

fn speech_of(sentence: &str) -> Option<Speech> {
    let begins = |list: &[&str]| list.iter().any(|it| sentence.starts_with(it));
    if begins(NO_PICTURE) {
        Some(Speech::NoPicture)
    } else if begins(REFUSALS) {
        let blind = ["see the image", "see any image", "see an image", "view the image", "view images"];
        let blind = blind.iter().any(|it| sentence.contains(it)) && !sentence.starts_with("as a");
        Some(if blind { Speech::NoPicture } else { Speech::Refusal })
    } else if begins(TALK) && !begins(DESCRIBING) {
        Some(Speech::Talk)
    } else {
        None
    }
}

fn graver(one: Speech, other: Speech) -> Speech {
    match (one, other) {
        (Speech::NoPicture, _) | (_, Speech::NoPicture) => Speech::NoPicture,
        (Speech::Refusal, _) | (_, Speech::Refusal) => Speech::Refusal,
        (Speech::Talk, Speech::Talk) => Speech::Talk,
    }
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split(['.', '!', '?', '\n', '。', '！', '？'])
        .map(|it| it.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '_' | '"' | '-' | '#')))
        .filter(|it| !it.is_empty())
}

/// A text without its quotations.
fn without_quotations(text: &str) -> String {
    let mut rest = text;
    let mut outside = String::with_capacity(text.len());
    while let Some((at, open)) = rest.char_indices().find(|(_, c)| matches!(c, '"' | '“' | '„' | '«' | '「'))
    {
        let closes: &[char] = match open {
            '"' => &['"'],
            '«' => &['»'],
            '「' => &['」'],
            _ => &['”', '“', '"'],
        };
        let inside = &rest[at + open.len_utf8()..];
        // A mark without its partner, or an answer that is quoted as a whole, hides nothing.
        let Some(end) = inside.find(closes).filter(|_| !rest[..at].trim().is_empty() || !outside.is_empty())
        else {
            outside.push_str(&rest[..at + open.len_utf8()]);
            rest = inside;
            continue;
        };
        outside.push_str(&rest[..at]);
        let after = &inside[end..];
        rest = after.strip_prefix(closes).unwrap_or(after);
    }
    outside.push_str(rest);
    outside
}

/// Whether a text repeats a part of the prompts.
fn echoes(lower: &str) -> bool {
    let prompts = prompts::fixed_texts().map(|it| it.to_lowercase());
    let prompts = prompts.each_ref().map(|it| words(it));
    let asked: HashSet<&[&str]> = prompts.iter().flat_map(|it| it.windows(ECHO)).collect();
    words(lower).windows(ECHO).any(|some| asked.contains(some))
}

fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|it| !it.is_empty()).collect()
}
