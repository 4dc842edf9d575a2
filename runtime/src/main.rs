//! Fine-tunes and chats from the local model repository.

fn main() {}
