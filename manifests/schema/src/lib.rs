//! Types of every manifest: parse and check, no files, no network.
