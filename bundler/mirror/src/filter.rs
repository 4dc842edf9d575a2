//! Patterns of paths.

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::MirrorError;

/// Which of many paths to take.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    /// Takes what `include` matches (all when empty) and `exclude` does not.
    ///
    /// # Errors
    /// When a pattern is not one.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, MirrorError> {
        Ok(Self {
            include: if include.is_empty() {
                None
            } else {
                Some(globs(include)?)
            },
            exclude: globs(exclude)?,
        })
    }

    /// Whether the path is taken.
    pub fn takes(&self, path: &str) -> bool {
        let included = self.include.as_ref().is_none_or(|set| set.is_match(path));
        included && !self.exclude.is_match(path)
    }
}

/// One matcher of several patterns. `*` goes across `/`, as the Hub's own client has it.
pub(crate) fn globs(patterns: &[String]) -> Result<GlobSet, MirrorError> {
    let bad = |pattern: &str, source| MirrorError::Pattern {
        pattern: pattern.to_owned(),
        source,
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| bad(pattern, error))?);
    }
    set.build()
        .map_err(|error| bad(&patterns.join(", "), error))
}
