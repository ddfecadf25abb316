//! Numbers, texts, vectors and structs of them, read and written without serde: in the same bytes, many times faster. Reading gives up on
//! everything unusual, and serde reads it instead, so that there is one meaning and one set of errors.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Result, Write};
use std::marker::PhantomData;
use std::path::Path;

use half::f16;

use super::read::narrowed;
use super::write::widened;
use crate::artifact;

const BUFFER: usize = 64 * 1024;

/// The number of bytes of the longest item that is read at once: a head and its argument.
const LONGEST: usize = 9;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const FLOAT16: u8 = 0xf9;
const FLOAT32: u8 = 0xfa;
const FLOAT64: u8 = 0xfb;

/// Bytes that are read.
pub struct Source<'a> {
    from: &'a mut dyn Read,
    /// The number of bytes, of which every item has at least one.
    size: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'a> Source<'a> {
    fn new(from: &'a mut dyn Read, size: u64) -> Self {
        Self {
            from,
            size,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
        }
    }

    /// Returns the next bytes: at least as many as the longest item has, unless the source ends.
    #[inline(always)]
    fn peek(&mut self) -> &[u8] {
        if self.end - self.start < LONGEST {
            self.refill(LONGEST);
        }
        &self.buffer[self.start..self.end]
    }

    /// Reads more, at least until so many bytes are there. An error is an end: reading again with serde reports it.
    #[inline(never)]
    fn refill(&mut self, wanted: usize) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < wanted {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => return,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Reads a scalar.
    #[inline(always)]
    fn scalar<T: Scalar>(&mut self) -> Option<T> {
        let (value, length) = T::decode(self.peek())?;
        self.start += length;
        Some(value)
    }

    /// Reads a head of this kind. Returns its argument.
    #[inline(always)]
    fn head(&mut self, kind: u8) -> Option<u64> {
        let (found, argument, length) = head(self.peek())?;
        self.start += length;
        (found == kind).then_some(argument)
    }

    /// Reads the head of an array with so many items.
    pub fn array(&mut self, count: u64) -> Option<()> {
        (self.head(ARRAY)? == count).then_some(())
    }

    /// Reads the head of a map with so many entries.
    pub fn map(&mut self, count: u64) -> Option<()> {
        (self.head(MAP)? == count).then_some(())
    }

    /// Reads the name of a field.
    pub fn name(&mut self, name: &str) -> Option<()> {
        self.one_of(&[name]).map(drop)
    }

    /// Reads the name of an enum's variant. Returns its index, and whether the variant has content, which follows.
    pub fn variant(&mut self, names: &[&str]) -> Option<(usize, bool)> {
        let has_content = self.peek().first()? >> 5 == MAP;
        if has_content {
            self.map(1)?;
        }
        Some((self.one_of(names)?, has_content))
    }

    fn one_of(&mut self, names: &[&str]) -> Option<usize> {
        let length = usize::try_from(self.head(TEXT)?).ok().filter(|length| *length <= BUFFER)?;
        if self.end - self.start < length {
            self.refill(length);
        }
        let there = self.buffer[self.start..self.end].get(..length)?;
        let index = names.iter().position(|name| name.as_bytes() == there)?;
        self.start += length;
        Some(index)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.head(TEXT)?).ok()?;
        let there = &self.buffer[self.start..self.end];
        if let Some(bytes) = there.get(..length) {
            let text = std::str::from_utf8(bytes).ok()?.to_owned();
            self.start += length;
            return Some(text);
        }
        let mut bytes = there.to_vec();
        self.start = self.end;
        let rest = length - bytes.len();
        let read = self.from.take(rest as u64).read_to_end(&mut bytes).ok()?;
        if read == rest { String::from_utf8(bytes).ok() } else { None }
    }

    /// Returns how many items to make room for: not more than the bytes can hold, whatever they say.
    fn room(&self, count: u64) -> usize {
        count.min(self.size) as usize
    }
}

/// Returns the kind and the argument of the item that starts here, and the length of both.
#[inline(always)]
fn head(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let first = *bytes.first()?;
    let (argument, length) = match first & 0x1f {
        small @ 0..=23 => (u64::from(small), 1),
        24 => (u64::from(*bytes.get(1)?), 2),
        25 => (u64::from(u16::from_be_bytes(*bytes.get(1..)?.first_chunk()?)), 3),
        26 => (u64::from(u32::from_be_bytes(*bytes.get(1..)?.first_chunk()?)), 5),
        27 => (u64::from_be_bytes(*bytes.get(1..)?.first_chunk()?), 9),
        _ => return None,
    };
    Some((first >> 5, argument, length))
}

