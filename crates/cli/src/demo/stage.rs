//! Where the demonstration takes place: a stack, clients that reach it, and a second cable for bad packets.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use rxpath::device::wire::{self, Port, WireConfig};
use rxpath::{Interface, Stack};
use rxpath_trace::{Names, Selector};
use rxpath_wire::MacAddr;

/// The stack's address.
pub const STACK: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The clients' address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// Bits of their network's prefix.
const PREFIX: u8 = 24;
/// Longest wait for anything: the demonstration never hangs.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Events of lives that may wait to be collected.
const LIFE_CAPACITY: usize = 1 << 18;
/// The end of the injector's cable that is in the stack.
const INJECTOR_MAC: MacAddr = MacAddr([0x02, 0x72, 0x78, 0, 0xee, 1]);

/// A stack with clients.
pub struct Stage {
    /// The stack.
    pub stack: Stack,
    /// Whence its clients come.
    pub clients: Clients,
    /// The bare end of a second cable into the stack.
    pub injector: Port,
    /// What it is, in words.
    pub setting: String,
    /// `tap` or `wire`.
    pub kind: &'static str,
    /// Why it is not a TAP.
    pub why_no_tap: Option<String>,
}

/// Whence clients come.
pub enum Clients {
    /// The kernel's TCP, at the other end of a TAP.
    Kernel,
    /// Another stack, at the other end of an in-memory cable.
    Stack(Stack),
}

impl Stage {
    /// Sets the stage: on a TAP in a private namespace where that is allowed and wanted, else on an in-memory cable. To be
    /// called while the process has one thread.
    ///
    /// # Errors
    /// Not even the in-memory cable can be had.
    pub fn set(wire: bool) -> anyhow::Result<Stage> {
        if wire {
            return Stage::on_wire("--wire asks for the in-memory wire".to_owned());
        }
        match Stage::on_tap() {
            Ok(stage) => Ok(stage),
            Err(error) => Stage::on_wire(format!("no TAP in a private namespace: {error:#}")),
        }
    }

    #[cfg(target_os = "linux")]
    fn on_tap() -> anyhow::Result<Stage> {
        use rxpath::device::netns::{Rtnl, enter_private, set_sysctl};
        use rxpath::device::tap::{Tap, TapConfig};

        enter_private()?;
        // Without IPv6 in the kernel nothing disturbs the silence; it stays on where it cannot be switched off.
        let _ = set_sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        let tap = Tap::open(TapConfig::default())?;
        let name = tap.name().to_owned();
        let mut rtnl = Rtnl::open()?;
        rtnl.add_address(&name, CLIENT, PREFIX)?;
        rtnl.set_up(&name)?;
        let (stack, injector) = stack(Interface::new(tap))?;
        let setting = format!("on the TAP {name} in a private namespace; its clients are the kernel's own TCP");
        Ok(Stage { stack, clients: Clients::Kernel, injector, setting, kind: "tap", why_no_tap: None })
    }

    #[cfg(not(target_os = "linux"))]
    fn on_tap() -> anyhow::Result<Stage> {
        anyhow::bail!("TAPs need Linux")
    }

    fn on_wire(why: String) -> anyhow::Result<Stage> {
        // Super-frames are cut, so that there is something for GRO to merge.
        let end = |name: &str| WireConfig { cut: true, ..WireConfig::named(name).offload(true) };
        let (near, far) = wire::pair(end("wire0"), end("wire1"));
        let (stack, injector) = stack(Interface::new(near).ring(1_024))?;
        let address = format!("{CLIENT}/{PREFIX}");
        let clients = Stack::builder().interface(Interface::new(far).address(&address)?).build();
        let clients = clients.context("starting the clients' stack")?;
        let setting = "on an in-memory wire; its clients run on another rxpath stack".to_owned();
        let clients = Clients::Stack(clients);
        Ok(Stage { stack, clients, injector, setting, kind: "wire", why_no_tap: Some(why) })
    }

    /// The names of the stack's devices.
    pub fn names(&self) -> Names {
        let interfaces = self.stack.interfaces().into_iter();
        interfaces.fold(Names::new(), |names, interface| names.device(interface.ifindex, interface.name))
    }
}

/// The stack with its device and the injector's cable.
fn stack(device: Interface) -> anyhow::Result<(Stack, Port)> {
    let (cable, injector) = wire::port(WireConfig::named("inject0").mac(INJECTOR_MAC));
    let stack = Stack::builder()
        .interface(device.address(&format!("{STACK}/{PREFIX}"))?)
        .interface(Interface::new(cable))
        .lives(Selector::All)
        .life_capacity(LIFE_CAPACITY)
        .build()
        .context("starting the stack")?;
    Ok((stack, injector))
}

impl Clients {
    /// Connects to a port of the stack.
    ///
    /// # Errors
    /// As `connect(2)` has it; so for all calls here.
    pub fn connect(&self, port: u16) -> io::Result<Connection> {
        let addr = SocketAddr::from((STACK, port));
        let connection = match self {
            Clients::Kernel => Connection::Kernel(std::net::TcpStream::connect_timeout(&addr, PATIENCE)?),
            Clients::Stack(stack) => {
                Connection::Stack(rxpath::net::TcpStream::connect_timeout(stack, &addr, PATIENCE)?)
            }
        };
        connection.set_patience()?;
        Ok(connection)
    }
}

/// A client's connection.
pub enum Connection {
    /// Of the kernel.
    Kernel(std::net::TcpStream),
    /// Of the other stack.
    Stack(rxpath::net::TcpStream),
}

impl Connection {
    fn set_patience(&self) -> io::Result<()> {
        match self {
            Connection::Kernel(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))
            }
            Connection::Stack(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))
            }
        }
    }

    /// The client's own address and port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Connection::Kernel(stream) => stream.local_addr(),
            Connection::Stack(stream) => stream.local_addr(),
        }
    }

    /// Ends writing.
    pub fn finish(&self) -> io::Result<()> {
        match self {
            Connection::Kernel(stream) => stream.shutdown(Shutdown::Write),
            Connection::Stack(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Kernel(stream) => stream.read(buf),
            Connection::Stack(stream) => stream.read(buf),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Kernel(stream) => stream.write(buf),
            Connection::Stack(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
