//! Each probe writes down all that it can see of one row of the determinism table.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write as _};
use std::time::{Duration, Instant, SystemTime};

use lockstep::prelude::*;

/// Clocks and sleeping.
#[step]
pub fn clocks() -> Result<Text> {
    let mut seen = String::new();
    let start = Instant::now();
    for _ in 0..5 {
        writeln!(seen, "{:?} {:?}", SystemTime::now(), start.elapsed())?;
    }
    std::thread::sleep(Duration::from_secs(3600));
    writeln!(seen, "slept: {:?} {:?}", SystemTime::now(), start.elapsed())?;
    let mut spins = 0;
    while start.elapsed() < Duration::from_secs(3601) && spins < 1000 {
        spins += 1;
    }
    writeln!(seen, "{spins} spins")?;
    Ok(seen.into())
}

/// Random numbers and the seeds of hash maps.
#[step]
pub fn randomness() -> Result<Text> {
    let mut seen = String::new();
    for _ in 0..3 {
        writeln!(seen, "{:x}", RandomState::new().hash_one("seed"))?;
    }
    let set: HashSet<u32> = (0..100).collect();
    let map: HashMap<String, u32> = (0..100).map(|i| (format!("key {i}"), i)).collect();
    writeln!(
        seen,
        "{set:?}\n{map:?}\n{:?}",
        os::random(200_000).iter().rev().take(64).collect::<Vec<_>>()
    )?;
    Ok(seen.into())
}

/// Order, inodes, devices, times and link counts of files.
#[step]
pub fn files(tree: Bytes) -> Result<Text> {
    fs::create_dir("/tmp/d")?;
    for name in ["zebra", "ant", "Bee", "é", "10", "9"] {
        fs::write(format!("/tmp/d/{name}"), &tree[..])?;
    }
    fs::remove_file("/tmp/d/Bee")?;
    fs::rename("/tmp/d/zebra", "/tmp/d/bear")?;
    let mut seen = String::new();
    for directory in ["/", "/in", "/out", "/tmp", "/tmp/d"] {
        writeln!(seen, "{directory} {}", os::stat(directory))?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            writeln!(seen, "  {} {}", path.display(), os::stat(&path.to_string_lossy()))?;
            let stat = fs::metadata(&path)?;
            writeln!(seen, "  {:?} {:?} {:?}", stat.modified(), stat.accessed(), stat.created())?;
        }
    }
    for path in [
        "/dev/null",
        "/proc/self/maps",
        "/etc/passwd",
        "/dev/urandom",
        "/sys",
        "/home",
        "../../etc/passwd",
    ] {
        writeln!(
            seen,
            "{path} {:?}",
            fs::read(path).map(|bytes| bytes.len()).map_err(|e| e.kind())
        )?;
    }
    Ok(seen.into())
}

/// Arguments, environment, working directory, terminals and file numbers. Left out: the arguments that differ on purpose.
#[step]
pub fn surroundings() -> Result<Text> {
    let mut seen = String::new();
    writeln!(seen, "{:?}", std::env::args().collect::<Vec<_>>())?;
    writeln!(seen, "{:?}", std::env::vars().collect::<Vec<_>>())?;
    writeln!(seen, "{:?} {:?}", std::env::current_dir(), std::env::current_exe().is_ok())?;
    writeln!(seen, "{} {}", std::io::stdin().is_terminal(), std::io::stdout().is_terminal())?;
    let mut typed = String::new();
    writeln!(seen, "{:?}", std::io::stdin().read_to_string(&mut typed))?;
    let opened: Vec<_> = (0..3)
        .map(|i| fs::File::create(format!("/tmp/{i}")))
        .collect::<Result<_, _>>()?;
    writeln!(seen, "{:?}", opened.iter().map(os::number).collect::<Vec<_>>())?;
    Ok(seen.into())
}

/// The bits of NaNs, scalar and SIMD, computed and not folded by the compiler.
#[step]
#[expect(clippy::eq_op, reason = "that is how a NaN is made")]
pub fn nans() -> Result<Text> {
    let mut seen = String::new();
    let (zero, infinity, minus) = (black_box(0.0f64), black_box(f64::INFINITY), black_box(-1.0f64));
    let payload = black_box(f64::from_bits(0x7ff4_0000_dead_beef));
    for value in [
        zero / zero,
        infinity - infinity,
        zero * infinity,
        minus.sqrt(),
        payload + 1.0,
        -(payload * 2.0),
        payload.min(1.0),
    ] {
        writeln!(seen, "{:016x} {:08x}", value.to_bits(), (value as f32).to_bits())?;
    }
    let (zero, payload) = (black_box(0.0f32), black_box(f32::from_bits(0xffa0_beef)));
    for value in [
        zero / zero,
        payload + zero,
        (payload as f64 * 1.0) as f32,
        payload.max(zero),
        payload.floor(),
    ] {
        writeln!(seen, "{:08x}", value.to_bits())?;
    }
    writeln!(seen, "{:?}", os::simd(zero, payload))?;
    Ok(seen.into())
}

