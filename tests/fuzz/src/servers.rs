//! What servers answer.

use bundle_mirror::testing;

use crate::{Target, choose, chosen};

/// Pages of a package index, listings of hubs, names in them.
pub(crate) const SERVERS: Target = Target {
    name: "servers",
    run: |bytes| {
        let Some((number, bytes)) = choose(bytes, 6) else {
            return;
        };
        match number {
            0 | 1 => {
                for file in testing::index_page(number == 1, bytes).unwrap_or_default() {
                    assert!(!file.url.contains('#'), "{file:?}");
                }
            }
            2 => drop(testing::hub_listing(bytes)),
            3 => drop(testing::scope_listing(bytes)),
            4 => drop(testing::next_page(bytes)),
            _ => {
                let _ = testing::names(&String::from_utf8_lossy(bytes));
            }
        }
    },
    seeds: || {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let html = format!(
            "<a href='../a-1.0%2Bcpu-py3-none-any.whl#sha256={digest}' data-yanked=\"x\">a</a>"
        );
        let json = format!(
            "{{\"files\":[{{\"filename\":\"a\",\"url\":\"../a\",\"hashes\":{{\"sha256\":\"{digest}\"}},\"size\":1,\"yanked\":false}}]}}"
        );
        let hub = format!(
            "[{{\"type\":\"file\",\"path\":\"a\",\"size\":1,\"oid\":\"{0}\",\"lfs\":{{\"oid\":\"{digest}\",\"size\":1}}}}]",
            &digest[..40]
        );
        let scope = format!(
            "{{\"Success\":true,\"Data\":{{\"Files\":[{{\"Path\":\"a\",\"Type\":\"blob\",\"Size\":1,\"Sha256\":\"{digest}\"}}]}}}}"
        );
        vec![
            chosen(0, html.as_bytes()),
            chosen(1, json.as_bytes()),
            chosen(2, hub.as_bytes()),
            chosen(3, scope.as_bytes()),
            chosen(4, b"<https://example.org/x?page=2>; rel=\"next\""),
            chosen(
                5,
                b"torch_npu-2.9.0.post1-cp311-cp311-manylinux_2_28_aarch64.whl",
            ),
            chosen(5, b"numpy==1.26.4 \\\n    --hash=sha256:00\n"),
        ]
    },
};
