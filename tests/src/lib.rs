//! End-to-end tests: the real programs in a throw-away site.