/// How far memory goes, where things are in it, and what is in it at first.
#[step]
pub fn memory() -> Result<Text> {
    let mut seen = String::new();
    let local = 1;
    let boxed = Box::new(2);
    writeln!(seen, "{:p} {:p} {:p}", &raw const local, boxed, memory as *const ())?;
    let fresh: Vec<u8> = Vec::with_capacity(100_000);
    // SAFETY: the bytes were never written by this program; WebAssembly memory is always initialised, which is the point
    let dirt: u64 = (0..100_000)
        .map(|i| u64::from(unsafe { fresh.as_ptr().add(i).read_volatile() }))
        .sum();
    writeln!(seen, "{dirt} {:?}", os::grow())?;
    Ok(seen.into())
}

/// Threads, processes, sockets: all absent.
#[step]
pub fn absent() -> Result<Text> {
    let mut seen = String::new();
    writeln!(
        seen,
        "{:?}",
        std::thread::Builder::new().spawn(|| ()).map(drop).map_err(|e| e.kind())
    )?;
    writeln!(seen, "{:?}", std::thread::available_parallelism().map_err(|e| e.kind()))?;
    writeln!(
        seen,
        "{:?}",
        std::process::Command::new("/bin/true").status().map_err(|e| e.kind())
    )?;
    writeln!(
        seen,
        "{:?}",
        std::net::TcpStream::connect("127.0.0.1:80").map(drop).map_err(|e| e.kind())
    )?;
    writeln!(
        seen,
        "{:?}",
        std::net::UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|e| e.kind())
    )?;
    Ok(seen.into())
}

/// Floating-point functions, whose last bit could be the machine's.
#[step]
pub fn arithmetic() -> Result<Text> {
    let mut sum = String::new();
    let mut x = black_box(0.1f64);
    for i in 0..1000 {
        x = (x.sin() + x.exp().ln_1p() * x.powf(0.3)).tanh() + f64::from(i) / 997.0 + x.mul_add(x, -x).cbrt();
    }
    writeln!(sum, "{:016x}", x.to_bits())?;
    writeln!(
        sum,
        "{:08x}",
        (black_box(1e10f32).sin() * black_box(3.7f32).atan2(0.2)).to_bits()
    )?;
    writeln!(sum, "{} {}", black_box(f64::NAN) as i32, black_box(1e300) as u8)?;
    Ok(sum.into())
}

/// Everything that a path could be tricked into.
#[step]
pub fn paths() -> Result<Text> {
    let mut seen = String::new();
    let long = "x".repeat(5000);
    for path in [
        "..",
        "/..",
        "/../..",
        "/in/../../etc",
        "/tmp/../../etc/passwd",
        "",
        "/in//params.json",
        "/in/./params.json",
        "//",
        &long,
    ] {
        let shown: String = path.chars().take(30).collect();
        writeln!(
            seen,
            "{shown:?} {:?} {:?}",
            fs::metadata(path).map(|m| m.is_dir()).map_err(|e| e.kind()),
            fs::read_dir(path).map(|d| d.count()).map_err(|e| e.kind())
        )?;
    }
    fs::create_dir("/tmp/a")?;
    fs::write("/tmp/a/file", "x")?;
    writeln!(seen, "{:?}", fs::rename("/tmp/a", "/tmp/a/b").map_err(|e| e.kind()))?;
    writeln!(
        seen,
        "{:?}",
        fs::hard_link("/in/params.json", "/tmp/link").map_err(|e| e.kind())
    )?;
    #[cfg(target_os = "wasi")]
    writeln!(seen, "{:?}", os::symlink("/etc/passwd", "/tmp/link"))?;
    writeln!(seen, "{:?}", fs::write("/in/params.json", "{}").map_err(|e| e.kind()))?;
    writeln!(seen, "{:?}", fs::remove_file("/in/params.json").map_err(|e| e.kind()))?;
    writeln!(seen, "{:?}", fs::remove_dir("/in").map_err(|e| e.kind()))?;
    writeln!(seen, "{:?}", fs::write("/elsewhere", "x").map_err(|e| e.kind()))?;
    writeln!(seen, "{:?}", fs::rename("/in/params.json", "/tmp/p").map_err(|e| e.kind()))?;
    writeln!(seen, "{:?}", fs::remove_dir("/tmp/a").map_err(|e| e.kind()))?;
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open("/tmp/sparse")?;
    writeln!(
        seen,
        "{:?}",
        file.seek(SeekFrom::Start(1 << 20)).and_then(|_| file.write(b"end"))
    )?;
    writeln!(seen, "{:?}", file.seek(SeekFrom::Current(-1 << 40)).map_err(|e| e.kind()))?;
    writeln!(
        seen,
        "{:?}",
        fs::read("/tmp/sparse").map(|bytes| (bytes.len(), bytes.iter().map(|b| u64::from(*b)).sum::<u64>()))
    )?;
    let mut open = Vec::new();
    let refused = loop {
        match fs::File::open("/in/params.json") {
            Ok(file) => open.push(file),
            Err(e) => break e.kind(),
        }
    };
    writeln!(seen, "{} files open, then {refused:?}", open.len())?;
    Ok(seen.into())
}

