//! What a package needs, as a formula over relations: alternatives of Debian, rich dependencies of rpm.

use std::fmt;

use crate::relation::{Op, Relation};

/// A need. rpm calls everything but the first two a rich dependency.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Formula {
    /// Some package provides it.
    Is(Relation),
    /// One of them holds; the first is preferred.
    Or(Vec<Formula>),
    /// All of them hold.
    And(Vec<Formula>),
    /// The first holds if the second does; else the third, where there is one.
    If(Box<Formula>, Box<Formula>, Option<Box<Formula>>),
    /// One package provides both.
    With(Box<Formula>, Box<Formula>),
    /// One package provides the first and not the second.
    Without(Box<Formula>, Box<Formula>),
    /// Something that cannot be decided here: a package that needs it is never taken.
    Beyond(String),
}

impl Formula {
    /// Reads one requirement in rpm's notation. `None` for what is not one, `unless` among it: that may stand in
    /// conflicts alone.
    pub fn parse_rpm(text: &str) -> Option<Self> {
        if !text.starts_with('(') {
            return Relation::parse_rpm(text).map(Self::Is);
        }
        let mut rest = text;
        let formula = rich(&mut rest, 0)?;
        rest.trim().is_empty().then_some(formula)
    }

    /// Reads a field of Debian's control files, such as `Depends`: alternatives between commas.
    pub fn parse_deb(field: &str) -> Option<Vec<Self>> {
        let groups = field.split(',').map(str::trim);
        groups
            .filter(|group| !group.is_empty())
            .map(|group| {
                let mut alternatives = group
                    .split('|')
                    .map(|one| Relation::parse_deb(one).map(Self::Is))
                    .collect::<Option<Vec<_>>>()?;
                if alternatives.len() == 1 {
                    return alternatives.pop();
                }
                Some(Self::Or(alternatives))
            })
            .collect()
    }

    /// Any one of which would do, where it is as simple as that.
    pub(crate) fn alternatives(&self) -> Vec<&Relation> {
        match self {
            Self::Is(relation) => vec![relation],
            Self::Or(list) => list.iter().flat_map(Self::alternatives).collect(),
            _ => Vec::new(),
        }
    }

    /// Every path of a file that the formula asks for.
    pub fn paths(&self) -> Vec<&str> {
        match self {
            Self::Is(relation) if relation.name.starts_with('/') => vec![&relation.name],
            Self::Is(_) | Self::Beyond(_) => Vec::new(),
            Self::Or(list) | Self::And(list) => list.iter().flat_map(Self::paths).collect(),
            Self::If(a, b, c) => {
                let parts = [Some(a), Some(b), c.as_ref()];
                parts
                    .into_iter()
                    .flatten()
                    .flat_map(|part| part.paths())
                    .collect()
            }
            Self::With(a, b) | Self::Without(a, b) => [a.paths(), b.paths()].concat(),
        }
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |list: &[Self], word: &str| {
            let parts: Vec<String> = list.iter().map(ToString::to_string).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Self::Is(relation) => relation.fmt(f),
            Self::Or(list) => f.write_str(&join(list, " or ")),
            Self::And(list) => f.write_str(&join(list, " and ")),
            Self::If(then, condition, None) => write!(f, "({then} if {condition})"),
            Self::If(then, condition, Some(otherwise)) => {
                write!(f, "({then} if {condition} else {otherwise})")
            }
            Self::With(a, b) => write!(f, "({a} with {b})"),
            Self::Without(a, b) => write!(f, "({a} without {b})"),
            Self::Beyond(text) => f.write_str(text),
        }
    }
}

/// Reads from an opening bracket to its closing one.
fn rich(rest: &mut &str, depth: usize) -> Option<Formula> {
    if depth > DEEPEST {
        return None;
    }
    *rest = rest.strip_prefix('(')?.trim_start();
    let first = operand(rest, depth)?;
    let Next::Word(op) = next(rest)? else {
        return Some(first);
    };
    let mut operands = vec![first];
    loop {
        operands.push(operand(rest, depth)?);
        match next(rest)? {
            Next::Close => break,
            Next::Word("else") if op == "if" && operands.len() == 2 => {
                let otherwise = operand(rest, depth)?;
                let Next::Close = next(rest)? else {
                    return None;
                };
                let condition = operands.pop().map(Box::new)?;
                let then = operands.pop().map(Box::new)?;
                return Some(Formula::If(then, condition, Some(Box::new(otherwise))));
            }
            // Only these three may be chained, and only with themselves.
            Next::Word(again) if again == op && ["and", "or", "with"].contains(&op) => {}
            Next::Word(_) => return None,
        }
    }
    match op {
        "and" => Some(Formula::And(operands)),
        "or" => Some(Formula::Or(operands)),
        "with" => {
            let mut operands = operands.into_iter();
            let first = operands.next()?;
            Some(operands.fold(first, |all, next| {
                Formula::With(Box::new(all), Box::new(next))
            }))
        }
        "if" | "without" => {
            let second = Box::new(operands.pop()?);
            let first = Box::new(operands.pop()?);
            Some(match op {
                "if" => Formula::If(first, second, None),
                _ => Formula::Without(first, second),
            })
        }
        _ => None,
    }
}

