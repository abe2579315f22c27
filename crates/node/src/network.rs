//! This module is the seam through which connections come in: the machine's TCP in production, a
//! simulated network in tests.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::topology::Address;

/// A way to reach other processes.
pub trait Network: Debug + Send + Sync + 'static {
    /// Opens an address for connections.
    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listen>>>;

    /// Opens a connection to an address.
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// An address that is open for connections.
pub trait Listen: Send + 'static {
    /// The next connection, and where it comes from.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// The machine's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Network for Tcp {
    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listen>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address.as_str()).await?;
            Ok(Box::new(listener) as Box<dyn Listen>)
        })
    }

    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address.as_str()).await?;
            tune(&stream)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl Listen for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = Self::accept(self).await?;
            tune(&stream)?;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }
}

/// Small messages leave at once; a peer that is gone without a word is noticed.
fn tune(stream: &TcpStream) -> io::Result<()> {
    const KEEPALIVE: Duration = Duration::from_secs(30);
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
