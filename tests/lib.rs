//! Integration tests; see `main.rs`.
