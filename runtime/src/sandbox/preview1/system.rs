use wasmtime::{Caller, Linker};

use super::fd::rights;
use super::ram::{Pointer, Ram};
use super::{MODULE, PIECE, call};
use crate::sandbox::clock::{CLOCK_QUANTUM, Clock};
use crate::sandbox::guest::{Guest, Strings};
use crate::sandbox::vfs::{Errno, Fault, Fd, Result};

pub(super) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type C<'c> = Caller<'c, Guest>;
    type R = wasmtime::Result<u32>;
    linker
        .func_wrap(MODULE, "args_get", |c: C<'_>, list: Pointer, bytes: Pointer| -> R {
            call(c, |guest, ram| put_strings(ram, &guest.args, list, bytes))
        })?
        .func_wrap(MODULE, "args_sizes_get", |c: C<'_>, count: Pointer, len: Pointer| -> R {
            call(c, |guest, ram| put_sizes(ram, &guest.args, count, len))
        })?
        .func_wrap(MODULE, "environ_get", |c: C<'_>, list: Pointer, bytes: Pointer| -> R {
            call(c, |guest, ram| put_strings(ram, &guest.env, list, bytes))
        })?
        .func_wrap(MODULE, "environ_sizes_get", |c: C<'_>, count: Pointer, len: Pointer| -> R {
            call(c, |guest, ram| put_sizes(ram, &guest.env, count, len))
        })?
        .func_wrap(MODULE, "clock_res_get", |c: C<'_>, clock: u32, to: Pointer| -> R {
            call(c, |_, ram| {
                check_clock(clock)?;
                ram.put_u64(to, CLOCK_QUANTUM)
            })
        })?
        .func_wrap(
            MODULE,
            "clock_time_get",
            |c: C<'_>, clock: u32, _precision: u64, to: Pointer| -> R {
                call(c, |guest, ram| {
                    check_clock(clock)?;
                    let now = match clock {
                        REALTIME => guest.clock.read_real(),
                        _ => guest.clock.read(),
                    };
                    ram.put_u64(to, now)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "poll_oneoff",
            |c: C<'_>, asked: Pointer, events: Pointer, count: u32, done: Pointer| -> R {
                call(c, |guest, ram| {
                    let happened = poll(guest, ram, asked, events, count)?;
                    ram.put_u32(done, happened)
                })
            },
        )?
        .func_wrap(MODULE, "proc_exit", |mut c: C<'_>, code: u32| -> wasmtime::Result<()> {
            c.data_mut().exit = Some(code);
            Err(wasmtime::Error::msg("the guest exited"))
        })?
        .func_wrap(MODULE, "proc_raise", |c: C<'_>, _signal: u32| -> R {
            call(c, |_, _| Err(Errno::NotImplemented.into()))
        })?
        .func_wrap(MODULE, "random_get", |c: C<'_>, to: Pointer, len: u32| -> R {
            call(c, |guest, ram| {
                guest.vfs.add_work(RANDOM * u64::from(len));
                for piece in ram.bytes_mut(to, len)?.chunks_mut(PIECE as usize) {
                    guest.random.fill(piece);
                    guest.deadline.check()?;
                }
                Ok(())
            })
        })?
        .func_wrap(MODULE, "sched_yield", |c: C<'_>| -> R { call(c, |_, _| Ok(())) })?
        .func_wrap(MODULE, "sock_accept", |c: C<'_>, fd: Fd, _: u32, _: Pointer| -> R {
            no_socket(c, fd)
        })?
        .func_wrap(
            MODULE,
            "sock_recv",
            |c: C<'_>, fd: Fd, _: Pointer, _: u32, _: u32, _: Pointer, _: Pointer| -> R { no_socket(c, fd) },
        )?
        .func_wrap(
            MODULE,
            "sock_send",
            |c: C<'_>, fd: Fd, _: Pointer, _: u32, _: u32, _: Pointer| -> R { no_socket(c, fd) },
        )?
        .func_wrap(MODULE, "sock_shutdown", |c: C<'_>, fd: Fd, _: u32| -> R { no_socket(c, fd) })?;
    Ok(())
}

fn no_socket(caller: Caller<'_, Guest>, fd: Fd) -> wasmtime::Result<u32> {
    call(caller, |guest, _| {
        guest.vfs.check_fd(fd)?;
        Err(Errno::NotSocket.into())
    })
}

const REALTIME: u32 = 0;

/// Checks that the clock exists: realtime, monotonic, process CPU time or thread CPU time.
fn check_clock(clock: u32) -> Result<()> {
    match clock {
        0..=3 => Ok(()),
        _ => Err(Errno::Invalid.into()),
    }
}

