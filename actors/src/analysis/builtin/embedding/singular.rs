//! Singulars of English words.

/// The singular of an English word, and one spelling of some variants. Words of other languages mostly stay
/// unchanged.
pub(super) fn singular(word: &str) -> String {
    const IRREGULAR: [(&str, &str); 21] = [
        ("people", "person"),
        ("persons", "person"),
        ("men", "man"),
        ("women", "woman"),
        ("children", "child"),
        ("mice", "mouse"),
        ("geese", "goose"),
        ("teeth", "teeth"),
        ("feet", "foot"),
        ("knives", "knife"),
        ("calves", "calf"),
        ("wolves", "wolf"),
        ("leaves", "leaf"),
        ("oxen", "ox"),
        ("buses", "bus"),
        ("scissors", "scissor"),
        ("color", "colour"),
        ("colors", "colour"),
        ("colorful", "colourful"),
        ("movies", "movie"),
        ("skis", "ski"),
    ];
    if let Some((_, singular)) = IRREGULAR.iter().find(|(plural, _)| *plural == word) {
        return (*singular).to_owned();
    }
    let long = word.len() > 3;
    let ends = |ending: &str| long && word.ends_with(ending);
    let without = |n: usize| word[..word.len() - n].to_owned();
    if ends("ies") && word.len() > 4 {
        without(3) + "y"
    } else if ["ches", "shes", "sses", "xes", "zzes", "oes"].iter().any(|ending| ends(ending)) {
        without(2)
    } else if ends("s") && !["ss", "us", "is"].iter().any(|ending| ends(ending)) {
        without(1)
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_lose_their_ending() {
        for (word, expected) in [
            ("dogs", "dog"),
            ("buses", "bus"),
            ("bus", "bus"),
            ("benches", "bench"),
            ("glasses", "glass"),
            ("glass", "glass"),
            ("puppies", "puppy"),
            ("tomatoes", "tomato"),
            ("skis", "ski"),
            ("gas", "gas"),
            ("tennis", "tennis"),
            ("vases", "vase"),
            ("horses", "horse"),
            ("ties", "tie"),
        ] {
            assert_eq!(singular(word), expected, "{word}");
        }
    }
}
