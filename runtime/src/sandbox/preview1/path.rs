use wasmtime::{Caller, Linker};

use super::fd::{flags, put_stat, rights, times};
use super::ram::{Pointer, Ram};
use super::{MODULE, call, valid};
use crate::sandbox::guest::Guest;
use crate::sandbox::vfs::{Access, Errno, Fd, OpenHow, Result};

/// The address and length of a path in guest memory.
type Text = (Pointer, u32);

/// `lookupflags::symlink_follow`, the only one.
const FOLLOW: u32 = 1;

pub(super) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type C<'c> = Caller<'c, Guest>;
    type R = wasmtime::Result<u32>;
    linker
        .func_wrap(
            MODULE,
            "path_create_directory",
            |c: C<'_>, fd: Fd, path: Pointer, len: u32| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::CREATE_DIRECTORY)?;
                    guest.vfs.make_directory(fd, ram.path((path, len))?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_filestat_get",
            |c: C<'_>, fd: Fd, lookup: u32, path: Pointer, len: u32, to: Pointer| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::PATH_STAT)?;
                    let stat = guest.vfs.stat_path(fd, ram.path((path, len))?, follow(lookup)?)?;
                    put_stat(ram, to, stat)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_filestat_set_times",
            |c: C<'_>, fd: Fd, lookup: u32, path: Pointer, len: u32, access: u64, change: u64, which: u32| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::PATH_SET_TIMES)?;
                    let times = times(guest, access, change, which)?;
                    guest.vfs.set_path_times(fd, ram.path((path, len))?, follow(lookup)?, times)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_link",
            |c: C<'_>, fd: Fd, lookup: u32, old: Pointer, old_len: u32, new_fd: Fd, new: Pointer, new_len: u32| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::LINK_SOURCE)?;
                    guest.need(new_fd, rights::LINK_TARGET)?;
                    // a link to a symbolic link refers to the symbolic link itself
                    if follow(lookup)? {
                        return Err(Errno::Invalid.into());
                    }
                    let (old, new) = (ram.path((old, old_len))?, ram.path((new, new_len))?);
                    guest.vfs.link((fd, old), (new_fd, new))
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_open",
            |c: C<'_>,
             fd: Fd,
             lookup: u32,
             path: Pointer,
             len: u32,
             oflags: u32,
             rights: u64,
             _inheriting: u64,
             fdflags: u32,
             to: Pointer|
             -> R {
                call(c, |guest, ram| {
                    let how = OpenHow {
                        follow: follow(lookup)?,
                        ..how(oflags, rights, fdflags)?
                    };
                    open(guest, ram, fd, (path, len), how, to)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_readlink",
            |c: C<'_>, fd: Fd, path: Pointer, len: u32, to: Pointer, room: u32, used: Pointer| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::READ_LINK)?;
                    let target = guest.vfs.read_link(fd, ram.path((path, len))?)?;
                    let kept = &target.as_bytes()[..target.len().min(room as usize)];
                    ram.bytes(to, room)?;
                    ram.put(to, kept)?;
                    ram.put_u32(used, kept.len() as u32)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_remove_directory",
            |c: C<'_>, fd: Fd, path: Pointer, len: u32| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::REMOVE_DIRECTORY)?;
                    guest.vfs.remove_directory(fd, ram.path((path, len))?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_rename",
            |c: C<'_>, fd: Fd, old: Pointer, old_len: u32, new_fd: Fd, new: Pointer, new_len: u32| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::RENAME_SOURCE)?;
                    guest.need(new_fd, rights::RENAME_TARGET)?;
                    let (old, new) = (ram.path((old, old_len))?, ram.path((new, new_len))?);
                    guest.vfs.rename((fd, old), (new_fd, new))
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_symlink",
            |c: C<'_>, to: Pointer, to_len: u32, fd: Fd, path: Pointer, len: u32| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::SYMLINK)?;
                    guest.vfs.make_link(ram.text(to, to_len)?, fd, ram.path((path, len))?)
                })
            },
        )?
        .func_wrap(MODULE, "path_unlink_file", |c: C<'_>, fd: Fd, path: Pointer, len: u32| -> R {
            call(c, |guest, ram| {
                guest.need(fd, rights::UNLINK_FILE)?;
                guest.vfs.remove_file(fd, ram.path((path, len))?)
            })
        })?;
    Ok(())
}

fn follow(lookup: u32) -> Result<bool> {
    Ok(valid(lookup, FOLLOW)? != 0)
}

fn how(oflags: u32, asked: u64, fdflags: u32) -> Result<OpenHow> {
    let oflags = valid(oflags, 15)?;
    let (append, flags) = flags(fdflags)?;
    Ok(OpenHow {
        access: Access {
            read: asked & rights::READ != 0,
            write: asked & rights::WRITE != 0,
            append,
            flags,
        },
        create: oflags & 1 != 0,
        directory: oflags & 2 != 0,
        exclusive: oflags & 4 != 0,
        truncate: oflags & 8 != 0,
        follow: false,
    })
}

fn open(guest: &mut Guest, ram: &mut Ram<'_>, fd: Fd, path: Text, how: OpenHow, to: Pointer) -> Result<()> {
    // check the result pointer before anything is opened
    ram.bytes(to, 4)?;
    let only = |needed: bool, right: u64| if needed { right } else { 0 };
    guest.need(
        fd,
        rights::OPEN | only(how.create, rights::CREATE_FILE) | only(how.truncate, rights::PATH_SET_SIZE),
    )?;
    let asked = only(how.access.read, rights::READ) | only(how.access.write, rights::WRITE);
    if guest.vfs.without(fd)?.inheriting & asked != 0 {
        return Err(Errno::NotCapable.into());
    }
    let opened = guest.vfs.open(fd, ram.path(path)?, how)?;
    ram.put_u32(to, opened)
}
