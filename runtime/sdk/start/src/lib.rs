//! The entry point of a module of steps.
//!
//! A step crate is a plain library. Compiled to a `cdylib` for `wasm32-wasip1`, it gets no `_start` from the C runtime, so the
//! linker uses this one. A program (`bin`) has its own `_start`, so this one must not be linked then. A linker uses a member of
//! an archive only if it defines a missing symbol. Therefore this function is in a crate, and so in a member, of its own.
//!
//! The linker wraps an exported `_start` in calls of the module's constructors and destructors.

#![no_std]

#[cfg(target_os = "wasi")]
unsafe extern "C" {
    safe fn __lockstep_main() -> !;
}

#[cfg(target_os = "wasi")]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    __lockstep_main()
}
