//! Reading without a copy: the bytes are lent where the device wrote them.

use std::io;
use std::mem;
use std::sync::Arc;

use rxpath_core::socket::Lent;
use rxpath_core::stack::RecvError;

use super::TcpStream;
use super::call::{down, sock_error};
use super::stream::Inner;
use crate::runtime::Attempt;

/// Bytes of a stream that are lent to the application ([`TcpStream::recv_chunks`]).
///
/// They count as received and not read for as long as this lives: the peer's window stays closed by as much, and the
/// page pool lacks their slots. So it had better not live long.
pub struct Chunks {
    inner: Arc<Inner>,
    lent: Lent,
}

impl Chunks {
    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.lent.len()
    }

    /// True at the end of the stream.
    pub fn is_empty(&self) -> bool {
        self.lent.is_empty()
    }

    /// The pieces, in order; none is empty.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.lent.pieces()
    }
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunks").field("len", &self.len()).field("pieces", &self.iter().count()).finish_non_exhaustive()
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        let lent = mem::replace(&mut self.lent, Lent::nothing());
        let Inner { stack, sock, .. } = &*self.inner;
        stack.core().take_back(sock, lent, stack.now());
    }
}

impl TcpStream {
    /// Reads without copying: lends the packets at the front of the stream, as many as `most` bytes hold, or one if that has
    /// more; waits for bytes as a read does. Empty at the end of the stream. `CopiedRecv` does not count these bytes, but
    /// for those right before an urgent one, which are copied.
    ///
    /// ```
    /// # use std::io::Write;
    /// # use rxpath::device::wire::{self, WireConfig};
    /// # use rxpath::net::{TcpListener, TcpStream};
    /// # use rxpath::{Interface, Stack};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    /// # let server = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
    /// # let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
    /// # let listener = TcpListener::bind(&server, "10.0.0.1:80")?;
    /// # let mut peer = TcpStream::connect(&client, "10.0.0.1:80")?;
    /// # let (service, _) = listener.accept()?;
    /// peer.write_all(&[7; 10_000])?;
    /// let mut left = 10_000;
    /// while left > 0 {
    ///     let chunks = service.recv_chunks(65_536)?;
    ///     assert!(chunks.iter().flatten().all(|byte| *byte == 7));
    ///     left -= chunks.len();
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As a read.
    pub fn recv_chunks(&self, most: usize) -> io::Result<Chunks> {
        let Inner { stack, sock, .. } = &*self.0;
        let lent = self.0.block_reading(self.0.nonblocking(), self.read_timeout()?, |register| {
            match stack.core().lend(sock, most, register, stack.now()) {
                Ok(lent) => Attempt::Done(Ok(lent)),
                Err(RecvError::Empty(waiter)) => Attempt::Pending(waiter),
                Err(RecvError::Failed(error)) => Attempt::Done(Err(sock_error(error))),
                Err(RecvError::NotConnected) => Attempt::Done(Err(io::ErrorKind::NotConnected.into())),
                Err(RecvError::Down) => Attempt::Done(Err(down())),
            }
        })?;
        Ok(Chunks { inner: Arc::clone(&self.0), lent })
    }
}
