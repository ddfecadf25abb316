use wasmtime::{Caller, Linker};

use super::ram::{Iovec, Pointer, Ram};
use super::{MODULE, PIECE, call, valid};
use crate::sandbox::clock::Clock;
use crate::sandbox::guest::Guest;
use crate::sandbox::vfs::{Access, Errno, Fd, FileType, PREOPEN, Result, Rights, Stat, Stop, Whence};
use crate::step::Interruption;

/// `fdflags::append`; the other flags (dsync, nonblock, rsync, sync) have no effect here, but are kept.
const APPEND: u32 = 1;
/// All `fdflags`.
const FLAGS: u32 = 31;

/// `fstflags`: set the time of the last access or change to a value, or to now.
const ACCESS: u32 = 1;
const ACCESS_NOW: u32 = 2;
const CHANGE: u32 = 4;
const CHANGE_NOW: u32 = 8;

/// How many bytes are copied for one unit of work.
const COPIED: u32 = 8;

/// The `rights` of preview 1.
///
/// A descriptor has all rights that its type and access mode allow, whatever the guest asks for; fewer only if the guest gives some up.
pub(super) mod rights {
    pub(in super::super) const DATASYNC: u64 = 1;
    pub(in super::super) const READ: u64 = 1 << 1;
    pub(in super::super) const SEEK: u64 = 1 << 2;
    pub(in super::super) const SET_FLAGS: u64 = 1 << 3;
    pub(in super::super) const SYNC: u64 = 1 << 4;
    pub(in super::super) const TELL: u64 = 1 << 5;
    pub(in super::super) const WRITE: u64 = 1 << 6;
    pub(in super::super) const ADVISE: u64 = 1 << 7;
    pub(in super::super) const ALLOCATE: u64 = 1 << 8;
    pub(in super::super) const CREATE_DIRECTORY: u64 = 1 << 9;
    pub(in super::super) const CREATE_FILE: u64 = 1 << 10;
    pub(in super::super) const LINK_SOURCE: u64 = 1 << 11;
    pub(in super::super) const LINK_TARGET: u64 = 1 << 12;
    pub(in super::super) const OPEN: u64 = 1 << 13;
    pub(in super::super) const READ_DIRECTORY: u64 = 1 << 14;
    pub(in super::super) const READ_LINK: u64 = 1 << 15;
    pub(in super::super) const RENAME_SOURCE: u64 = 1 << 16;
    pub(in super::super) const RENAME_TARGET: u64 = 1 << 17;
    pub(in super::super) const PATH_STAT: u64 = 1 << 18;
    pub(in super::super) const PATH_SET_SIZE: u64 = 1 << 19;
    pub(in super::super) const PATH_SET_TIMES: u64 = 1 << 20;
    pub(in super::super) const STAT: u64 = 1 << 21;
    pub(in super::super) const SET_SIZE: u64 = 1 << 22;
    pub(in super::super) const SET_TIMES: u64 = 1 << 23;
    pub(in super::super) const SYMLINK: u64 = 1 << 24;
    pub(in super::super) const REMOVE_DIRECTORY: u64 = 1 << 25;
    pub(in super::super) const UNLINK_FILE: u64 = 1 << 26;
    pub(in super::super) const POLL: u64 = 1 << 27;
    /// The rights of all descriptors.
    pub(super) const ANY: u64 = SET_FLAGS | STAT | POLL;
    /// The rights of readable files.
    pub(super) const READ_FILE: u64 = READ | SEEK | TELL | ADVISE;
    /// The rights of writable files.
    pub(super) const WRITE_FILE: u64 = WRITE | SEEK | TELL | ADVISE | DATASYNC | SYNC | ALLOCATE | SET_SIZE | SET_TIMES;
    /// The rights of directories: all path operations, listing, sync, set times.
    pub(super) const DIRECTORY: u64 =
        ((1 << 21) - (1 << 9)) | SYMLINK | REMOVE_DIRECTORY | UNLINK_FILE | SYNC | SET_TIMES | READ;
    /// All rights except for sockets.
    pub(super) const ALL: u64 = (1 << 28) - 1;
}

