//! What somebody may have meant who wrote a word that we do not know.

/// `. Did you mean …?`, when one of `known` is only a slip or two away; else a full stop.
pub(crate) fn nearest(word: &str, known: impl Iterator<Item = String>) -> String {
    let slips_max = 1 + word.chars().count() / 4;
    let near = known.map(|known| (distance(word, &known), known)).min();
    match near {
        Some((slips, known)) if slips <= slips_max => format!(". Did you mean {known}?"),
        Some(_) | None => ".".to_owned(),
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
