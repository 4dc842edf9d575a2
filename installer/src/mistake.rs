//! A mistake on the command line, told in Chinese: clap has English words alone.

use std::error::Error as _;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is wrong, why, and what to do. `None` where nothing is (help was asked for), or where clap's own words must do.
pub(crate) fn in_chinese(error: &Error) -> Option<String> {
    let named = |kind| error.get(kind).map(words).filter(|words| !words.is_empty());
    let argument = || named(ContextKind::InvalidArg);
    let said = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            format!("没有 `{}` 这个命令", named(ContextKind::InvalidSubcommand)?)
        }
        ErrorKind::UnknownArgument => format!("没有 `{}` 这个参数", argument()?),
        ErrorKind::MissingRequiredArgument => format!("缺少参数 `{}`", argument()?),
        ErrorKind::ArgumentConflict => {
            let (one, other) = (argument()?, named(ContextKind::PriorArg)?);
            if one == other {
                format!("参数 `{one}` 只能给出一次")
            } else {
                format!("参数 `{one}` 不能与 `{other}` 同时使用")
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            match named(ContextKind::InvalidValue) {
                Some(value) => format!("`{value}` 不是参数 `{}` 的有效值", argument()?),
                None => format!("参数 `{}` 缺少值", argument()?),
            }
        }
        _ => return None,
    };
    let cause = error.source();
    let cause = cause.map(|cause| format!("  原因: {cause}\n"));
    let usage = named(ContextKind::Usage);
    let usage = usage
        .as_deref()
        .and_then(|text| text.strip_prefix("Usage: "));
    let close = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    let hints = [
        close
            .into_iter()
            .find_map(named)
            .map(|close| format!("相近的有 `{close}`")),
        named(ContextKind::ValidValue).map(|values| format!("可用的值有 `{values}`")),
        usage.map(|usage| format!("用法：{usage}")),
        Some("详细说明请加 `--help`".to_owned()),
    ];
    let hints: Vec<String> = hints.into_iter().flatten().collect();
    Some(format!(
        "错误: {said}\n{}\n建议: {}\n",
        cause.unwrap_or_default(),
        hints.join("；")
    ))
}

/// What clap knows, as it names it; several with `、` between.
fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::String(word) => word.clone(),
        ContextValue::Strings(words) => words.join("`、`"),
        ContextValue::StyledStr(text) => text.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;
    use crate::help;

    #[test]
    fn what_is_wrong_and_what_is_close_to_it_are_named() {
        for (line, said, help) in [
            ("instal", "没有 `instal` 这个命令", "`uninstall`、`install`"),
            ("install", "缺少参数 `<BUNDLE>...`", "install <BUNDLE>..."),
            (
                "install x --prefx /",
                "没有 `--prefx` 这个参数",
                "`--prefix`",
            ),
            (
                "install x --prefix",
                "参数 `--prefix <DIR>` 缺少值",
                "--help",
            ),
            (
                "verify x --prefix / --prefix /",
                "参数 `--prefix <DIR>` 只能给出一次",
                "--help",
            ),
            (
                "status --lang fr",
                "`fr` 不是参数 `--lang <LANG>` 的有效值",
                "`zh`、`en`",
            ),
            (
                "verify x --trust-root 1",
                "`1` 不是参数 `--trust-root <FINGERPRINT>` 的有效值\n  原因: ",
                "--help",
            ),
            (
                "install --resume x",
                "参数 `--resume` 不能与 `[BUNDLE]...` 同时使用",
                "--help",
            ),
        ] {
            let words = std::iter::once("ferry-installer").chain(line.split(' '));
            let command = help::in_chinese(Cli::command());
            let error = command.try_get_matches_from(words).unwrap_err();
            let text = in_chinese(&error).unwrap_or_else(|| panic!("{line}: {error}"));
            assert!(text.starts_with(&format!("错误: {said}")), "{line}: {text}");
            let hint = text.split("建议: ").nth(1).unwrap();
            assert!(hint.contains(help), "{line}: {text}");
        }
    }

    #[test]
    fn help_that_was_asked_for_is_no_mistake() {
        for line in ["--help", "install --help", "--version"] {
            let words = std::iter::once("ferry-installer").chain(line.split(' '));
            let error = help::in_chinese(Cli::command())
                .try_get_matches_from(words)
                .unwrap_err();
            assert_eq!(in_chinese(&error), None, "{line}");
        }
    }
}
