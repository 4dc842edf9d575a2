//! Bars, lines, prompts and the Chinese and English catalogues.