/// Bytes that are written.
pub struct Sink<'a> {
    to: &'a mut dyn Write,
    buffer: Vec<u8>,
}

impl<'a> Sink<'a> {
    fn new(to: &'a mut dyn Write) -> Self {
        Self {
            to,
            buffer: Vec::with_capacity(BUFFER),
        }
    }

    /// Writes the head of an array.
    pub fn array(&mut self, count: u64) -> Result<()> {
        self.head(ARRAY, count)
    }

    /// Writes the head of a map.
    pub fn map(&mut self, count: u64) -> Result<()> {
        self.head(MAP, count)
    }

    /// Writes a text, such as the name of a field.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.head(TEXT, text.len() as u64)?;
        if self.buffer.len() + text.len() > BUFFER {
            self.flush()?;
        }
        if text.len() > BUFFER {
            return self.to.write_all(text.as_bytes());
        }
        self.buffer.extend_from_slice(text.as_bytes());
        Ok(())
    }

    #[inline(always)]
    fn put<const COUNT: usize>(&mut self, bytes: [u8; COUNT]) -> Result<()> {
        if self.buffer.len() + COUNT > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    #[inline(never)]
    fn flush(&mut self) -> Result<()> {
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    #[inline(always)]
    fn head(&mut self, kind: u8, argument: u64) -> Result<()> {
        let kind = kind << 5;
        if argument <= 23 {
            self.put([kind | argument as u8])
        } else if let Ok(argument) = u8::try_from(argument) {
            self.put([kind | 24, argument])
        } else if let Ok(argument) = u16::try_from(argument) {
            let [a, b] = argument.to_be_bytes();
            self.put([kind | 25, a, b])
        } else if let Ok(argument) = u32::try_from(argument) {
            self.argument(kind | 26, argument.to_be_bytes())
        } else {
            self.argument(kind | 27, argument.to_be_bytes())
        }
    }

    #[inline(always)]
    fn argument<const COUNT: usize>(&mut self, first: u8, argument: [u8; COUNT]) -> Result<()> {
        if self.buffer.len() + LONGEST > BUFFER {
            self.flush()?;
        }
        self.buffer.push(first);
        self.buffer.extend_from_slice(&argument);
        Ok(())
    }
}

/// A value that is read and written without serde.
pub trait Bulk: Sized {
    /// Reads a value; `None` if it is written in an unusual way, or is no such value.
    fn read(from: &mut Source<'_>) -> Option<Self>;

    /// Writes the value as serde and ciborium do.
    fn write(&self, to: &mut Sink<'_>) -> Result<()>;

    /// Reads values to the end of `items`, until there are `count` or the buffer has no further one.
    fn read_more(_: &mut Source<'_>, _: &mut Vec<Self>, _count: usize) {}
}

/// The same trait with a lifetime, for bounds of generated code: Rust rejects a bound that is always false, unless it has one.
pub trait BulkIn<'a>: Bulk {}

impl<T: Bulk> BulkIn<'_> for T {}

/// A value that has no more bytes than the longest item.
trait Scalar: Bulk {
    /// Returns the value at the start, and its length.
    fn decode(bytes: &[u8]) -> Option<(Self, usize)>;
}

macro_rules! scalars {
    ($($of:ty: ($bytes:ident) => $decode:expr, ($self:ident, $to:ident) => $write:expr;)*) => {$(
        impl Scalar for $of {
            #[inline(always)]
            fn decode($bytes: &[u8]) -> Option<(Self, usize)> {
                $decode
            }
        }

        impl Bulk for $of {
            fn read(from: &mut Source<'_>) -> Option<Self> {
                from.scalar()
            }

            fn write(&self, $to: &mut Sink<'_>) -> Result<()> {
                let $self = *self;
                $write
            }

            fn read_more(from: &mut Source<'_>, items: &mut Vec<Self>, count: usize) {
                decode_more(from, items, count);
            }
        }
    )*};
}

/// Reads scalars for as long as none can cross the end of the buffer. It is the loop that takes the time.
#[inline(always)]
fn decode_more<T: Scalar>(from: &mut Source<'_>, items: &mut Vec<T>, count: usize) {
    let there = &from.buffer[from.start..from.end];
    let mut at = 0;
    while items.len() < count
        && let Some(item) = there.get(at..at + LONGEST)
        && let Some((value, length)) = T::decode(item)
    {
        items.push(value);
        at += length;
    }
    from.start += at;
}

macro_rules! integers {
    ($($of:ty),*) => {
        scalars! {$(
            $of: (bytes) => {
                let (kind, argument, length) = head(bytes)?;
                let value = match kind {
                    UNSIGNED => argument.try_into().ok()?,
                    NEGATIVE => i64::try_from(argument).ok().and_then(|argument| (!argument).try_into().ok())?,
                    _ => return None,
                };
                Some((value, length))
            }, (value, to) => match u64::try_from(value) {
                Ok(argument) => to.head(UNSIGNED, argument),
                Err(_) => to.head(NEGATIVE, !(value as u64)),
            };
        )*}
    };
}

integers! { i8, i16, i32, i64, isize, u8, u16, u32, u64, usize }

scalars! {
    bool: (bytes) => match *bytes.first()? {
        FALSE => Some((false, 1)),
        TRUE => Some((true, 1)),
        _ => None,
    }, (value, to) => to.put([if value { TRUE } else { FALSE }]);

    f64: (bytes) => {
        let (first, rest) = bytes.split_first()?;
        match *first {
            FLOAT64 => Some((f64::from_be_bytes(*rest.first_chunk()?), 9)),
            FLOAT32 => Some((f64::from(f32::from_be_bytes(*rest.first_chunk()?)), 5)),
            FLOAT16 => Some((f64::from(f16::from_be_bytes(*rest.first_chunk()?)), 3)),
            _ => None,
        }
    }, (value, to) => {
        let narrow = value as f32;
        let is_narrow = f64::from(narrow).to_bits() == value.to_bits();
        if !is_narrow && !value.is_nan() {
            return to.argument(FLOAT64, value.to_be_bytes());
        }
        let half = f16::from_f64(value);
        if f64::from(half).to_bits() == value.to_bits() {
            to.argument(FLOAT16, half.to_be_bytes())
        } else if is_narrow {
            to.argument(FLOAT32, narrow.to_be_bytes())
        } else {
            to.argument(FLOAT64, value.to_be_bytes())
        }
    };

    f32: (bytes) => f64::decode(bytes).map(|(value, length)| (narrowed(value), length)),
        (value, to) => widened(value).write(to);
}

impl Bulk for String {
    fn read(from: &mut Source<'_>) -> Option<Self> {
        from.text()
    }

    fn write(&self, to: &mut Sink<'_>) -> Result<()> {
        to.text(self)
    }
}

/// A type that is never written as null, so that `Some` of it needs no tag.
pub trait NotNull: Bulk {}

macro_rules! not_null {
    ($($of:ty),*) => { $(impl NotNull for $of {})* };
}

not_null! { bool, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64, String }

impl<T: NotNull> Bulk for Option<T> {
    fn read(from: &mut Source<'_>) -> Option<Self> {
        if *from.peek().first()? == NULL {
            from.start += 1;
            return Some(None);
        }
        T::read(from).map(Some)
    }

    fn write(&self, to: &mut Sink<'_>) -> Result<()> {
        match self {
            Some(value) => value.write(to),
            None => to.put([NULL]),
        }
    }
}

impl<T: Bulk> Bulk for Vec<T> {
    fn read(from: &mut Source<'_>) -> Option<Self> {
        let count = from.head(ARRAY)?;
        let mut items = Vec::with_capacity(from.room(count));
        let count = usize::try_from(count).ok()?;
        while items.len() < count {
            items.push(T::read(from)?);
            T::read_more(from, &mut items, count);
        }
        Some(items)
    }

    fn write(&self, to: &mut Sink<'_>) -> Result<()> {
        to.head(ARRAY, self.len() as u64)?;
        self.iter().try_for_each(|item| item.write(to))
    }
}

macro_rules! tuples {
    ($($count:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Bulk),*> Bulk for ($($name,)*) {
            fn read(from: &mut Source<'_>) -> Option<Self> {
                from.array($count)?;
                Some(($($name::read(from)?,)*))
            }

            fn write(&self, to: &mut Sink<'_>) -> Result<()> {
                #[expect(non_snake_case, reason = "the names of the types")]
                let ($($name,)*) = self;
                to.array($count)?;
                $($name.write(to)?;)*
                Ok(())
            }
        }
    )*};
}

tuples! {
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
}

impl<T: Bulk, const COUNT: usize> Bulk for [T; COUNT] {
    fn read(from: &mut Source<'_>) -> Option<Self> {
        from.array(COUNT as u64)?;
        let items: Option<Vec<T>> = (0..COUNT).map(|_| T::read(from)).collect();
        items?.try_into().ok()
    }

    fn write(&self, to: &mut Sink<'_>) -> Result<()> {
        to.array(COUNT as u64)?;
        self.iter().try_for_each(|item| item.write(to))
    }
}

impl<K: Bulk + Ord, V: Bulk> Bulk for BTreeMap<K, V> {
    fn read(from: &mut Source<'_>) -> Option<Self> {
        let count = from.head(MAP)?;
        (0..count).map(|_| Some((K::read(from)?, V::read(from)?))).collect()
    }

    fn write(&self, to: &mut Sink<'_>) -> Result<()> {
        to.head(MAP, self.len() as u64)?;
        self.iter().try_for_each(|(key, value)| {
            key.write(to)?;
            value.write(to)
        })
    }
}

/// The functions of a [`Bulk`] type, which is not named.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    read: fn(&mut Source<'_>) -> Option<Box<dyn Any>>,
    /// Expects a value of the type.
    write: unsafe fn(*const (), &mut Sink<'_>) -> Result<()>,
}

impl Functions {
    fn new<T: Bulk + 'static>() -> Self {
        /// Writes `value`, which must point to a `T`.
        unsafe fn write<T: Bulk>(value: *const (), to: &mut Sink<'_>) -> Result<()> {
            // SAFETY: the caller passes a `T`
            unsafe { &*value.cast::<T>() }.write(to)
        }
        Self {
            read: |from| T::read(from).map(|value| Box::new(value) as Box<dyn Any>),
            write: write::<T>,
        }
    }
}

/// Reads a value of `size` bytes. `functions` are those of its type.
pub(crate) fn read(functions: Functions, from: &mut dyn Read, size: u64) -> Option<Box<dyn Any>> {
    (functions.read)(&mut Source::new(from, size))
}

/// Reads a value of a known type from a file.
pub(crate) fn read_file(functions: Functions, path: &Path) -> crate::Result<Option<Box<dyn Any>>> {
    let (mut file, size) = open(path)?;
    Ok(read(functions, &mut file, size))
}

/// Opens a file to read a value.
pub(crate) fn from_file(path: &Path, read: &mut dyn FnMut(&mut Source<'_>)) -> crate::Result<()> {
    let (mut file, size) = open(path)?;
    read(&mut Source::new(&mut file, size));
    Ok(())
}

fn open(path: &Path) -> crate::Result<(File, u64)> {
    let file = artifact::open(path)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    Ok((file, size))
}

/// Creates a file with the value that `write` writes.
pub(crate) fn to_file(path: &Path, write: &dyn Fn(&mut Sink<'_>) -> Result<()>) -> crate::Result<()> {
    artifact::create(path, |file| {
        let mut to = Sink::new(file);
        write(&mut to)?;
        Ok(to.flush()?)
    })
}

/// A value that is written without serde.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    value: *const (),
    functions: Functions,
    lives: PhantomData<&'a ()>,
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn new<T>(value: &'a T) -> Option<Self> {
        // no type in `of` has a lifetime, so the same id is the same type
        let functions = of(typeid::of::<T>())?;
        Some(Self {
            value: std::ptr::from_ref(value).cast(),
            functions,
            lives: PhantomData,
        })
    }

    /// Writes the value.
    pub(crate) fn write(&self, to: &mut dyn Write) -> Result<()> {
        let mut to = Sink::new(to);
        // SAFETY: `new` took the functions of the value's type
        unsafe { (self.functions.write)(self.value, &mut to)? };
        to.flush()
    }
}

macro_rules! known {
    ($($of:ty),* $(,)?) => {
        /// Returns the functions of a type. Where the type is known, an optimised program contains only its functions.
        #[inline(always)]
        pub(crate) fn of(id: TypeId) -> Option<Functions> {
            $(if id == TypeId::of::<$of>() {
                return Some(Functions::new::<$of>());
            })*
            None
        }
    };
}

known! {
    String,
    Vec<bool>, Vec<i8>, Vec<i16>, Vec<i32>, Vec<i64>, Vec<isize>, Vec<u8>, Vec<u16>, Vec<u32>, Vec<u64>, Vec<usize>, Vec<f32>, Vec<f64>,
    Vec<String>,
    Vec<Option<bool>>, Vec<Option<i32>>, Vec<Option<i64>>, Vec<Option<f64>>, Vec<Option<String>>,
    Vec<Vec<i32>>, Vec<Vec<i64>>, Vec<Vec<usize>>, Vec<Vec<f32>>, Vec<Vec<f64>>, Vec<Vec<String>>, Vec<Vec<u8>>,
    Vec<(i32, i32)>, Vec<(i64, i64)>, Vec<(usize, usize)>, Vec<(f64, f64)>, Vec<(f64, f64, f64)>,
    Vec<(String, String)>, Vec<(String, i32)>, Vec<(String, i64)>, Vec<(String, usize)>, Vec<(String, f64)>,
    BTreeMap<String, i32>, BTreeMap<String, i64>, BTreeMap<String, usize>, BTreeMap<String, f64>, BTreeMap<String, String>,
    BTreeMap<String, Vec<f64>>, BTreeMap<String, Vec<String>>,
}
