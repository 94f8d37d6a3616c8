//! What somebody probably meant.

/// The word of `known` that is most like `word`, if one is like it at all: for errors about names
/// that do not exist.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // One mistake in three letters is a mistake; more is another word.
    let most = |known: &str| known.chars().count().max(word.chars().count()).div_ceil(3);
    let near = known
        .into_iter()
        .map(|known| (distance(&word, &known.to_lowercase()), known));
    near.filter(|(distance, known)| *distance <= most(known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// How many letters have to be added, removed, replaced or swapped with their neighbor.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_nothing() {
        let known = ["base_url", "key", "key_file", "default_model", "port"];
        for (word, expected) in [
            ("bas_url", Some("base_url")),
            ("base_ulr", Some("base_url")),
            ("Default_Model", Some("default_model")),
            ("defaultmodel", Some("default_model")),
            ("key_fiel", Some("key_file")),
            ("prot", Some("port")),
            ("temperature", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