impl Guest {
    /// Checks that the guest has not given up a right.
    pub(super) fn need(&self, fd: Fd, rights: u64) -> Result<()> {
        match self.vfs.without(fd)?.base & rights {
            0 => Ok(()),
            _ => Err(Errno::NotCapable.into()),
        }
    }
}

pub(super) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type C<'c> = Caller<'c, Guest>;
    type R = wasmtime::Result<u32>;
    linker
        .func_wrap(
            MODULE,
            "fd_advise",
            |c: C<'_>, fd: Fd, _offset: u64, _len: u64, advice: u32| -> R {
                call(c, |guest, _| match advice {
                    0..=5 => {
                        guest.need(fd, rights::ADVISE)?;
                        guest.vfs.check_node(fd)
                    }
                    _ => Err(Errno::Invalid.into()),
                })
            },
        )?
        .func_wrap(MODULE, "fd_allocate", |c: C<'_>, fd: Fd, offset: u64, len: u64| -> R {
            call(c, |guest, _| {
                guest.need(fd, rights::ALLOCATE)?;
                guest.vfs.allocate(fd, offset.checked_add(len).ok_or(Errno::TooBig)?)
            })
        })?
        .func_wrap(MODULE, "fd_close", |c: C<'_>, fd: Fd| -> R {
            call(c, |guest, _| guest.vfs.close(fd))
        })?
        .func_wrap(MODULE, "fd_datasync", |c: C<'_>, fd: Fd| -> R {
            call(c, |guest, _| {
                guest.need(fd, rights::DATASYNC)?;
                guest.vfs.check_node(fd)
            })
        })?
        .func_wrap(MODULE, "fd_sync", |c: C<'_>, fd: Fd| -> R {
            call(c, |guest, _| {
                guest.need(fd, rights::SYNC)?;
                guest.vfs.check_node(fd)
            })
        })?
        .func_wrap(MODULE, "fd_fdstat_get", |c: C<'_>, fd: Fd, to: Pointer| -> R {
            call(c, |guest, ram| fdstat(guest, ram, fd, to))
        })?
        .func_wrap(MODULE, "fd_fdstat_set_flags", |c: C<'_>, fd: Fd, fdflags: u32| -> R {
            call(c, |guest, _| {
                guest.need(fd, rights::SET_FLAGS)?;
                let (append, flags) = flags(fdflags)?;
                guest.vfs.set_flags(fd, append, flags)
            })
        })?
        .func_wrap(
            MODULE,
            "fd_fdstat_set_rights",
            |c: C<'_>, fd: Fd, base: u64, inheriting: u64| -> R {
                call(c, |guest, _| keep_rights(guest, fd, Rights { base, inheriting }))
            },
        )?
        .func_wrap(MODULE, "fd_filestat_get", |c: C<'_>, fd: Fd, to: Pointer| -> R {
            call(c, |guest, ram| {
                guest.need(fd, rights::STAT)?;
                put_stat(ram, to, guest.vfs.stat(fd)?)
            })
        })?
        .func_wrap(MODULE, "fd_filestat_set_size", |c: C<'_>, fd: Fd, size: u64| -> R {
            call(c, |guest, _| {
                guest.need(fd, rights::SET_SIZE)?;
                guest.vfs.set_len(fd, size)
            })
        })?
        .func_wrap(
            MODULE,
            "fd_filestat_set_times",
            |c: C<'_>, fd: Fd, access: u64, change: u64, which: u32| -> R {
                call(c, |guest, _| {
                    guest.need(fd, rights::SET_TIMES)?;
                    let times = times(guest, access, change, which)?;
                    guest.vfs.set_times(fd, times)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_read",
            |c: C<'_>, fd: Fd, list: Pointer, count: u32, done: Pointer| -> R {
                call(c, |guest, ram| read(guest, ram, fd, None, (list, count), done))
            },
        )?
        .func_wrap(
            MODULE,
            "fd_pread",
            |c: C<'_>, fd: Fd, list: Pointer, count: u32, offset: u64, done: Pointer| -> R {
                call(c, |guest, ram| read(guest, ram, fd, Some(offset), (list, count), done))
            },
        )?
        .func_wrap(
            MODULE,
            "fd_write",
            |c: C<'_>, fd: Fd, list: Pointer, count: u32, done: Pointer| -> R {
                call(c, |guest, ram| write(guest, ram, fd, None, (list, count), done))
            },
        )?
        .func_wrap(
            MODULE,
            "fd_pwrite",
            |c: C<'_>, fd: Fd, list: Pointer, count: u32, offset: u64, done: Pointer| -> R {
                call(c, |guest, ram| write(guest, ram, fd, Some(offset), (list, count), done))
            },
        )?
        .func_wrap(MODULE, "fd_prestat_get", |c: C<'_>, fd: Fd, to: Pointer| -> R {
            call(c, |guest, ram| {
                check_preopen(guest, fd)?;
                // tag 0 is a directory, followed by the length of its name
                ram.put_u32(to, 0)?;
                ram.put_u32(Ram::at(to, 4)?, 1)
            })
        })?
        .func_wrap(
            MODULE,
            "fd_prestat_dir_name",
            |c: C<'_>, fd: Fd, to: Pointer, len: u32| -> R {
                call(c, |guest, ram| {
                    check_preopen(guest, fd)?;
                    match len {
                        0 => Err(Errno::NameTooLong.into()),
                        _ => ram.put(to, b"/"),
                    }
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_readdir",
            |c: C<'_>, fd: Fd, to: Pointer, len: u32, cookie: u64, used: Pointer| -> R {
                call(c, |guest, ram| {
                    guest.need(fd, rights::READ_DIRECTORY)?;
                    let filled = list(guest, ram.bytes_mut(to, len)?, fd, cookie)?;
                    ram.put_u32(used, filled)
                })
            },
        )?
        .func_wrap(MODULE, "fd_renumber", |c: C<'_>, from: Fd, to: Fd| -> R {
            call(c, |guest, _| guest.vfs.renumber(from, to))
        })?
        .func_wrap(
            MODULE,
            "fd_seek",
            |c: C<'_>, fd: Fd, delta: i64, whence: u32, to: Pointer| -> R {
                call(c, |guest, ram| {
                    let whence = match whence {
                        0 => Whence::Start,
                        1 => Whence::Current,
                        2 => Whence::End,
                        _ => return Err(Errno::Invalid.into()),
                    };
                    let only_tells = whence == Whence::Current && delta == 0;
                    guest.need(fd, if only_tells { rights::TELL } else { rights::SEEK })?;
                    let offset = guest.vfs.seek(fd, whence, delta)?;
                    ram.put_u64(to, offset)
                })
            },
        )?
        .func_wrap(MODULE, "fd_tell", |c: C<'_>, fd: Fd, to: Pointer| -> R {
            call(c, |guest, ram| {
                guest.need(fd, rights::TELL)?;
                let offset = guest.vfs.seek(fd, Whence::Current, 0)?;
                ram.put_u64(to, offset)
            })
        })?;
    Ok(())
}

