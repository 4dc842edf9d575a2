//! `check` on jobs that can run.

use insta::assert_snapshot;

use crate::bench::{Bench, JOB};

#[test]
fn a_job_is_told_before_it_starts() {
    let bench = Bench::new();
    assert_snapshot!(bench.screens(&["check", "job.yaml"]));
    assert_snapshot!("in_json", bench.screen(&["--json", "check", "job.yaml"]));
}

#[test]
fn what_is_left_out_and_what_is_done_otherwise_is_told() {
    let bench = Bench::new();
    let info = r#"{"mixed": {"file_name": "mixed.json", "formatting": "sharegpt"}}"#;
    bench.write("data/dataset_info.json", info);
    let data = r#"[
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"conversations": [{"from": "human", "value": "a"}]},
        {"conversations": [{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"conversations": []}
    ]"#;
    bench.write("data/mixed.json", data);
    bench.job("fp16: true\n");
    let arguments = ["check", "job.yaml", "dataset=mixed"];
    assert_snapshot!(bench.screens(&arguments));
    let json = bench.screen(&["--json", "check", "job.yaml", "dataset=mixed"]);
    assert!(
        json.contains(
            r#""code":"data.dropped-count","path":"data/mixed.json","count":2,"records":[2,4]"#
        ),
        "{json}"
    );
}

#[test]
fn a_job_without_a_template_takes_the_models_own() {
    let bench = Bench::new();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    bench.write("model/chat_template.jinja", template);
    bench.write("job.yaml", JOB.replace("template: qwen\n", ""));
    assert_snapshot!(bench.screens(&["check", "job.yaml"]));
}