fn operand(rest: &mut &str, depth: usize) -> Option<Formula> {
    *rest = rest.trim_start();
    if rest.starts_with('(') {
        let formula = rich(rest, depth + 1)?;
        *rest = rest.trim_start();
        return Some(formula);
    }
    let name = name(rest)?;
    let mut relation = Relation::any(name);
    let split = rest.find(|c| !"<>=".contains(c)).unwrap_or(rest.len());
    if let Some(op) = Op::parse(&rest[..split]) {
        *rest = rest[split..].trim_start();
        let version = self::name(rest)?;
        relation.range = Some((op, version.to_owned()));
    }
    Some(Formula::Is(relation))
}

/// A word up to white space or a bracket that it did not open itself.
fn name<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let mut open = 0_usize;
    let end = rest.find(|c: char| match c {
        '(' => {
            open += 1;
            false
        }
        ')' if open == 0 => true,
        ')' => {
            open -= 1;
            false
        }
        _ => c.is_whitespace(),
    });
    let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = after.trim_start();
    (!word.is_empty()).then_some(word)
}

/// What follows an operand.
enum Next<'a> {
    Word(&'a str),
    Close,
}

/// Takes an operator or the closing bracket.
fn next<'a>(rest: &mut &'a str) -> Option<Next<'a>> {
    *rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix(')') {
        *rest = after;
        return Some(Next::Close);
    }
    name(rest).map(Next::Word)
}

/// Deeper than any package nests.
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn is(text: &str) -> Formula {
        Formula::Is(Relation::parse_rpm(text).unwrap())
    }

    #[test]
    fn rich_dependencies_are_read() {
        let boxed = |text: &str| Box::new(is(text));
        for (text, expected) in [
            ("gcc >= 7", is("gcc >= 7")),
            ("(a or b >= 2)", Formula::Or(vec![is("a"), is("b >= 2")])),
            (
                "(a and b and c)",
                Formula::And(vec![is("a"), is("b"), is("c")]),
            ),
            ("(a if b)", Formula::If(boxed("a"), boxed("b"), None)),
            (
                "(a if b else c)",
                Formula::If(boxed("a"), boxed("b"), Some(boxed("c"))),
            ),
            (
                "(a >= 1 with a < 2)",
                Formula::With(boxed("a >= 1"), boxed("a < 2")),
            ),
            ("(a without b)", Formula::Without(boxed("a"), boxed("b"))),
            (
                "((python3dist(x) >= 1 with python3dist(x) < 2) or libc.so.6()(64bit))",
                Formula::Or(vec![
                    Formula::With(boxed("python3dist(x) >= 1"), boxed("python3dist(x) < 2")),
                    is("libc.so.6()(64bit)"),
                ]),
            ),
            ("(/usr/bin/x)", is("/usr/bin/x")),
        ] {
            assert_eq!(Formula::parse_rpm(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_requirement_is_none() {
        let deep = "(".repeat(40) + "a" + &")".repeat(40);
        for text in [
            "",
            "(",
            "()",
            "(a",
            "(a or)",
            "(a b)",
            "(a or b and c)",
            "(a if b if c)",
            "(a or b) c",
            "(a unless b)",
            "(a if b else c else d)",
            &deep,
        ] {
            assert_eq!(Formula::parse_rpm(text), None, "{text}");
        }
    }

    #[test]
    fn alternatives_of_debian_are_read() {
        let read =
            Formula::parse_deb("libc6 (>= 2.36), default-mta | mail-transport-agent,, perl:any")
                .unwrap();
        let mta = vec![is("default-mta"), is("mail-transport-agent")];
        assert_eq!(read, [is("libc6 >= 2.36"), Formula::Or(mta), is("perl")]);
        assert_eq!(Formula::parse_deb(""), Some(vec![]));
        assert_eq!(Formula::parse_deb("a (>= 1"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_readers(text in "[(]?[ab() <>=|,:ifor]{0,40}") {
            let _ = Formula::parse_rpm(&text);
            let _ = Formula::parse_deb(&text);
        }
    }
}
