//! A wrong command line is told in the language of whoever typed it, with the same status, by every program.

use std::process::Command;

use e2e::{Site, bundler, say};

#[test]
fn a_wrong_value_has_a_chinese_cause_in_a_chinese_message() {
    let site = Site::new();
    for (line, cause) in [
        ("trust remove abc", "`abc` 不是 64 位小写十六进制数字"),
        ("log verify --head 1", "`1` 不是 64 位小写十六进制数字"),
        ("rollback --to ../x", "`../x` 不是版本名"),
        ("install x --fact driver", "`driver` 的写法应为 NAME=VALUE"),
        ("install x --backend A", "`A` 不是后端名"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let chinese = site
            .bare(&[&words[..], &["--lang", "zh"]].concat())
            .ended_with(2);
        assert!(
            chinese.words.contains(&format!("  原因: {cause}")),
            "{chinese:?}"
        );
        assert!(chinese.words.contains("建议: "), "{chinese:?}");
        let english = site.bare(&words).ended_with(2);
        assert!(english.words.starts_with("error: "), "{english:?}");
    }
}

#[test]
fn the_bundler_tells_mistakes_in_chinese_too() {
    let typed = |line: &str, locale: &str| {
        let mut command = Command::new(bundler());
        let words = line.split_whitespace();
        say(command.args(words).env("LC_ALL", locale)).ended_with(2)
    };
    for (line, said) in [
        ("lok", "错误: 没有 `lok` 这个命令\n\n建议: 相近的有 `lock`"),
        ("build", "错误: 缺少参数 `--key <DIR>`、`<LOCK>`"),
        ("build l --kez k", "错误: 没有 `--kez` 这个参数"),
        (
            "build l --key k --unsigned",
            "错误: 参数 `--key <DIR>` 不能与 `--unsigned` 同时使用",
        ),
        (
            "build l --limit-rate fast",
            "原因: 写法如 500K、20M、4.7G 或 4Gi",
        ),
        (
            "build l --volume-size floppy",
            "原因: 写法如 500K、20M、4.7G 或 4Gi，或 fat32、dvd、bd25、bd50",
        ),
        ("build l --parity 101", "原因: 请写成 1 至 100 的数字"),
        ("build l --mirror x", "原因: 请写成 FROM=TO"),
        ("verify x --threads many", "原因: 不是数字"),
        (
            "keygen k --algorithm rsa",
            "原因: 请写 p256、sm2 或 ed25519",
        ),
        ("init --glibc 2", "原因: `2` 不是 glibc 版本，如 `2.28`"),
    ] {
        let chinese = typed(line, "zh_CN.UTF-8");
        assert!(chinese.words.contains(said), "{line}: {chinese:?}");
        let english = typed(line, "C");
        assert!(english.words.starts_with("error: "), "{line}: {english:?}");
    }
}
