//! The 80 classes of the detector in plain words, in the order of its outputs.

/// Number of classes.
pub const CLASSES: usize = 80;

/// One class of objects, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Label {
    /// The class as an everyday word, singular, without article: `dog`. Unique.
    pub name: &'static str,
    /// Plural, as it follows a number: `dogs`, `pairs of skis`.
    pub plural: &'static str,
    /// How one object is named.
    pub form: Form,
    /// Whether such objects lie in stacks and bowls, where the number of boxes is not reliable.
    pub stacked: bool,
    /// Whether the detector mistakes other things for this class: food, tableware, furniture, and round or
    /// spread-out things. Such a class needs a higher score.
    pub doubtful: bool,
}

/// How one object of a class is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `a dog`, `an apple`.
    Thing,
    /// `a pair of skis`.
    Pair,
    /// `some broccoli`, in any number.
    Mass,
    /// `an orange (fruit)`: a word that is also the name of a colour.
    Fruit,
}

const fn thing(name: &'static str, plural: &'static str) -> Label {
    Label { name, plural, form: Form::Thing, stacked: false, doubtful: false }
}

const fn doubtful(name: &'static str, plural: &'static str) -> Label {
    Label { doubtful: true, ..thing(name, plural) }
}

const fn stacked(name: &'static str, plural: &'static str) -> Label {
    Label { stacked: true, ..doubtful(name, plural) }
}

const fn formed(form: Form, label: Label) -> Label {
    Label { form, ..label }
}

/// All classes. A wider word replaces a class's own name if the detector is as wide: it calls any table a
/// `dining table`.
pub static LABELS: [Label; CLASSES] = [
    thing("person", "people"),
    thing("bicycle", "bicycles"),
    thing("car", "cars"),
    thing("motorcycle", "motorcycles"),
    thing("airplane", "airplanes"),
    thing("bus", "buses"),
    thing("train", "trains"),
    thing("truck", "trucks"),
    thing("boat", "boats"),
    thing("traffic light", "traffic lights"),
    thing("fire hydrant", "fire hydrants"),
    thing("stop sign", "stop signs"),
    thing("parking meter", "parking meters"),
    thing("bench", "benches"),
    thing("bird", "birds"),
    thing("cat", "cats"),
    thing("dog", "dogs"),
    thing("horse", "horses"),
    thing("sheep", "sheep"),
    thing("cow", "cows"),
    thing("elephant", "elephants"),
    thing("bear", "bears"),
    thing("zebra", "zebras"),
    thing("giraffe", "giraffes"),
    thing("backpack", "backpacks"),
    doubtful("umbrella", "umbrellas"),
    thing("handbag", "handbags"),
    thing("tie", "ties"),
    thing("suitcase", "suitcases"),
    doubtful("frisbee", "frisbees"),
    formed(Form::Pair, thing("skis", "pairs of skis")),
    thing("snowboard", "snowboards"),
    thing("ball", "balls"),
    thing("kite", "kites"),
    thing("baseball bat", "baseball bats"),
    thing("baseball glove", "baseball gloves"),
    thing("skateboard", "skateboards"),
    thing("surfboard", "surfboards"),
    thing("tennis racket", "tennis rackets"),
    stacked("bottle", "bottles"),
    stacked("wine glass", "wine glasses"),
    stacked("cup", "cups"),
    doubtful("fork", "forks"),
    doubtful("knife", "knives"),
    doubtful("spoon", "spoons"),
    stacked("bowl", "bowls"),
    stacked("banana", "bananas"),
    stacked("apple", "apples"),
    stacked("sandwich", "sandwiches"),
    formed(Form::Fruit, stacked("orange", "oranges (fruit)")),
    formed(Form::Mass, stacked("broccoli", "broccoli")),
    stacked("carrot", "carrots"),
    stacked("hot dog", "hot dogs"),
    stacked("pizza", "pizzas"),
    stacked("donut", "donuts"),
    stacked("cake", "cakes"),
    doubtful("chair", "chairs"),
    doubtful("couch", "couches"),
    doubtful("potted plant", "potted plants"),
    doubtful("bed", "beds"),
    doubtful("table", "tables"),
    thing("toilet", "toilets"),
    thing("television", "televisions"),
    thing("laptop", "laptops"),
    thing("computer mouse", "computer mice"),
    thing("remote control", "remote controls"),
    thing("keyboard", "keyboards"),
    thing("mobile phone", "mobile phones"),
    thing("microwave oven", "microwave ovens"),
    thing("oven", "ovens"),
    thing("toaster", "toasters"),
    thing("sink", "sinks"),
    thing("refrigerator", "refrigerators"),
    Label { doubtful: false, ..stacked("book", "books") },
    doubtful("clock", "clocks"),
    doubtful("vase", "vases"),
    formed(Form::Pair, thing("scissors", "pairs of scissors")),
    thing("teddy bear", "teddy bears"),
    thing("hair dryer", "hair dryers"),
    thing("toothbrush", "toothbrushes"),
];

