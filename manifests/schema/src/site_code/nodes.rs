//! Names of device nodes in few letters.

use crate::chip::{Family, Nodes};

/// `davinci0 davinci1 davinci_manager devmm_svm hisi_hdc` becomes `* davinci0-1`.
pub(super) fn short(family: &str, names: &[String]) -> String {
    let shared = shared(family);
    let all = !shared.is_empty() && shared.iter().all(|name| names.contains(name));
    let mut words: Vec<String> = all.then(|| "*".to_owned()).into_iter().collect();
    let mut rest: Vec<&String> = names
        .iter()
        .filter(|name| !all || !shared.contains(name))
        .collect();
    rest.sort();
    let mut numbered: Vec<(&str, u32)> = Vec::new();
    for name in rest {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        match name[stem.len()..].parse::<u32>() {
            // `01` is not `1`.
            Ok(number) if number < MOST && format!("{stem}{number}") == *name => {
                numbered.push((stem, number));
            }
            _ => words.push(name.clone()),
        }
    }
    numbered.sort_unstable();
    let mut at = 0;
    while let Some((stem, first)) = numbered.get(at).copied() {
        let next = |(step, place): (u32, &(&str, u32))| *place == (stem, first + step);
        let run = (0..)
            .zip(&numbered[at..])
            .take_while(|pair| next(*pair))
            .count();
        at += run;
        words.push(match run {
            1 => format!("{stem}{first}"),
            _ => format!("{stem}{first}-{}", first as usize + run - 1),
        });
    }
    words.join(" ")
}

/// The names again, in the order of `ls`; the text says what cannot be.
pub(super) fn long(family: &str, text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for word in text.split_whitespace() {
        if word == "*" {
            names.extend_from_slice(shared(family));
        } else if let Some((stem, first, last)) = run(word) {
            if last >= MOST || first > last {
                return Err(format!("`{word}` names no nodes"));
            }
            names.extend((first..=last).map(|number| format!("{stem}{number}")));
        } else {
            names.push(word.to_owned());
        }
        if names.len() > MOST as usize {
            return Err(format!("more than {MOST} nodes"));
        }
    }
    names.sort();
    Ok(names)
}

/// `davinci0-7` taken to pieces.
fn run(word: &str) -> Option<(&str, u32, u32)> {
    let (front, last) = word.rsplit_once('-')?;
    let stem = front.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((stem, front[stem.len()..].parse().ok()?, last.parse().ok()?))
}

fn shared(family: &str) -> &'static [String] {
    let nodes = Family::named(family).and_then(|family| family.nodes.as_ref());
    nodes.map_or(&[], |nodes: &Nodes| &nodes.shared)
}

/// More nodes than any machine has.
const MOST: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_short_and_long_again() {
        let all = "davinci0 davinci1 davinci2 davinci7 davinci_manager devmm_svm hisi_hdc";
        for (family, names, expected) in [
            ("ascend", all, "* davinci0-2 davinci7"),
            (
                "ascend",
                "davinci01 davinci_manager x-1",
                "davinci01 davinci_manager x-1",
            ),
            ("nobody", "a0 a1 b2 b3", "a0-1 b2-3"),
            ("nobody", "", ""),
        ] {
            let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
            let text = short(family, &names);
            assert_eq!(text, expected);
            assert_eq!(long(family, &text), Ok(names));
        }
        for hostile in ["a0-4000000000", "a5-2", &"a0-999 ".repeat(3)] {
            assert!(long("ascend", hostile).is_err(), "{hostile}");
        }
    }
}
