use super::Vfs;
use super::errno::{Errno, Fault, Result, Stop};
use super::tree::{Kind, NodeId, ROOT};
use crate::sandbox::{Check, Given, Node, Stream};
use crate::step::GuestPath;

/// Support for a guest's requests: see `sandbox::call`.
impl Vfs {
    /// Returns the file or directory at a path, whatever descriptors the guest has open.
    pub(crate) fn find_readable(&mut self, path: &GuestPath) -> Result<NodeId> {
        let target = self.tree.resolve(ROOT, path.as_str())?;
        self.tree.find(&target)?.ok_or(Errno::NoEntry.into())
    }

    /// Returns a file or directory for the guest's caller. Puts copies of the files that the guest wrote into the storage.
    pub(crate) fn give(&mut self, id: NodeId, check: &mut Check<'_>) -> Result<Given> {
        check()?;
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
                let (digest, size) = file.copy(&*self.storage, check)?;
                Ok(Given::Stored { digest, size })
            }
            Kind::Directory(_) => {
                let names = self.tree.names(id)?;
                let given = names.into_iter().map(|name| {
                    let child = self.tree.child(id, &name)?.ok_or(Errno::NoEntry)?;
                    Ok((name.into(), self.give(child, check)?))
                });
                given.collect::<Result<_>>().map(Given::Directory)
            }
            Kind::Null | Kind::Free => Err(Errno::Invalid.into()),
        }
    }

    /// Returns the size of all paths of files that the guest created below a node, in bytes.
    pub(crate) fn path_bytes(&self, id: NodeId) -> u64 {
        self.tree.path_bytes(id, 0)
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
