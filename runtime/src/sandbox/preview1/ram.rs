use crate::sandbox::vfs::{Errno, Result};

/// Maximum number of buffers per call (`IOV_MAX` of Linux).
const MAX_IOVECS: u32 = 1024;

/// The guest's linear memory. Every access is checked; an access out of bounds is `EFAULT`.
pub(in crate::sandbox) struct Ram<'m>(&'m mut [u8]);

/// An address in guest memory.
pub(in crate::sandbox) type Pointer = u32;

/// A buffer in guest memory.
#[derive(Clone, Copy)]
pub(super) struct Iovec {
    pub(super) pointer: Pointer,
    pub(super) len: u32,
}

impl<'m> Ram<'m> {
    pub(super) fn new(bytes: &'m mut [u8]) -> Self {
        Self(bytes)
    }

    pub(in crate::sandbox) fn bytes(&self, pointer: Pointer, len: u32) -> Result<&[u8]> {
        let start = pointer as usize;
        self.0.get(start..start + len as usize).ok_or(Errno::Fault.into())
    }

    pub(super) fn bytes_mut(&mut self, pointer: Pointer, len: u32) -> Result<&mut [u8]> {
        let start = pointer as usize;
        self.0.get_mut(start..start + len as usize).ok_or(Errno::Fault.into())
    }

    pub(super) fn text(&self, pointer: Pointer, len: u32) -> Result<&str> {
        std::str::from_utf8(self.bytes(pointer, len)?).map_err(|_| Errno::IllegalBytes.into())
    }

    /// Returns a path relative to a descriptor.
    pub(super) fn path(&self, (pointer, len): (Pointer, u32)) -> Result<&str> {
        match self.text(pointer, len)? {
            path if path.starts_with('/') => Err(Errno::NotPermitted.into()),
            path => Ok(path),
        }
    }

    /// Returns the address `offset` bytes after `pointer`.
    pub(super) fn at(pointer: Pointer, offset: u64) -> Result<Pointer> {
        let address = u64::from(pointer)
            .checked_add(offset)
            .and_then(|address| address.try_into().ok());
        address.ok_or(Errno::Fault.into())
    }

    fn array<const N: usize>(&self, pointer: Pointer) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(pointer, N as u32)?);
        Ok(array)
    }

    pub(super) fn u8(&self, pointer: Pointer) -> Result<u8> {
        self.array(pointer).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&self, pointer: Pointer) -> Result<u16> {
        self.array(pointer).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&self, pointer: Pointer) -> Result<u32> {
        self.array(pointer).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&self, pointer: Pointer) -> Result<u64> {
        self.array(pointer).map(u64::from_le_bytes)
    }

    pub(super) fn put(&mut self, pointer: Pointer, bytes: &[u8]) -> Result<()> {
        let len = bytes.len().try_into().map_err(|_| Errno::Fault)?;
        self.bytes_mut(pointer, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(in crate::sandbox) fn put_u32(&mut self, pointer: Pointer, value: u32) -> Result<()> {
        self.put(pointer, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, pointer: Pointer, value: u64) -> Result<()> {
        self.put(pointer, &value.to_le_bytes())
    }

    /// Checks that all buffers of a list are in bounds.
    pub(super) fn check_iovecs(&self, list: Pointer, count: u32) -> Result<()> {
        if count > MAX_IOVECS {
            return Err(Errno::Invalid.into());
        }
        for index in 0..count {
            let Iovec { pointer, len } = self.iovec(list, index)?;
            self.bytes(pointer, len)?;
        }
        Ok(())
    }

    pub(super) fn iovec(&self, list: Pointer, index: u32) -> Result<Iovec> {
        let entry = Self::at(list, 8 * u64::from(index))?;
        Ok(Iovec {
            pointer: self.u32(entry)?,
            len: self.u32(Self::at(entry, 4)?)?,
        })
    }
}