/// Checks that `fd` is the preopened directory. Its number keeps the name as long as it is open.
fn check_preopen(guest: &Guest, fd: Fd) -> Result<()> {
    match fd {
        PREOPEN => guest.vfs.check_fd(fd),
        _ => Err(Errno::BadFd.into()),
    }
}

/// Returns the rights of a descriptor.
fn rights_of(guest: &Guest, fd: Fd) -> Result<Rights> {
    let Access { read, write, .. } = guest.vfs.access(fd)?;
    let only = |granted: bool, rights: u64| if granted { rights } else { 0 };
    let (base, inheriting) = match guest.vfs.stat(fd)?.file_type {
        FileType::Directory => (rights::DIRECTORY, rights::ALL),
        FileType::Unknown => (only(write, rights::WRITE), 0),
        FileType::RegularFile | FileType::CharacterDevice | FileType::SymbolicLink => {
            (only(read, rights::READ_FILE) | only(write, rights::WRITE_FILE), 0)
        }
    };
    let without = guest.vfs.without(fd)?;
    Ok(Rights {
        base: (base | rights::ANY) & !without.base,
        inheriting: inheriting & !without.inheriting,
    })
}

/// Keeps only these rights, which the descriptor must have.
fn keep_rights(guest: &mut Guest, fd: Fd, kept: Rights) -> Result<()> {
    let now = rights_of(guest, fd)?;
    if kept.base & !now.base != 0 || kept.inheriting & !now.inheriting != 0 {
        return Err(Errno::NotCapable.into());
    }
    let without = Rights {
        base: !kept.base,
        inheriting: !kept.inheriting,
    };
    guest.vfs.give_up(fd, without)
}

