//! A mistake on the command line, told in Chinese: clap has English words alone.

use std::error::Error as _;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::Language;
use crate::phrase::said;

/// What is wrong, why, and what to do. `None` where nothing is (help was asked for), or where clap's own words must do.
pub fn mistake_in_chinese(error: &Error) -> Option<String> {
    let named = |kind| error.get(kind).map(words).filter(|words| !words.is_empty());
    let argument = || named(ContextKind::InvalidArg);
    let what = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            format!("没有 `{}` 这个命令", named(ContextKind::InvalidSubcommand)?)
        }
        ErrorKind::MissingSubcommand => "缺少命令".to_owned(),
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
        ErrorKind::TooManyValues => {
            let value = named(ContextKind::InvalidValue)?;
            format!("参数 `{}` 不能带值 `{value}`", argument()?)
        }
        ErrorKind::InvalidUtf8 => "命令行中有不是 UTF-8 的字符".to_owned(),
        _ => return None,
    };
    let cause = error.source().map(ToString::to_string);
    let cause = cause.map(|cause| format!("  原因: {}\n", said(Language::Zh, &cause)));
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
        named(ContextKind::ValidSubcommand).map(|names| format!("可用的命令有 `{names}`")),
        named(ContextKind::ValidValue).map(|values| format!("可用的值有 `{values}`")),
        usage.map(|usage| format!("用法：{}", in_words(usage))),
        Some("详细说明请加 `--help`".to_owned()),
    ];
    let hints: Vec<String> = hints.into_iter().flatten().collect();
    Some(format!(
        "错误: {what}\n{}\n建议: {}\n",
        cause.unwrap_or_default(),
        hints.join("；")
    ))
}

/// A usage with Chinese words for what is not typed as it stands.
fn in_words(usage: &str) -> String {
    usage
        .replace("[OPTIONS]", "[选项]")
        .replace("<COMMAND>", "<命令>")
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
    use clap::{Arg, ArgAction, Command, value_parser};

    use super::*;

    fn command() -> Command {
        Command::new("x")
            .subcommand(Command::new("install"))
            .subcommand_required(true)
            .subcommand(
                Command::new("train")
                    .arg(Arg::new("job").required(true).value_name("JOB"))
                    .arg(
                        Arg::new("count")
                            .long("count")
                            .value_parser(value_parser!(u16).range(1..=8)),
                    )
                    .arg(
                        Arg::new("size")
                            .long("size")
                            .value_parser(value_parser!(u64)),
                    )
                    .arg(Arg::new("kind").long("kind").value_parser(["a", "b"]))
                    .arg(Arg::new("deep").long("deep").action(ArgAction::SetTrue))
                    .arg(
                        Arg::new("with")
                            .long("with")
                            .action(ArgAction::SetTrue)
                            .requires("size")
                            .conflicts_with("deep"),
                    ),
            )
    }

    #[test]
    fn each_mistake_is_told_with_its_cause_and_a_way_out() {
        for (line, said) in [
            ("", "错误: 缺少命令\n\n建议: 可用的命令有"),
            (
                "instal",
                "错误: 没有 `instal` 这个命令\n\n建议: 相近的有 `install`",
            ),
            ("train", "错误: 缺少参数 `<JOB>`\n"),
            ("train j --with", "错误: 缺少参数 `--size <size>`\n"),
            (
                "train j --sise 1",
                "错误: 没有 `--sise` 这个参数\n\n建议: 相近的有 `--size`",
            ),
            ("train j --deep=1", "错误: 参数 `--deep` 不能带值 `1`"),
            ("train j --size", "错误: 参数 `--size <size>` 缺少值"),
            (
                "train j --with --deep --size 1",
                "错误: 参数 `--with` 不能与 `--deep` 同时使用",
            ),
            (
                "train j --size 1 --size 2",
                "错误: 参数 `--size <size>` 只能给出一次",
            ),
            (
                "train j --kind c",
                "错误: `c` 不是参数 `--kind <kind>` 的有效值\n\n建议: 可用的值有 `a`、`b`",
            ),
            (
                "train j --size x",
                "错误: `x` 不是参数 `--size <size>` 的有效值\n  原因: 不是数字\n",
            ),
            (
                "train j --size 99999999999999999999999",
                "错误: `99999999999999999999999` 不是参数 `--size <size>` 的有效值\n  原因: 数字过大\n",
            ),
            (
                "train j --count 9",
                "错误: `9` 不是参数 `--count <count>` 的有效值\n  原因: 9 不在 1 至 8 之间\n",
            ),
        ] {
            let words = std::iter::once("x").chain(line.split_whitespace());
            let error = command().try_get_matches_from(words).unwrap_err();
            let text = mistake_in_chinese(&error).unwrap_or_else(|| panic!("{line}: {error}"));
            assert!(text.starts_with(said), "{line}: {text}");
            assert!(text.ends_with("详细说明请加 `--help`\n"), "{line}: {text}");
        }
    }

    #[test]
    fn help_that_was_asked_for_is_no_mistake() {
        for line in ["--help", "train --help"] {
            let words = std::iter::once("x").chain(line.split(' '));
            let error = command().try_get_matches_from(words).unwrap_err();
            assert_eq!(mistake_in_chinese(&error), None, "{line}");
        }
    }
}
