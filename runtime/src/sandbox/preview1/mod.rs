//! WASI preview 1 (`wasi_snapshot_preview1.witx` of the WebAssembly/WASI repository) on top of the guest's world.
//!
//! Whatever arguments a guest passes, a call returns an error number or ends the run. It never panics.

mod fd;
mod path;
mod ram;
mod system;

use wasmtime::{Caller, Extern, Linker, Trap};

use super::guest::Guest;
use super::vfs::{Errno, Fault, Result, Stop};
pub(super) use ram::Pointer;
use ram::Ram;

/// The module name of all imports.
const MODULE: &str = "wasi_snapshot_preview1";

/// Maximum number of bytes copied between checks for an interrupt.
const PIECE: u32 = 1 << 20;

/// The work of calling a host function, in units of about a nanosecond, as for all work.
const CALL: u64 = 50;

/// All functions of preview 1, sorted (`sock_accept` was added later than the other 45).
pub(super) const FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// Returns whether this import exists.
pub(super) fn offers(module: &str, name: &str) -> bool {
    module == MODULE && FUNCTIONS.binary_search(&name).is_ok()
}

/// Defines all functions.
pub(super) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    fd::define(linker)?;
    path::define(linker)?;
    system::define(linker)
}

/// Returns the flags, if all of them exist.
fn valid(flags: u32, all: u32) -> Result<u32> {
    match flags & !all {
        0 => Ok(flags),
        _ => Err(Errno::Invalid.into()),
    }
}

/// Executes a call on the guest's world and memory. Returns the error number, 0 for success, or ends the run.
pub(super) fn call(
    mut caller: Caller<'_, Guest>,
    act: impl FnOnce(&mut Guest, &mut Ram<'_>) -> Result<()>,
) -> wasmtime::Result<u32> {
    if caller.data().memory.is_none() {
        caller.data_mut().memory = caller.get_export("memory").and_then(Extern::into_memory);
    }
    let result = match caller.data().memory {
        Some(memory) => {
            let (bytes, guest) = memory.data_and_store_mut(&mut caller);
            act(guest, &mut Ram::new(bytes))
        }
        None => act(caller.data_mut(), &mut Ram::new(&mut [])),
    };
    let guest = caller.data_mut();
    let work = guest.vfs.take_work().saturating_add(CALL);
    let settled = guest.meter.settle(guest.vfs.held());
    let errno = match (result, settled) {
        (Err(Fault::Stop(stop)), _) | (_, Err(stop)) => {
            return Err(end(guest, stop));
        }
        (Ok(()), Ok(())) => 0,
        (Err(Fault::Errno(errno)), Ok(())) => errno as u32,
    };
    charge(&mut caller, work)?;
    Ok(errno)
}

/// Notes why the run ends. Returns the error that ends it.
fn end(guest: &mut Guest, stop: Stop) -> wasmtime::Error {
    guest.stop = Some(stop);
    wasmtime::Error::msg("the run was ended")
}

/// Takes fuel for the work of a host function. The first `FREE_WORK` of a run is free, so that the fuel of most runs is that of
/// their own instructions.
fn charge(caller: &mut Caller<'_, Guest>, work: u64) -> wasmtime::Result<()> {
    let guest = caller.data_mut();
    let free = work.min(guest.free_work);
    guest.free_work -= free;
    // without fuel, nothing is charged
    let Some(left) = (work > free).then(|| caller.get_fuel().ok()).flatten() else {
        return Ok(());
    };
    if let Err(stop) = caller.data().deadline.check() {
        return Err(end(caller.data_mut(), stop));
    }
    // this starts a new slice, so a guest that keeps calling host functions never yields; hence the check
    caller.set_fuel(left.saturating_sub(work - free))?;
    match left < work - free {
        true => Err(Trap::OutOfFuel.into()),
        false => Ok(()),
    }
}