fn fdstat(guest: &mut Guest, ram: &mut Ram<'_>, fd: Fd, to: Pointer) -> Result<()> {
    let Access { append, flags, .. } = guest.vfs.access(fd)?;
    let Rights { base, inheriting } = rights_of(guest, fd)?;
    let mut stat = [0; 24];
    stat[0] = guest.vfs.stat(fd)?.file_type as u8;
    stat[2] = u8::from(append) | flags;
    stat[8..16].copy_from_slice(&base.to_le_bytes());
    stat[16..24].copy_from_slice(&inheriting.to_le_bytes());
    ram.put(to, &stat)
}

/// Splits `fdflags` into append and the others.
pub(super) fn flags(fdflags: u32) -> Result<(bool, u8)> {
    let flags = valid(fdflags, FLAGS)?;
    Ok((flags & APPEND != 0, (flags & !APPEND) as u8))
}

/// Returns the times to set, of the last access and the last change.
pub(super) fn times(guest: &Guest, access: u64, change: u64, which: u32) -> Result<[Option<u64>; 2]> {
    let which = valid(which, ACCESS | ACCESS_NOW | CHANGE | CHANGE_NOW)?;
    let now = Clock::real(guest.clock.peek());
    let time = |given: u64, set: u32, set_now: u32| match (which & set != 0, which & set_now != 0) {
        (true, true) => Err(Errno::Invalid),
        (true, false) => Ok(Some(given)),
        (false, true) => Ok(Some(now)),
        (false, false) => Ok(None),
    };
    Ok([time(access, ACCESS, ACCESS_NOW)?, time(change, CHANGE, CHANGE_NOW)?])
}

/// Writes a `filestat`: device, inode, type, links, size and three times, of which the last is constant.
pub(super) fn put_stat(ram: &mut Ram<'_>, to: Pointer, stat: Stat) -> Result<()> {
    let mut bytes = [0; 64];
    bytes[0..8].copy_from_slice(&1u64.to_le_bytes());
    bytes[8..16].copy_from_slice(&stat.inode.to_le_bytes());
    bytes[16] = stat.file_type as u8;
    bytes[24..32].copy_from_slice(&stat.links.to_le_bytes());
    bytes[32..40].copy_from_slice(&stat.size.to_le_bytes());
    bytes[40..48].copy_from_slice(&stat.times[0].to_le_bytes());
    bytes[48..56].copy_from_slice(&stat.times[1].to_le_bytes());
    ram.put(to, &bytes)
}

