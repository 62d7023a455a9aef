//! Services on a stack: a thread that accepts for each, a thread for each connection; over UDP one thread that answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use rxpath::Stack;
use rxpath::config::{App, Proto, ServiceConfig};
use rxpath::net::{TcpListener, TcpStream, UdpSocket};

use crate::services;

/// Connections of one service at a time; further ones are closed.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a connection may do nothing.
const IDLE: Duration = Duration::from_secs(60);
/// How long to wait after an accept that failed.
const PAUSE: Duration = Duration::from_millis(10);

/// What makes the page of the http service.
pub type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// Services in service. They end when the stack is shut down.
pub struct Running {
    services: Vec<Service>,
}

struct Service {
    app: App,
    proto: Proto,
    listen: SocketAddr,
    accepted: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Running {
    /// Listens for all services, and answers from now on.
    ///
    /// # Errors
    /// An address is not the stack's or in use; a thread cannot be started.
    pub fn start(stack: &Stack, configs: &[ServiceConfig], page: &Page) -> anyhow::Result<Running> {
        let start = |config: &ServiceConfig| -> anyhow::Result<Service> {
            let &ServiceConfig { listen, app, proto } = config;
            let called = || format!("service {} on {} {listen}", services::name(app), proto.name());
            let door = match proto {
                Proto::Tcp => Door::Tcp(TcpListener::bind(stack, listen).with_context(called)?),
                Proto::Udp => Door::Udp(UdpSocket::bind(stack, listen).with_context(called)?),
            };
            let accepted = Arc::<AtomicU64>::default();
            let accepting = thread::Builder::new()
                .name(format!("{}:{}", services::name(app), listen.port()))
                .spawn({
                    let (accepted, page) = (Arc::clone(&accepted), Arc::clone(page));
                    move || match door {
                        Door::Tcp(listener) => accept(&listener, app, &accepted, &page),
                        Door::Udp(socket) => answer(&socket, app, &accepted),
                    }
                })
                .with_context(called)?;
            Ok(Service { app, proto, listen, accepted, accepting })
        };
        Ok(Running { services: configs.iter().map(start).collect::<anyhow::Result<_>>()? })
    }

    /// Each service with the connections that it accepted so far, or the datagrams that it read.
    pub fn accepted(&self) -> Vec<(ServiceConfig, u64)> {
        let row = |service: &Service| {
            let &Service { app, proto, listen, .. } = service;
            (ServiceConfig { listen, app, proto }, service.accepted.load(Ordering::Relaxed))
        };
        self.services.iter().map(row).collect()
    }

    /// Waits until nothing is accepted any more: once the stack is down.
    pub fn join(self) {
        for service in self.services {
            // A thread that panicked has said so itself.
            let _ = service.accepting.join();
        }
    }
}

/// What a service is reached by.
enum Door {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Answers datagrams until the stack goes down.
fn answer(socket: &UdpSocket, app: App, read: &AtomicU64) {
    let mut buf = vec![0; usize::from(u16::MAX)];
    loop {
        match socket.recv_from(&mut buf) {
            Ok((len, from)) => {
                let count = read.fetch_add(1, Ordering::Relaxed);
                // A way back that is not there is the sender's concern.
                if let Some(answer) = services::answer(app, &buf[..len], count) {
                    let _ = socket.send_to(&answer, from);
                }
            }
            Err(_) if socket.stack().is_down() => return,
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn accept(listener: &TcpListener, app: App, accepted: &AtomicU64, page: &Page) {
    let open = Arc::<AtomicUsize>::default();
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if listener.stack().is_down() => return,
            Err(_) => {
                thread::sleep(PAUSE);
                continue;
            }
        };
        accepted.fetch_add(1, Ordering::Relaxed);
        if open.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (counted, page) = (Arc::clone(&open), Arc::clone(page));
        let serve = move || {
            // The peer went away, or did nothing for too long: either way there is nobody to tell.
            let _ = converse(stream, app, &page);
            counted.fetch_sub(1, Ordering::AcqRel);
        };
        if thread::Builder::new().name(services::name(app).to_owned()).spawn(serve).is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn converse(mut stream: TcpStream, app: App, page: &Page) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    services::serve(app, &mut stream, &**page)
}
