//! The content of `kernel_info_reply`.

use jupyter_protocol::{CodeMirrorMode, HelpLink, KernelInfoReply, LanguageInfo, ReplyStatus};
use serde::Serialize;
use serde_json::Value;

use super::content::json_of;
use super::message::PROTOCOL_VERSION;

/// The reply, with what the crate lacks.
#[derive(Serialize)]
struct Reply {
    #[serde(flatten)]
    reply: KernelInfoReply,
    supported_features: [&'static str; 1],
}

pub(crate) fn reply() -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let link = |text: &str, url: &str| HelpLink {
        text: text.to_owned(),
        url: url.to_owned(),
    };
    let some = |text: &str| Some(text.to_owned());
    let banner =
        format!("Lockstep {version}: Rust cells, run in a deterministic WebAssembly sandbox. :help lists the directives.");
    json_of(Reply {
        reply: KernelInfoReply {
            status: ReplyStatus::Ok,
            protocol_version: PROTOCOL_VERSION.to_owned(),
            implementation: "lockstep".to_owned(),
            implementation_version: version.to_owned(),
            language_info: LanguageInfo {
                name: "rust".to_owned(),
                version: "2024".to_owned(),
                mimetype: some("text/rust"),
                file_extension: some(".rs"),
                pygments_lexer: some("rust"),
                codemirror_mode: Some(CodeMirrorMode::Simple("rust".to_owned())),
                nbconvert_exporter: some("script"),
            },
            banner,
            help_links: vec![
                link("The Rust Programming Language", "https://doc.rust-lang.org/book/"),
                link("Rust standard library", "https://doc.rust-lang.org/std/"),
                link("Rust by Example", "https://doc.rust-lang.org/rust-by-example/"),
            ],
            debugger: false,
            error: None,
        },
        supported_features: ["kernel subshells"],
    })
}
