//! Chinese text has no space between Han characters; texts with gaps have one around whatever fills them.

/// Puts `next` behind `text`, without a space that would stand between two Han characters.
pub(crate) fn push(text: &mut String, next: &str) {
    let next = match next.strip_prefix(' ') {
        Some(rest) if begins(rest) && ends(text) => rest,
        _ => next,
    };
    if begins(next) && text.strip_suffix(' ').is_some_and(ends) {
        text.pop();
    }
    text.push_str(next);
}

fn begins(text: &str) -> bool {
    text.chars().next().is_some_and(is_han)
}

fn ends(text: &str) -> bool {
    text.chars().next_back().is_some_and(is_han)
}

/// Han characters, and the punctuation that goes with them.
fn is_han(letter: char) -> bool {
    matches!(letter, '\u{3000}'..='\u{303f}' | '\u{4e00}'..='\u{9fff}' | '\u{ff01}'..='\u{ff60}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_space_stands_between_han_characters() {
        for (parts, expected) in [
            (["应为 ", "整数", "。"], "应为整数。"),
            (["应为 ", "2", " 个"], "应为 2 个"),
            (["找到 ", "空值", " 个"], "找到空值个"),
            (["is ", "整数", " here"], "is 整数 here"),
            (["", "a", " 个"], "a 个"),
        ] {
            let mut text = String::new();
            for part in parts {
                push(&mut text, part);
            }
            assert_eq!(text, expected);
        }
    }
}
