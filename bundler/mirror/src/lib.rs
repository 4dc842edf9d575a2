//! Fetches what a lock names: the only crate that opens a connection.
