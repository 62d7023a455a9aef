//! The server's application: the same calls on the kernel's sockets and on a stack's.

use std::io::{self, Read, Write};

use super::case::{Call, Gave, digest, written_byte};

/// A listening socket of one side.
pub trait Listens {
    /// Its connections.
    type Stream: Read + Write;

    /// The next connection, as a socket that does not block.
    fn next(&self) -> io::Result<Self::Stream>;

    /// Ends writing.
    fn end_writing(stream: &Self::Stream) -> io::Result<()>;
}

impl Listens for std::net::TcpListener {
    type Stream = std::net::TcpStream;

    fn next(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn end_writing(stream: &Self::Stream) -> io::Result<()> {
        stream.shutdown(std::net::Shutdown::Write)
    }
}

impl Listens for rxpath::net::TcpListener {
    type Stream = rxpath::net::TcpStream;

    fn next(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn end_writing(stream: &Self::Stream) -> io::Result<()> {
        stream.shutdown(std::net::Shutdown::Write)
    }
}

/// The application: a listener that does not block, and what it accepted.
pub struct Application<L: Listens> {
    listener: L,
    /// The connection that calls are for.
    current: Option<L::Stream>,
    /// Connections accepted before it, kept open.
    earlier: Vec<L::Stream>,
    /// Bytes written to the current connection.
    written: u64,
}

impl<L: Listens> Application<L> {
    /// An application that has accepted nothing. The listener must not block.
    pub fn new(listener: L) -> Application<L> {
        Application { listener, current: None, earlier: Vec::new(), written: 0 }
    }

    /// Makes a call.
    pub fn call(&mut self, call: Call) -> Gave {
        self.attempt(call).unwrap_or_else(|error| Gave::Error(format!("{:?}", error.kind())))
    }

    fn attempt(&mut self, call: Call) -> io::Result<Gave> {
        if call == Call::Accept {
            let stream = self.listener.next()?;
            self.earlier.extend(self.current.replace(stream));
            self.written = 0;
            return Ok(Gave::Done);
        }
        let Some(stream) = &mut self.current else { return Ok(Gave::NoConnection) };
        match call {
            Call::Accept | Call::Datagram(..) | Call::Stream(..) => {}
            Call::Read(size) => {
                let mut buf = vec![0; size as usize];
                let n = stream.read(&mut buf)?;
                return Ok(if n == 0 { Gave::End } else { Gave::Bytes(n as u32, digest(&buf[..n])) });
            }
            Call::Write(size) => {
                let bytes: Vec<u8> = (0..u64::from(size)).map(|i| written_byte(self.written + i)).collect();
                let n = stream.write(&bytes)?;
                self.written += n as u64;
                return Ok(Gave::Taken(n as u32));
            }
            Call::ShutdownWrite => L::end_writing(stream)?,
            Call::Close => self.current = None,
        }
        Ok(Gave::Done)
    }
}
