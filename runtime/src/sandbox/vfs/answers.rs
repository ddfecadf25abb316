use super::errno::{Errno, Fault, Result, Stop};
use super::tree::{Kind, ROOT};
use super::{Found, Vfs};
use crate::sandbox::{Check, Given, Node, Stream};
use crate::step::GuestPath;

/// Support for a guest's requests: see `sandbox::call`.
impl Vfs {
    /// Returns the file or directory at a path, whatever descriptors the guest has open.
    ///
    /// Also returns the size of all paths of files in it that the guest created, in bytes.
    pub(crate) fn find_readable(&mut self, path: &GuestPath) -> Result<(Found, u64)> {
        let target = self.tree.resolve(ROOT, ROOT, path.as_str(), true)?;
        let id = self.tree.find(&target)?.ok_or(Errno::NoEntry)?;
        self.walk(id).map_err(|_| Errno::Invalid.into())
    }

    /// Returns a file or directory for the guest's caller. Puts copies of the files that the guest wrote into the storage.
    pub(crate) fn give(&mut self, found: Found, check: &mut Check<'_>) -> Result<Given> {
        check()?;
        let id = match found {
            Found::File(id) => id,
            Found::Directory(entries) => {
                let entries = entries.into_iter();
                let given = entries.map(|(name, entry)| Ok((name.into(), self.give(entry, check)?)));
                return given.collect::<Result<_>>().map(Given::Directory);
            }
        };
        match self.tree.kind_mut(id) {
            Kind::Input(bytes) => {
                self.work += 2 * bytes.len() as u64;
                Ok(Given::Input(bytes.clone()))
            }
            Kind::Large(large) => {
                self.work += 2 * large.0.len();
                Ok(Given::Large(large.clone()))
            }
            Kind::File(file) => {
                self.work += 2 * file.len();
                let (digest, size) = file.share(&*self.storage, check)?;
                Ok(Given::Stored { digest, size })
            }
            Kind::Directory(_) | Kind::Link(_) | Kind::Null | Kind::Free => Err(Errno::Invalid.into()),
        }
    }

    /// Writes to the guest's current stdout or stderr. Does nothing if the guest has closed it.
    pub(crate) fn write_stream(&mut self, stream: Stream, bytes: &[u8]) -> std::result::Result<(), Stop> {
        let fd = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        match self.write(fd, bytes) {
            Err(Fault::Stop(stop)) => Err(stop),
            Ok(()) | Err(Fault::Errno(_)) => Ok(()),
        }
    }

    /// Mounts an answer at `/call/<number>`.
    pub(crate) fn put_answer(&mut self, number: u32, answer: Node) -> Result<()> {
        let path = GuestPath::try_from(format!("/call/{number}")).map_err(|_| Errno::Invalid)?;
        self.tree.mount_answer(path, answer).map_err(|_| Errno::Exists.into())
    }
}
