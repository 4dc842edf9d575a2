//! `--help` in Chinese: the same commands and flags, with the texts of [`TEXTS`] in place of the English ones.

use clap::{Arg, ArgAction, Command};

/// Puts Chinese texts into a command and all below it.
pub(crate) fn in_chinese(command: Command) -> Command {
    let mut command = translate(command, "");
    // Only now are the commands there that clap adds.
    command.build();
    translate_help(command)
}

/// The commands `help`, which clap makes.
fn translate_help(mut command: Command) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(&name, |inside| match name.as_str() {
            "help" => inside.about("显示命令的帮助"),
            _ => translate_help(inside),
        });
    }
    command
}

fn translate(command: Command, path: &str) -> Command {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    let names: Vec<String> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let mut command = command
        .mut_args(|arg| argument(arg, path))
        .help_template(TEMPLATE)
        .subcommand_help_heading("命令")
        .subcommand_value_name("命令")
        .disable_help_flag(true)
        .arg(
            Arg::new("help")
                .short('h')
                .long("help")
                .action(ArgAction::Help)
                .help("显示帮助")
                .help_heading("选项"),
        );
    if path.is_empty() {
        command = command
            .about("校验安装包，检查本机，安装并提供证明")
            .after_help(EXIT_STATUS);
        command = command.disable_version_flag(true).arg(
            Arg::new("version")
                .short('V')
                .long("version")
                .action(ArgAction::Version)
                .help("显示版本")
                .help_heading("选项"),
        );
    } else if let Some(about) = text(path) {
        command = command.about(about).long_about(about);
    }
    for name in names {
        command = command.mut_subcommand(&name, |inside| translate(inside, &below(&name)));
    }
    command
}

fn argument(arg: Arg, path: &str) -> Arg {
    let id = arg.get_id().to_string();
    let found = text(&format!("{path}.{id}")).or_else(|| text(&id));
    let heading = match arg.get_help_heading() {
        Some(_) => "输出",
        None if arg.is_positional() => "参数",
        None => "选项",
    };
    let mut arg = arg.help_heading(heading);
    if arg.get_action().takes_values() {
        arg = arg.hide_possible_values(true).hide_default_value(true);
    }
    match found {
        Some(found) => arg.help(found).long_help(found),
        None => arg,
    }
}

fn text(key: &str) -> Option<&'static str> {
    TEXTS
        .iter()
        .find(|(known, _)| *known == key)
        .map(|(_, text)| *text)
}

const TEMPLATE: &str = "{about-with-newline}\n用法：{usage}\n\n{all-args}{after-help}";

const EXIT_STATUS: &str =
    "退出码：0 完成，1 失败，2 用法错误，3 本机不适合，4 不可信，5 本机故障，6 需重启后继续";