fn put_sizes(ram: &mut Ram<'_>, strings: &Strings, count: Pointer, len: Pointer) -> Result<()> {
    ram.put_u32(count, strings.count)?;
    ram.put_u32(len, strings.bytes.len().try_into().map_err(|_| Errno::TooBig)?)
}

fn put_strings(ram: &mut Ram<'_>, strings: &Strings, list: Pointer, bytes: Pointer) -> Result<()> {
    ram.put(bytes, &strings.bytes)?;
    let mut start = 0;
    for (string, index) in strings.bytes.split_inclusive(|byte| *byte == 0).zip(0..) {
        ram.put_u32(Ram::at(list, 4 * index)?, Ram::at(bytes, start)?)?;
        start += string.len() as u64;
    }
    Ok(())
}

/// The work of a random byte.
const RANDOM: u64 = 4;

/// The sizes of `subscription` and `event` in memory.
const SUBSCRIPTION: u64 = 48;
const EVENT: u64 = 32;
/// Maximum number of subscriptions: all descriptors, and a clock for each.
const MAX_SUBSCRIPTIONS: u32 = 2048;

/// The work of a subscription.
const WAIT: u64 = 50;

/// A parsed subscription.
enum Wait {
    /// A time of the virtual clock.
    Until(u64),
    /// A descriptor, which is always ready.
    Ready { kind: u8, bytes: u64 },
    /// An invalid subscription.
    Never { kind: u8, errno: Errno },
}

/// Implements `poll_oneoff`. Files are always ready. If the guest waits only for clocks, the virtual clock jumps to the earliest time.
fn poll(guest: &mut Guest, ram: &mut Ram<'_>, asked: Pointer, events: Pointer, count: u32) -> Result<u32> {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Errno::Invalid.into());
    }
    ram.bytes(events, count * EVENT as u32)?;
    let mut waits = Vec::with_capacity(count as usize);
    for index in 0..u64::from(count) {
        let subscription = Ram::at(asked, index * SUBSCRIPTION)?;
        waits.push((ram.u64(subscription)?, wait(guest, ram, subscription)?));
    }
    let moment = |wait: &Wait| match wait {
        Wait::Until(moment) => Some(*moment),
        _ => None,
    };
    guest.vfs.add_work(WAIT * u64::from(count));
    if waits.iter().all(|(_, wait)| moment(wait).is_some()) {
        let earliest = waits.iter().filter_map(|(_, wait)| moment(wait)).min();
        guest.clock.sleep_until(earliest.unwrap_or_default());
    }
    let now = guest.clock.peek();
    let mut happened = 0;
    for (user_data, wait) in waits {
        let (errno, kind, bytes) = match wait {
            Wait::Until(moment) if moment > now => continue,
            Wait::Until(_) => (0, CLOCK, 0),
            Wait::Ready { kind, bytes } => (0, kind, bytes),
            Wait::Never { kind, errno } => (errno as u16, kind, 0),
        };
        let mut event = [0; EVENT as usize];
        event[0..8].copy_from_slice(&user_data.to_le_bytes());
        event[8..10].copy_from_slice(&errno.to_le_bytes());
        event[10] = kind;
        event[16..24].copy_from_slice(&bytes.to_le_bytes());
        ram.put(Ram::at(events, u64::from(happened) * EVENT)?, &event)?;
        happened += 1;
    }
    Ok(happened)
}

/// `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;
/// `subclockflags`: the timeout is an absolute time.
const ABSOLUTE: u16 = 1;

fn wait(guest: &Guest, ram: &Ram<'_>, subscription: Pointer) -> Result<Wait> {
    let field = |offset| Ram::at(subscription, offset);
    let kind = ram.u8(field(8)?)?;
    let told = |result: Result<Wait>| match result {
        Err(Fault::Errno(errno)) => Ok(Wait::Never { kind, errno }),
        other => other,
    };
    match kind {
        CLOCK => {
            let (clock, timeout, flags) = (ram.u32(field(16)?)?, ram.u64(field(24)?)?, ram.u16(field(40)?)?);
            told(check_clock(clock).map(|()| {
                Wait::Until(match (flags & ABSOLUTE != 0, clock) {
                    (true, REALTIME) => timeout.saturating_sub(Clock::real(0)),
                    (true, _) => timeout,
                    (false, _) => guest.clock.peek().saturating_add(timeout),
                })
            }))
        }
        FD_READ => {
            let fd = ram.u32(field(16)?)?;
            let ready = guest.need(fd, rights::POLL).and_then(|()| guest.vfs.left(fd));
            told(ready.map(|bytes| Wait::Ready { kind, bytes }))
        }
        FD_WRITE => {
            let fd = ram.u32(field(16)?)?;
            let ready = guest.need(fd, rights::POLL);
            told(ready.map(|()| Wait::Ready {
                kind,
                bytes: u64::from(PIECE),
            }))
        }
        _ => Err(Errno::Invalid.into()),
    }
}
