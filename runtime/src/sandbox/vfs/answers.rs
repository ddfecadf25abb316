use bytes::Bytes;

use super::errno::{Errno, Fault, Result, Stop};
use super::tree::{Kind, NodeId};
use super::{PREOPEN, Vfs};
use crate::sandbox::{Node, Stream};
use crate::step::GuestPath;

/// Support for a guest's requests: see `sandbox::call`.
impl Vfs {
    /// Returns a copy of the file or directory at a path; `None` if there is none.
    pub(crate) fn node_at(&mut self, path: &GuestPath) -> std::result::Result<Option<Node>, Stop> {
        let target = self.resolve(PREOPEN, path.as_str());
        let found = target.and_then(|target| self.tree.find(&target)?.ok_or(Errno::NoEntry.into()));
        match found.and_then(|id| self.copy(id)) {
            Ok(node) => Ok(Some(node)),
            Err(Fault::Errno(_)) => Ok(None),
            Err(Fault::Stop(stop)) => Err(stop),
        }
    }

    fn copy(&mut self, id: NodeId) -> Result<Node> {
        match self.tree.kind_mut(id) {
            Kind::Input(bytes) => Ok(Node::File(bytes.clone())),
            Kind::Large(large) => Ok(Node::Large(large.clone())),
            Kind::File(file) => {
                let mut bytes = vec![0; usize::try_from(file.len()).map_err(|_| Errno::TooBig)?];
                file.read_at(0, &mut bytes)?;
                Ok(Node::File(Bytes::from(bytes)))
            }
            Kind::Directory(_) => {
                let names = self.tree.names(id)?;
                let copied = names.into_iter().map(|name| {
                    let child = self.tree.child(id, &name)?.ok_or(Errno::NoEntry)?;
                    Ok((name.into(), self.copy(child)?))
                });
                copied.collect::<Result<_>>().map(Node::Directory)
            }
            Kind::Null | Kind::Free => Err(Errno::Invalid.into()),
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
        self.tree.mount(path, answer).map_err(|_| Errno::Exists.into())
    }
}
