//! Frames as a stranger may send them: the input is cut where a delimiter byte is.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    lockstep_kernel::wire::decode_unsigned(data.split(|byte| *byte == 0xff));
});
