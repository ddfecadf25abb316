//! The root module of a base. It is compiled for the target with all crates of a prelude, never as part of lockstep itself.
//!
//! The linker of cells (`toolchain::link`) depends on the names and the layout of these definitions.

/// The functions to call, as indices into the function table. A data segment of the cell's module sets them.
#[repr(C)]
pub struct Entry {
    /// The cell; 0 if the module contains steps.
    cell: u32,
    /// The number of constructors.
    count: u32,
    constructors: [u32; 1022],
}

#[unsafe(no_mangle)]
pub static mut LOCKSTEP_ENTRY: Entry = Entry {
    cell: 0,
    count: 0,
    constructors: [0; 1022],
};

/// Space for the constants of a cell's module.
#[unsafe(no_mangle)]
pub static mut LOCKSTEP_REGION: Region = Region([0; 16 << 20]);

#[repr(align(4096))]
pub struct Region([u8; 16 << 20]);

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// The entry point, which the sandbox calls once the cell's module is instantiated.
#[unsafe(export_name = "lockstep:start")]
extern "C" fn start() -> ! {
    // SAFETY: the constructors of this module, called once, before anything else.
    unsafe { __wasm_call_ctors() };
    // SAFETY: there are no other threads, and any value is a valid `Entry`. Volatile, because only the linker knows that it is not zero.
    let entry = unsafe { (&raw const LOCKSTEP_ENTRY).read_volatile() };
    for constructor in entry.constructors.iter().take(entry.count as usize) {
        // SAFETY: the linker stores the indices of constructors here, which have this type.
        let constructor: extern "C" fn() = unsafe { std::mem::transmute(*constructor as usize) };
        constructor();
    }
    if entry.cell == 0 {
        lockstep::main()
    }
    // SAFETY: the linker stores the index of `__cell` here, which the same compiler has compiled with this type.
    let cell: fn(&mut lockstep::cell::Cell) -> lockstep::Result<()> = unsafe { std::mem::transmute(entry.cell as usize) };
    lockstep::cell::run(cell);
    std::process::exit(0)
}
