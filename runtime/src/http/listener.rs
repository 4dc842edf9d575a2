//! Where a server listens: an address with a port, or a socket in the file system.

use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::RuntimeError;

/// Begins what names a socket in the file system.
const UNIX: &str = "unix:";

/// What a server listens on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    /// A port of an address of this machine.
    Port(SocketAddr),
    /// A socket in the file system, which only its owner may use.
    Socket(PathBuf),
}

impl Address {
    /// Reads `127.0.0.1:8000` or `unix:/path`. No name is looked up: that would ask another machine.
    pub(crate) fn parse(text: &str) -> Result<Self, RuntimeError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return Ok(Self::Socket(path.into()));
        }
        let plain = text.replacen("localhost:", "127.0.0.1:", 1);
        let parsed = plain.parse().map(Self::Port);
        parsed.map_err(|_| RuntimeError::Listen {
            address: text.to_owned(),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "not an address with a port, such as 127.0.0.1:8000",
            ),
        })
    }

    /// Whether no other machine can reach it.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Port(address) => address.ip().is_loopback(),
            Self::Socket(_) => true,
        }
    }

    /// The number that clients use, where it has one.
    pub(crate) fn port(&self) -> Option<(IpAddr, u16)> {
        match self {
            Self::Port(address) => Some((address.ip(), address.port())),
            Self::Socket(_) => None,
        }
    }

    /// As clients write it, with `path` behind.
    pub(crate) fn url(&self, path: &str) -> String {
        match self {
            Self::Port(address) => format!("http://{address}{path}"),
            Self::Socket(_) => self.to_string(),
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// A place that is listened on.
pub(crate) enum Listener {
    Port(TcpListener),
    Socket(UnixListener, PathBuf),
}

impl Listener {
    pub(crate) fn bind(wish: &Address) -> Result<Self, RuntimeError> {
        let bound = match wish {
            Address::Port(address) => TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(Self::Port(listener))
            }),
            Address::Socket(path) => socket(path),
        };
        bound.map_err(|source| RuntimeError::Listen {
            address: wish.to_string(),
            source,
        })
    }

    /// What it is in the end: a port of zero was a wish for any.
    pub(crate) fn address(&self) -> Result<Address, RuntimeError> {
        match self {
            Self::Port(listener) => {
                let address = listener.local_addr().map(Address::Port);
                address.map_err(|source| RuntimeError::Listen {
                    address: String::new(),
                    source,
                })
            }
            Self::Socket(_, path) => Ok(Address::Socket(path.clone())),
        }
    }
}

/// A socket that only its owner may connect to. One that an earlier program left is replaced, anything else is not.
fn socket(path: &Path) -> io::Result<Listener> {
    use std::os::unix::fs::PermissionsExt as _;
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Socket(listener, path.to_owned()))
}

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A place that is listened on, among tasks.
pub(super) enum Accepting {
    Port(tokio::net::TcpListener),
    Socket(tokio::net::UnixListener),
}

impl Accepting {
    pub(super) fn of(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Port(listener) => Self::Port(tokio::net::TcpListener::from_std(listener)?),
            Listener::Socket(listener, _) => {
                Self::Socket(tokio::net::UnixListener::from_std(listener)?)
            }
        })
    }

    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Port(listener) => {
                let (stream, _) = listener.accept().await?;
                let _slower = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Self::Socket(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_or_sockets() {
        for (asked, wanted) in [
            ("127.0.0.1:0", Some("127.0.0.1:0")),
            ("localhost:81", Some("127.0.0.1:81")),
            ("[::1]:8000", Some("[::1]:8000")),
            ("0.0.0.0:8000", Some("0.0.0.0:8000")),
            ("unix:/run/x", Some("unix:/run/x")),
            ("example.org:80", None),
            ("127.0.0.1", None),
            ("127.0.0.1:99999", None),
        ] {
            let found = Address::parse(asked)
                .ok()
                .map(|address| address.to_string());
            assert_eq!(found.as_deref(), wanted, "{asked}");
        }
    }

    #[test]
    fn a_socket_replaces_a_socket_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let wish = Address::Socket(path.clone());
        drop(Listener::bind(&wish).unwrap());
        drop(Listener::bind(&wish).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "work").unwrap();
        assert!(Listener::bind(&wish).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "work");
    }
}
