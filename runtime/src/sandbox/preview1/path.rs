use wasmtime::{Caller, Linker};

use super::fd::{APPEND, put_stat, rights};
use super::ram::{Pointer, Ram};
use super::{MODULE, call};
use crate::sandbox::guest::Guest;
use crate::sandbox::vfs::{Access, Errno, Fd, OpenHow, Result};

/// The address and length of a path in guest memory.
type Text = (Pointer, u32);

pub(super) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type C<'c> = Caller<'c, Guest>;
    type R = wasmtime::Result<u32>;
    linker
        .func_wrap(
            MODULE,
            "path_create_directory",
            |c: C<'_>, fd: Fd, path: Pointer, len: u32| -> R {
                call(c, |guest, ram| guest.vfs.make_directory(fd, ram.text(path, len)?))
            },
        )?
        .func_wrap(
            MODULE,
            "path_filestat_get",
            |c: C<'_>, fd: Fd, _flags: u32, path: Pointer, len: u32, to: Pointer| -> R {
                call(c, |guest, ram| {
                    let stat = guest.vfs.stat_path(fd, ram.text(path, len)?)?;
                    put_stat(ram, to, stat)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_filestat_set_times",
            |c: C<'_>, fd: Fd, _flags: u32, path: Pointer, len: u32, _: u64, _: u64, _: u32| -> R {
                call(c, |guest, ram| guest.vfs.touch(fd, Some(ram.text(path, len)?)))
            },
        )?
        .func_wrap(
            MODULE,
            "path_link",
            |c: C<'_>, _: Fd, _: u32, _: Pointer, _: u32, _: Fd, _: Pointer, _: u32| -> R {
                call(c, |_, _| Err(Errno::NotSupported.into()))
            },
        )?
        .func_wrap(
            MODULE,
            "path_open",
            |c: C<'_>,
             fd: Fd,
             _flags: u32,
             path: Pointer,
             len: u32,
             oflags: u32,
             rights: u64,
             _inheriting: u64,
             fdflags: u32,
             to: Pointer|
             -> R {
                call(c, |guest, ram| {
                    open(guest, ram, fd, (path, len), how(oflags, rights, fdflags), to)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_readlink",
            |c: C<'_>, fd: Fd, path: Pointer, len: u32, _: Pointer, _: u32, _: Pointer| -> R {
                call(c, |guest, ram| guest.vfs.read_link(fd, ram.text(path, len)?))
            },
        )?
        .func_wrap(
            MODULE,
            "path_remove_directory",
            |c: C<'_>, fd: Fd, path: Pointer, len: u32| -> R {
                call(c, |guest, ram| guest.vfs.remove_directory(fd, ram.text(path, len)?))
            },
        )?
        .func_wrap(
            MODULE,
            "path_rename",
            |c: C<'_>, fd: Fd, old: Pointer, old_len: u32, new_fd: Fd, new: Pointer, new_len: u32| -> R {
                call(c, |guest, ram| {
                    let (old, new) = (ram.text(old, old_len)?, ram.text(new, new_len)?);
                    guest.vfs.rename((fd, old), (new_fd, new))
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_symlink",
            |c: C<'_>, _: Pointer, _: u32, _: Fd, _: Pointer, _: u32| -> R { call(c, |_, _| Err(Errno::NotSupported.into())) },
        )?
        .func_wrap(MODULE, "path_unlink_file", |c: C<'_>, fd: Fd, path: Pointer, len: u32| -> R {
            call(c, |guest, ram| guest.vfs.remove_file(fd, ram.text(path, len)?))
        })?;
    Ok(())
}

fn how(oflags: u32, asked: u64, fdflags: u32) -> OpenHow {
    let directory = oflags & 2 != 0;
    OpenHow {
        access: Access {
            read: asked & rights::READ != 0,
            // guests request all existing rights when they open a directory
            write: asked & rights::WRITE != 0 && !directory,
            append: fdflags & APPEND != 0,
        },
        create: oflags & 1 != 0,
        directory,
        exclusive: oflags & 4 != 0,
        truncate: oflags & 8 != 0,
    }
}

fn open(guest: &mut Guest, ram: &mut Ram<'_>, fd: Fd, (path, len): Text, how: OpenHow, to: Pointer) -> Result<()> {
    // check the result pointer before anything is opened
    ram.bytes(to, 4)?;
    let opened = guest.vfs.open(fd, ram.text(path, len)?, how)?;
    ram.put_u32(to, opened)
}