fn read(
    guest: &mut Guest,
    ram: &mut Ram<'_>,
    fd: Fd,
    offset: Option<u64>,
    (list, count): (Pointer, u32),
    done: Pointer,
) -> Result<()> {
    let read_piece = |guest: &mut Guest, so_far: u32, buf: &mut [u8]| match offset {
        None => guest.vfs.read(fd, buf),
        Some(offset) => {
            let offset = offset.checked_add(so_far.into()).ok_or(Errno::TooBig)?;
            guest.vfs.read_at(fd, offset, buf)
        }
    };
    guest.need(fd, rights::READ | if offset.is_some() { rights::SEEK } else { 0 })?;
    ram.check_iovecs(list, count)?;
    // an empty read still checks the descriptor
    read_piece(guest, 0, &mut [])?;
    let (mut total, mut wanted) = (0u32, 0u32);
    'all: for index in 0..count {
        let Iovec { mut pointer, len } = ram.iovec(list, index)?;
        wanted |= len;
        let mut left = len.min(u32::MAX - total);
        while left > 0 {
            let piece = left.min(PIECE);
            let read = read_piece(guest, total, ram.bytes_mut(pointer, piece)?)? as u32;
            total += read;
            if read < piece {
                break 'all;
            }
            left -= piece;
            pointer = Ram::at(pointer, piece.into())?;
            if piece == PIECE {
                guest.deadline.check()?;
            }
        }
    }
    guest.vfs.add_work(u64::from(total / COPIED));
    if total == 0 && wanted > 0 && guest.vfs.asks(fd) {
        return Err(Stop::Interrupted(Interruption::Input).into());
    }
    ram.put_u32(done, total)
}

fn write(
    guest: &mut Guest,
    ram: &mut Ram<'_>,
    fd: Fd,
    offset: Option<u64>,
    (list, count): (Pointer, u32),
    done: Pointer,
) -> Result<()> {
    let write_piece = |guest: &mut Guest, so_far: u32, data: &[u8]| match offset {
        None => guest.vfs.write(fd, data),
        Some(offset) => {
            let offset = offset.checked_add(so_far.into()).ok_or(Errno::TooBig)?;
            guest.vfs.write_at(fd, offset, data)
        }
    };
    guest.need(fd, rights::WRITE | if offset.is_some() { rights::SEEK } else { 0 })?;
    ram.check_iovecs(list, count)?;
    write_piece(guest, 0, &[])?;
    let mut total = 0u32;
    for index in 0..count {
        let Iovec { mut pointer, len } = ram.iovec(list, index)?;
        let mut left = len.min(u32::MAX - total);
        while left > 0 {
            let piece = left.min(PIECE);
            write_piece(guest, total, ram.bytes(pointer, piece)?)?;
            total += piece;
            left -= piece;
            pointer = Ram::at(pointer, piece.into())?;
            if piece == PIECE {
                guest.deadline.check()?;
            }
        }
    }
    ram.put_u32(done, total)
}

/// Fills `buf` with entries (`dirent` and name). A full buffer means that there are more; the last entry may be truncated.
fn list(guest: &mut Guest, buf: &mut [u8], fd: Fd, cookie: u64) -> Result<u32> {
    let mut filled = 0;
    for (entry, next) in guest.vfs.list(fd, cookie)?.iter().zip(cookie.saturating_add(1)..) {
        let mut head = [0; 24];
        head[0..8].copy_from_slice(&next.to_le_bytes());
        head[8..16].copy_from_slice(&entry.inode.to_le_bytes());
        head[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
        head[20] = entry.file_type as u8;
        for part in [&head[..], entry.name.as_bytes()] {
            let fits = part.len().min(buf.len() - filled);
            buf[filled..filled + fits].copy_from_slice(&part[..fits]);
            filled += fits;
        }
        if filled == buf.len() {
            break;
        }
    }
    guest.vfs.add_work(u64::from(filled as u32 / COPIED));
    Ok(filled as u32)
}