/// A command by its path; an argument by its command's path and its name, or by its name wherever it stands.
const TEXTS: &[(&str, &str)] = &[
    ("probe", "说明本机情况：处理器、系统、加速卡、驱动"),
    ("verify", "校验包的签名与每个字节"),
    ("preflight", "判断包能否安装在本机，不能时说明处理办法"),
    ("install", "安装包，并设为当前版本"),
    ("status", "说明已安装的内容"),
    ("rollback", "回到之前的版本"),
    ("uninstall", "移除一个版本或全部内容"),
    (
        "audit",
        "核对每个已安装的文件：是否与签名一致，谁签名，来自何处",
    ),
    ("gc", "清理不再需要的内容"),
    ("log", "说明在此做过什么、何时、何人、来自哪个包"),
    ("log.verify", "检查日志链条，并核对已安装的内容是否都有记录"),
    ("trust", "查看、添加或移除信任根"),
    ("trust.add", "核对指纹后信任一个信任根"),
    ("trust.list", "列出已信任的信任根"),
    ("trust.remove", "不再信任一个信任根"),
    ("inventory", "列出本机已有的内容，以便只携带其余部分"),
    ("support-bundle", "写出一个可阅读的文件，供协助的人使用"),
    ("json", "在标准输出上每行打印一个 JSON 对象，最后一行是结果"),
    ("quiet", "只打印错误与结果"),
    ("verbose", "打印更多：每个步骤，包括很快的步骤"),
    ("color", "何时使用颜色：auto、always、never（默认 auto）"),
    ("no_progress", "不画进度条；步骤开始与结束时各打印一行"),
    ("lang", "语言：zh 或 en；未指定时随系统区域设置"),
    ("yes", "对可由参数回答的问题一律回答“是”"),
    ("prefix", "安装目录（默认 /opt/ferry）"),
    (
        "trust_root",
        "信任此指纹的信任根及接续它的信任根；指纹须已由人核对",
    ),
    ("bundle", "包"),
    ("overridden", "放行此代码的检查，若该检查可放行（可重复）"),
    ("probe.sysroot", "改为查看挂载在此目录下的系统（默认 /）"),
    (
        "probe.record",
        "把读到的全部内容保存到此目录，便于在别处试算",
    ),
    ("probe.host", "查看记录在此目录中的机器"),
    ("probe.qr", "把制作包所需的信息显示为二维码，供拍照带出"),
    ("probe.letters", "把同样的信息显示为字母，供手工抄写"),
    (
        "facts",
        "以此为准而不采用实测值，如 `driver=25.5.0`；会记入日志（可重复）",
    ),
    ("with_driver", "同时按厂商顺序安装包中带来的驱动与固件"),
    ("with_toolkit", "同时安装包中带来的厂商工具包"),
    ("machine", "由此目录扮演本机；用于测试"),
    (
        "install.accepted",
        "接受此名称的许可条款，条款须已由人阅读（可重复）",
    ),
    (
        "install.systemd",
        "同时把版本中的服务单元链接到 systemd，关闭终端后训练仍继续",
    ),
    (
        "install.user",
        "与 `--systemd` 同用：链接到当前用户的 systemd，而不是系统的",
    ),
    ("install.resume", "继续一次等待重启的安装"),
    ("preflight.backend", "只判断此后端"),
    ("preflight.host", "判断记录在此目录中的机器"),
    ("install.backend", "安装此后端，而不是最适合的后端"),
    (
        "install.host",
        "与 `--dry-run` 同用：为记录在此目录中的机器制定计划",
    ),
    (
        "install.allow_downgrade",
        "允许用旧版本替换新版本；会记入日志",
    ),
    ("install.dry_run", "显示步骤与每条命令，不做任何改动"),
    (
        "with_os_packages",
        "由系统的包管理器安装包中面向本系统的软件包（仅限 root）；会先显示其操作并询问。与 `--with-driver` 或 `--with-toolkit` 同用时先装软件包。不加此项时只放置软件包并显示安装命令",
    ),
    (
        "install.verify_first",
        "写入第一个字节之前读完并校验整个包；不加此项时边写边校验，发现损坏即全部撤回，且只读本机需要的部分",
    ),
    ("rollback.to", "切换到此版本，而不是前一个版本"),
    ("rollback.dry_run", "只说明会切换到哪里，不做改动"),
    ("uninstall.release", "只移除此版本，且不能是当前版本"),
    ("uninstall.dry_run", "只说明会移除什么，不做改动"),
    ("audit.release", "核对此版本，而不是当前版本"),
    (
        "audit.deep",
        "核对所有版本、日志与现状是否相符、还有谁能改动文件",
    ),
    ("audit.report", "同时把审计写成文档：html 或 json"),
    (
        "audit.output",
        "文档的位置（默认 ferry-audit.html 或 ferry-audit.json）",
    ),
    ("gc.dry_run", "只说明会清理什么，不做改动"),
    ("log.verify.head", "此前记下的末端：日志必须经过它"),
    (
        "trust.add.file",
        "信任根文件、信任根链文件、由它签名的包，或仅其指纹",
    ),
    ("trust.add.fingerprint", "已由人核对的指纹；未给出时会询问"),
    ("trust.remove.fingerprint", "信任根的指纹"),
    (
        "inventory.output",
        "签名后写入此文件（不能已存在），而不是标准输出",
    ),
    (
        "support-bundle.output",
        "要写的文件，不能已存在（默认 ferry-support.json）",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;
    use console::mistake_in_chinese;

    use super::*;
    use crate::cli::Cli;

    fn keys(command: &Command, path: &str, used: &mut BTreeSet<&'static str>) {
        let mut find = |full: &str, short: &str| {
            let known = TEXTS.iter().map(|(key, _)| *key);
            let found = known.clone().find(|key| *key == full);
            let found = found.or_else(|| known.clone().find(|key| *key == short));
            used.insert(found.unwrap_or_else(|| panic!("`{full}` has no Chinese text")));
        };
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            find(&format!("{path}.{id}"), id);
        }
        for inside in command.get_subcommands() {
            let name = inside.get_name();
            let path = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            let known = TEXTS.iter().map(|(key, _)| *key).find(|key| *key == path);
            used.insert(known.unwrap_or_else(|| panic!("`{path}` has no Chinese text")));
            keys(inside, &path, used);
        }
    }

    #[test]
    fn every_command_and_argument_has_a_chinese_text_and_none_is_left_over() {
        let mut used = BTreeSet::new();
        keys(&Cli::command(), "", &mut used);
        for (key, _) in TEXTS {
            assert!(used.contains(key), "nothing is called `{key}`");
        }
        in_chinese(Cli::command()).debug_assert();
    }

    #[test]
    fn help_about_a_command_is_there_in_chinese_too() {
        let told = |words: &[&str]| {
            let command = in_chinese(Cli::command());
            let told = command.try_get_matches_from(words).unwrap_err();
            assert_eq!(told.exit_code(), 0, "{told}");
            told.to_string()
        };
        for words in [&["x", "--help"][..], &["x", "trust", "--help"]] {
            assert!(!told(words).contains("Print"), "{words:?}");
        }
        assert!(told(&["x", "help", "gc"]).contains("清理不再需要的内容"));
    }

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
            let command = in_chinese(Cli::command());
            let error = command.try_get_matches_from(words).unwrap_err();
            let text = mistake_in_chinese(&error).unwrap_or_else(|| panic!("{line}: {error}"));
            assert!(text.starts_with(&format!("错误: {said}")), "{line}: {text}");
            let hint = text.split("建议: ").nth(1).unwrap();
            assert!(hint.contains(help), "{line}: {text}");
        }
    }
}
