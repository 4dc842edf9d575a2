//! Facts about a machine, and whether a rule fits them.
