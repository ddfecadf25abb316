//! The connection file: the ports on which the kernel listens, and the signing key.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use jupyter_protocol::{ConnectionInfo, Transport};

/// The signature scheme.
const SCHEME: &str = "hmac-sha256";

/// The content of a connection file. Unknown fields are ignored, as in every Jupyter kernel.
#[derive(Clone)]
pub struct Connection {
    /// The ports, and the key that clients and kernel share; an empty key disables signing.
    pub info: ConnectionInfo,
}

/// An error reading a connection file.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The file can't be read.
    #[error("can't read connection file {}: Jupyter writes it and passes its path; to start the kernel by hand, use `jupyter console --kernel <name>`", path.display())]
    Read {
        /// the file
        path: PathBuf,
        /// why not
        source: io::Error,
    },
    /// The file is not a connection file.
    #[error("{} is not a Jupyter connection file", path.display())]
    Parse {
        /// the file
        path: PathBuf,
        /// what is wrong with it
        source: serde_json::Error,
    },
    /// The signature scheme is not supported.
    #[error("unsupported signature scheme `{scheme}` in {}: use hmac-sha256, Jupyter's default (Session.signature_scheme)", path.display())]
    Scheme {
        /// the file
        path: PathBuf,
        /// the scheme
        scheme: String,
    },
}

impl Connection {
    /// Reads a connection file.
    pub fn read(path: &Path) -> Result<Self, ConnectionError> {
        let at = || path.to_owned();
        let text = std::fs::read(path).map_err(|source| ConnectionError::Read { path: at(), source })?;
        let info: ConnectionInfo =
            serde_json::from_slice(&text).map_err(|source| ConnectionError::Parse { path: at(), source })?;
        if info.signature_scheme != SCHEME {
            let scheme = info.signature_scheme;
            return Err(ConnectionError::Scheme { path: at(), scheme });
        }
        Ok(Self { info })
    }

    /// Returns the ZeroMQ endpoint of a port.
    pub(super) fn endpoint(&self, port: u16) -> String {
        match self.info.transport {
            Transport::TCP => format!("tcp://{}:{port}", self.host()),
            Transport::IPC => format!("ipc://{}", self.path(port)),
        }
    }

    /// Returns the address to bind. ZeroMQ's `*` means every interface.
    pub(super) fn host(&self) -> &str {
        match self.info.ip.as_str() {
            "*" => "0.0.0.0",
            ip => ip,
        }
    }

    /// Removes the sockets of a killed kernel, as other ZeroMQ implementations do before binding a path.
    pub(super) fn remove_stale_sockets(&self) {
        if self.info.transport == Transport::IPC {
            let ports = [
                self.info.shell_port,
                self.info.control_port,
                self.info.iopub_port,
                self.info.stdin_port,
                self.info.hb_port,
            ];
            for path in ports.map(|port| self.path(port)) {
                let is_socket = std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
                if is_socket {
                    // If this fails, binding reports the error.
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
    }

    /// Returns the path of a socket.
    pub(super) fn path(&self, port: u16) -> String {
        format!("{}-{port}", self.info.ip)
    }
}

impl std::fmt::Debug for Connection {
    /// Omits the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({} and others)", self.endpoint(self.info.shell_port))
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
        assert_eq!(connection.endpoint(connection.info.shell_port), "tcp://127.0.0.1:1");
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
