//! Names that somebody may have meant.

/// How many names are suggested at most.
const SUGGESTIONS: usize = 3;

/// The names nearest to `wrong`, best first: by what stands after the server's prefix, then by edit distance.
pub fn near<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wrong = wrong.to_lowercase();
    let limit = (wrong.chars().count() / 3).max(2);
    let mut found: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let folded = name.to_lowercase();
            let bare = folded.split_once("__").map_or(folded.as_str(), |(_, tool)| tool);
            let distance = if bare == wrong || wrong.ends_with(&format!("__{bare}")) {
                0
            } else {
                distance(&wrong, &folded).min(distance(&wrong, bare))
            };
            (distance <= limit).then_some((distance, name))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect()
}

/// The sentence that suggests them; `None` if there is nothing near.
pub fn suggestion<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let found = near(wrong, names);
    let (last, others) = found.split_last()?;
    Some(match others {
        [] => format!("did you mean '{last}'?"),
        others => format!("did you mean '{}' or '{last}'?", others.join("', '")),
    })
}

/// How many characters must be added, taken away or replaced. Source: R. Wagner and M. Fischer, 1974.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (index, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[index + 1];
            row[index + 1] = replaced.min(row[index] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_what_was_meant() {
        let names = ["math__add", "math__multiply", "notes__get", "notes__save"];
        let check = |wrong: &str, expected: &[&str]| assert_eq!(near(wrong, names), expected, "{wrong}");
        check("math__mutliply", &["math__multiply"]);
        check("multiply", &["math__multiply"]);
        check("calc__multiply", &["math__multiply"]);
        check("Notes__Get", &["notes__get"]);
        check("weather__forecast", &[]);
    }

    #[test]
    fn a_suggestion_is_a_question() {
        assert_eq!(suggestion("mat", ["math", "map"]), Some("did you mean 'map' or 'math'?".to_owned()));
        assert_eq!(suggestion("mat", ["calendar"]), None);
    }
}
