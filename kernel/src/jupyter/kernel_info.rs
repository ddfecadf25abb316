//! The content of `kernel_info_reply`.

use serde_json::{Value, json};

use super::message::PROTOCOL_VERSION;

pub(crate) fn reply() -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "status": "ok",
        "protocol_version": PROTOCOL_VERSION,
        "implementation": "lockstep",
        "implementation_version": version,
        "language_info": {
            "name": "rust",
            "version": "2024",
            "mimetype": "text/rust",
            "file_extension": ".rs",
            "pygments_lexer": "rust",
            "codemirror_mode": "rust",
            "nbconvert_exporter": "script",
        },
        "banner": format!("Lockstep {version}: Rust cells, run in a deterministic WebAssembly sandbox. :help lists the directives."),
        "debugger": false,
        "supported_features": ["kernel subshells"],
        "help_links": [
            { "text": "The Rust Programming Language", "url": "https://doc.rust-lang.org/book/" },
            { "text": "Rust standard library", "url": "https://doc.rust-lang.org/std/" },
            { "text": "Rust by Example", "url": "https://doc.rust-lang.org/rust-by-example/" },
        ],
    })
}