#[cfg(target_arch = "wasm32")]
mod os {
    use std::arch::wasm32::*;
    use std::os::fd::AsRawFd;

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn random_get(buffer: *mut u8, len: usize) -> u16;
        fn path_filestat_get(directory: u32, flags: u32, path: *const u8, len: usize, stat: *mut [u64; 8]) -> u16;
        fn path_symlink(old: *const u8, old_len: usize, directory: u32, new: *const u8, new_len: usize) -> u16;
    }

    pub fn random(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: the buffer has `len` bytes
        assert_eq!(unsafe { random_get(bytes.as_mut_ptr(), len) }, 0);
        bytes
    }

    /// The raw `filestat`: device, inode, type, link count, size, three times.
    pub fn stat(path: &str) -> String {
        let mut stat = [0; 8];
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        // SAFETY: the path is as long as is said, the buffer holds a filestat (64 bytes)
        let errno = unsafe { path_filestat_get(3, 0, relative.as_ptr(), relative.len(), &raw mut stat) };
        format!("{errno} {stat:?}")
    }

    pub fn symlink(old: &str, new: &str) -> u16 {
        // SAFETY: both texts are as long as is said
        unsafe { path_symlink(old.as_ptr(), old.len(), 3, new.as_ptr(), new.len()) }
    }

    pub fn number(file: &std::fs::File) -> i32 {
        file.as_raw_fd()
    }

    pub fn simd(zero: f32, payload: f32) -> [u32; 4] {
        let nan = f32x4_div(f32x4_splat(zero), f32x4_splat(zero));
        let sum = f32x4_add(nan, f32x4(payload, 1.0, payload, zero));
        let bits = i32x4_max(sum, f32x4_sqrt(f32x4_splat(-1.0)));
        [0, 1, 2, 3].map(|lane| match lane {
            0 => u32x4_extract_lane::<0>(bits),
            1 => u32x4_extract_lane::<1>(bits),
            2 => u32x4_extract_lane::<2>(bits),
            _ => relaxed(payload),
        })
    }

    #[target_feature(enable = "relaxed-simd")]
    fn relaxed_lanes(x: v128) -> u32 {
        let fused = f32x4_relaxed_madd(x, f32x4_splat(1.000_000_1), f32x4_splat(-1.3));
        let truncated = i32x4_relaxed_trunc_f32x4(f32x4_splat(f32::NAN));
        let swizzled = i8x16_relaxed_swizzle(fused, u8x16_splat(200));
        let least = f32x4_relaxed_min(f32x4_splat(-0.0), f32x4_splat(0.0));
        u32x4_extract_lane::<0>(fused)
            ^ u32x4_extract_lane::<1>(truncated).rotate_left(7)
            ^ u32x4_extract_lane::<2>(swizzled).rotate_left(13)
            ^ u32x4_extract_lane::<3>(least)
    }

    fn relaxed(payload: f32) -> u32 {
        relaxed_lanes(f32x4(1.3, payload, 0.7, -1.1))
    }

    /// Grows memory until it is refused: pages before, and by how many pages it could grow.
    pub fn grow() -> (usize, usize) {
        let before = memory_size(0);
        while memory_grow(0, 4096) != usize::MAX {}
        (before, memory_size(0) - before)
    }
}

/// Natively there is nothing to probe; the functions are here so that the crate compiles for lints.
#[cfg(not(target_arch = "wasm32"))]
mod os {
    pub fn random(len: usize) -> Vec<u8> {
        vec![0; len]
    }

    pub fn stat(path: &str) -> String {
        path.to_owned()
    }

    pub fn number(_file: &std::fs::File) -> i32 {
        0
    }

    pub fn simd(_zero: f32, _payload: f32) -> [u32; 4] {
        [0; 4]
    }

    pub fn grow() -> (usize, usize) {
        (0, 0)
    }
}
