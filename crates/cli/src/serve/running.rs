//! Services on a stack: a thread that accepts for each, a thread for each connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use rxpath::Stack;
use rxpath::config::{App, ServiceConfig};
use rxpath::net::{TcpListener, TcpStream};

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
            let &ServiceConfig { listen, app } = config;
            let called = || format!("service {} on {listen}", services::name(app));
            let listener = TcpListener::bind(stack, listen).with_context(called)?;
            let accepted = Arc::<AtomicU64>::default();
            let accepting = thread::Builder::new()
                .name(format!("{}:{}", services::name(app), listen.port()))
                .spawn({
                    let (accepted, page) = (Arc::clone(&accepted), Arc::clone(page));
                    move || accept(&listener, app, &accepted, &page)
                })
                .with_context(called)?;
            Ok(Service { app, listen, accepted, accepting })
        };
        Ok(Running { services: configs.iter().map(start).collect::<anyhow::Result<_>>()? })
    }

    /// Each service with the connections that it accepted so far.
    pub fn accepted(&self) -> Vec<(App, SocketAddr, u64)> {
        let count = |service: &Service| service.accepted.load(Ordering::Relaxed);
        self.services.iter().map(|service| (service.app, service.listen, count(service))).collect()
    }

    /// Waits until nothing is accepted any more: once the stack is down.
    pub fn join(self) {
        for service in self.services {
            // A thread that panicked has said so itself.
            let _ = service.accepting.join();
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
