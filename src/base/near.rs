//! What somebody may have meant who wrote a word that we do not know.

/// `. Did you mean …?`, when one of `known` is only a slip or two away, or the only one that begins so;
/// else a full stop.
pub(crate) fn nearest(word: &str, known: impl Iterator<Item = String>) -> String {
    let known: Vec<String> = known.collect();
    let slips_max = 1 + word.chars().count() / 4;
    let near = known.iter().map(|known| (distance(word, known), known));
    let near = near.filter(|(slips, _)| *slips <= slips_max).min();
    let mut longer = known.iter().filter(|known| known.starts_with(word));
    let only = longer.next().filter(|_| longer.next().is_none());
    match near.map(|(_, known)| known).or(only) {
        Some(known) => format!(". Did you mean {known}?"),
        None => ".".to_owned(),
    }
}

/// How many characters must be inserted, removed or replaced to turn one word into the other
/// (Levenshtein).
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (number, a) in one.chars().enumerate() {
        let mut diagonal = number;
        let mut left = number + 1;
        let mut next = vec![left];
        for (b, above) in other.chars().zip(row.into_iter().skip(1)) {
            left = (left + 1)
                .min(above + 1)
                .min(diagonal + usize::from(a != b));
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_or_an_only_beginning_is_meant() {
        let known = ["--env-file", "--json", "--dry-run", "--dry"];
        for (word, expected) in [
            ("--env", ". Did you mean --env-file?"),
            ("--jsn", ". Did you mean --json?"),
            ("--dr", ". Did you mean --dry?"),
            ("--port", "."),
            ("--", "."),
        ] {
            let known = known.iter().map(ToString::to_string);
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn the_distance_is_levenshteins() {
        for (a, b, expected) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("flaw", "lawn", 2),
            ("é", "e", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