impl Label {
    /// One object, without an article: `apple`, `pair of skis`.
    pub fn single(&self) -> String {
        match self.form {
            Form::Thing | Form::Mass => self.name.to_owned(),
            Form::Pair => format!("pair of {}", self.name),
            Form::Fruit => format!("{} (fruit)", self.name),
        }
    }

    /// One object, with its article: `an apple`, `a pair of skis`, `some broccoli`.
    pub fn one(&self) -> String {
        match self.form {
            Form::Mass => format!("some {}", self.name),
            Form::Thing | Form::Pair | Form::Fruit => {
                let single = self.single();
                format!("{} {single}", article(&single))
            }
        }
    }
}

/// `a` or `an`, by the first sound of a word.
pub fn article(word: &str) -> &'static str {
    // Initials that begin with the sound of a vowel, and vowels that sound like "you" and "won".
    let spelled = ["HP", "HTC", "LG", "SJCAM"];
    let consonant = ["one", "uni", "use", "eur", "ulefone", "umidigi"];
    let lower = word.to_lowercase();
    let first = word.split([' ', '-']).next().unwrap_or_default();
    let vowel = lower.starts_with(['a', 'e', 'i', 'o', 'u'])
        && !consonant.iter().any(|start| lower.starts_with(start));
    if vowel || spelled.contains(&first) { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn label(name: &str) -> &'static Label {
        LABELS.iter().find(|label| label.name == name).expect(name)
    }

    #[test]
    fn every_class_has_its_own_word_in_the_order_of_the_model() {
        let classes: Vec<&str> = include_str!("../../../models/nanodet/coco80.txt").lines().collect();
        assert_eq!(classes.len(), CLASSES);
        assert_eq!(LABELS.iter().map(|label| label.name).collect::<HashSet<_>>().len(), CLASSES);
        let renamed: Vec<(&str, &str)> = classes
            .iter()
            .zip(&LABELS)
            .filter(|(class, label)| **class != label.name)
            .map(|(class, label)| (*class, label.name))
            .collect();
        assert_eq!(
            renamed,
            [
                ("sports ball", "ball"),
                ("dining table", "table"),
                ("tv", "television"),
                ("mouse", "computer mouse"),
                ("remote", "remote control"),
                ("cell phone", "mobile phone"),
                ("microwave", "microwave oven"),
                ("hair drier", "hair dryer"),
            ]
        );
    }

    #[test]
    fn an_object_has_the_right_article() {
        for (name, one) in [
            ("person", "a person"),
            ("apple", "an apple"),
            ("umbrella", "an umbrella"),
            ("oven", "an oven"),
            ("elephant", "an elephant"),
            ("hot dog", "a hot dog"),
            ("skis", "a pair of skis"),
            ("scissors", "a pair of scissors"),
            ("broccoli", "some broccoli"),
            ("orange", "an orange (fruit)"),
        ] {
            assert_eq!(label(name).one(), one);
        }
    }

    #[test]
    fn cameras_have_the_right_article() {
        for (camera, expected) in [
            ("Apple iPhone 12", "an"),
            ("Canon EOS 5D", "a"),
            ("NIKON D90", "a"),
            ("OLYMPUS E-M10", "an"),
            ("LG G6", "an"),
            ("HTC One", "an"),
            ("OnePlus 9", "a"),
            ("Ulefone Armor", "a"),
            ("", "a"),
        ] {
            assert_eq!(article(camera), expected, "{camera}");
        }
    }
}
