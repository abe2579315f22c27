//! This module keeps a port of loopback, whether somebody listens at it or not.
//!
//! A second socket holds the port: while nobody listens there, connections are refused, and nobody else
//! can get it meanwhile.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::limits;

/// A port that is ours.
#[derive(Debug)]
pub(crate) struct Place {
    address: SocketAddr,
    /// Bound, never listening.
    _holder: Socket,
}

impl Place {
    /// A port that nobody else has.
    pub(crate) fn find() -> io::Result<Self> {
        let holder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = holder.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("an IPv4 socket has no address"))?;
        Ok(Self { address, _holder: holder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens until the listener is dropped.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.address)?;
        socket.listen(limits::BACKLOG)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket.into())
    }
}

/// All sockets of one port must say that they share it.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
