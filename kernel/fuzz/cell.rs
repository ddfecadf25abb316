//! Fuzzes the parsing of cells.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_kernel::cell::{Rust, parse};
use lockstep_kernel::jupyter::of_rust;

fuzz_target!(|code: &str| {
    of_rust(code);
    if let Ok(parsed) = parse(code) {
        assert_eq!(parsed.rust.len(), code.len());
        let _ = Rust::parse(&parsed.rust);
    }
});
