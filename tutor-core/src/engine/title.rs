//! A session's title, made from its first message at once.

/// The longest title that is made, in characters.
const MAX_CHARS: usize = 60;

/// The title of a conversation that begins with this text.
pub(crate) fn from_text(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    if line.is_empty() {
        return "New conversation".to_owned();
    }
    if line.chars().count() <= MAX_CHARS {
        return line;
    }
    let cut: String = line.chars().take(MAX_CHARS - 1).collect();
    // At a word's end, unless that loses half of it (or the script has no spaces).
    let at = cut
        .rfind(' ')
        .filter(|at| *at > cut.len() / 2)
        .unwrap_or(cut.len());
    format!("{}…", &cut[..at])
}

#[cfg(test)]
mod tests {
    use super::from_text;

    #[test]
    fn a_title_is_one_short_line() {
        assert_eq!(
            from_text("  What is\n\tphotosynthesis? "),
            "What is photosynthesis?"
        );
        assert_eq!(from_text(" \n "), "New conversation");
        let long = from_text(&"word ".repeat(40));
        assert!(
            long.chars().count() <= 60 && long.ends_with("word…"),
            "{long}"
        );
        let unspaced = from_text(&"漢".repeat(100));
        assert_eq!(unspaced.chars().count(), 60);
    }
}
