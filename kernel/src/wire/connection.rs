//! The connection file: where the client wants the kernel to listen, and the key that both sign with.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What a connection file holds. Fields that it does not know are ignored, as every Jupyter kernel does.
#[derive(Clone, Deserialize)]
pub struct Connection {
    /// How clients reach the kernel.
    pub transport: Transport,
    /// An address, or for [`Transport::Ipc`] the first part of the sockets' paths.
    pub ip: String,
    /// Requests answered one after the other.
    pub shell_port: u16,
    /// Requests answered at once.
    pub control_port: u16,
    /// What every client sees.
    pub iopub_port: u16,
    /// Questions to the user; this kernel asks none.
    pub stdin_port: u16,
    /// The heartbeat.
    pub hb_port: u16,
    /// Secret shared by clients and kernel; empty turns signing off.
    #[serde(default)]
    pub key: String,
    /// Always `hmac-sha256`.
    #[serde(default = "only_scheme")]
    pub signature_scheme: String,
}

/// How clients reach the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A port each.
    Tcp,
    /// A Unix socket each, named `<ip>-<port>`.
    Ipc,
}

/// Why a connection file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// It could not be read.
    #[error("cannot read the connection file {}: Jupyter writes it and passes its path; to try the kernel by hand, use `jupyter console --kernel <name>`", path.display())]
    Read {
        /// The connection file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what Jupyter writes.
    #[error("{} is not a Jupyter connection file", path.display())]
    Parse {
        /// The connection file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It asks for a way of signing other than the one there is.
    #[error("{} asks for the signature scheme `{scheme}`; this kernel signs with hmac-sha256, which is Jupyter's default (Session.signature_scheme)", path.display())]
    Scheme {
        /// The connection file.
        path: PathBuf,
        /// What it asks for.
        scheme: String,
    },
}

fn only_scheme() -> String {
    "hmac-sha256".to_owned()
}

impl Connection {
    /// Reads a connection file.
    pub fn read(path: &Path) -> Result<Self, ConnectionError> {
        let at = || path.to_owned();
        let text = std::fs::read(path).map_err(|source| ConnectionError::Read { path: at(), source })?;
        let read: Self = serde_json::from_slice(&text).map_err(|source| ConnectionError::Parse { path: at(), source })?;
        if read.signature_scheme != only_scheme() {
            let scheme = read.signature_scheme;
            return Err(ConnectionError::Scheme { path: at(), scheme });
        }
        Ok(read)
    }

    /// The ZeroMQ endpoint of one port.
    pub(super) fn endpoint(&self, port: u16) -> String {
        match self.transport {
            Transport::Tcp => format!("tcp://{}:{port}", self.host()),
            Transport::Ipc => format!("ipc://{}", self.path(port)),
        }
    }

    /// The address to bind; ZeroMQ's `*` means every interface.
    pub(super) fn host(&self) -> &str {
        match self.ip.as_str() {
            "*" => "0.0.0.0",
            ip => ip,
        }
    }

    /// Removes the sockets of a kernel that was killed, as every ZeroMQ does before it binds a path.
    pub(super) fn remove_stale_sockets(&self) {
        if self.transport == Transport::Ipc {
            let ports = [
                self.shell_port,
                self.control_port,
                self.iopub_port,
                self.stdin_port,
                self.hb_port,
            ];
            for path in ports.map(|port| self.path(port)) {
                let is_socket = std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
                if is_socket {
                    // If it stays, binding says why.
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
    }

    /// The path of one socket.
    pub(super) fn path(&self, port: u16) -> String {
        format!("{}-{port}", self.ip)
    }
}

impl std::fmt::Debug for Connection {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({} and others)", self.endpoint(self.shell_port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Connection, ConnectionError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Connection::read(file.path())
    }

    const FILE: &str = r#"{ "shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5,
        "ip": "127.0.0.1", "key": "k", "transport": "tcp", "signature_scheme": "hmac-sha256", "kernel_name": "x" }"#;

    #[test]
    fn endpoints() {
        let connection = read(FILE).unwrap();
        assert_eq!(connection.endpoint(connection.shell_port), "tcp://127.0.0.1:1");
        let ipc = read(&FILE.replace("tcp", "ipc").replace("127.0.0.1", "/tmp/k")).unwrap();
        assert_eq!(ipc.endpoint(5), "ipc:///tmp/k-5");
        assert!(!format!("{connection:?}").contains('k'), "the key is not printed");
    }

    #[test]
    fn errors_name_the_file() {
        assert!(matches!(
            Connection::read(Path::new("/none")),
            Err(ConnectionError::Read { .. })
        ));
        assert!(matches!(read("{}"), Err(ConnectionError::Parse { .. })));
        let md5 = read(&FILE.replace("sha256", "md5")).unwrap_err();
        assert!(md5.to_string().contains("`hmac-md5`"), "{md5}");
    }
}
