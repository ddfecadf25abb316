//! The root of a base: compiled for the target with every crate of a prelude, never as a part of lockstep itself.
//!
//! The linker of cells (`toolchain::link`) knows the names and the layout of what stands here.

/// Where a cell's module writes, by a data segment, what is to be called: indices into the table of functions.
#[repr(C)]
pub struct Entry {
    /// The cell; 0 if the module holds steps.
    cell: u32,
    /// How many constructors there are.
    count: u32,
    constructors: [u32; 1022],
}

#[unsafe(no_mangle)]
pub static mut LOCKSTEP_ENTRY: Entry = Entry {
    cell: 0,
    count: 0,
    constructors: [0; 1022],
};

/// Where the constants of a cell's module go.
#[unsafe(no_mangle)]
pub static mut LOCKSTEP_REGION: Region = Region([0; 16 << 20]);

#[repr(align(4096))]
pub struct Region([u8; 16 << 20]);

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// What the sandbox calls once the cell's module is in place.
#[unsafe(export_name = "lockstep:start")]
extern "C" fn start() -> ! {
    // SAFETY: the constructors of this module, called once, before anything else.
    unsafe { __wasm_call_ctors() };
    // SAFETY: nothing runs beside this, and whatever is there is a valid `Entry`. Volatile, for only the linker knows that it is not zero.
    let entry = unsafe { (&raw const LOCKSTEP_ENTRY).read_volatile() };
    for constructor in entry.constructors.iter().take(entry.count as usize) {
        // SAFETY: the linker puts the indices of constructors here, which have this type.
        let constructor: extern "C" fn() = unsafe { std::mem::transmute(*constructor as usize) };
        constructor();
    }
    if entry.cell == 0 {
        lockstep::main()
    }
    // SAFETY: the linker puts the index of `__cell` here, which the same compiler has compiled with this type.
    let cell: fn(&mut lockstep::cell::Cell) -> lockstep::Result<()> = unsafe { std::mem::transmute(entry.cell as usize) };
    lockstep::cell::run(cell);
    std::process::exit(0)
}
