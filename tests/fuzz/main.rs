//! Fuzzes the target that `LOCKSTEP_FUZZ` names. The arguments are those of libFuzzer.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lockstep_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("LOCKSTEP_FUZZ").unwrap_or_default();
    let found = TARGETS.into_iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("LOCKSTEP_FUZZ is `{name}`; set it to a target, see TARGETS"))
        .1
});

fuzz_target!(|data: &[u8]| TARGET(data));
