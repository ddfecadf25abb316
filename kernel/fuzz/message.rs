//! Fuzzes the decoding of messages. The input is split into frames at a delimiter byte.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    lockstep_kernel::wire::decode_unsigned(data.split(|byte| *byte == 0xff));
});
