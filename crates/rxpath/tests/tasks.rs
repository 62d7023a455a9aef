//! Tasks on an executor that is made here: echoes over the in-memory cable, with and without softirq threads.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use rxpath::clock::ManualClock;
use rxpath::device::wire::{self, WireConfig};
use rxpath::net::{AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, UdpSocket};
use rxpath::rxpath_core::tcp::SockOptions;
use rxpath::{Interface, Mode, Stack};

const SERVER: &str = "10.0.0.1:7";
/// Bytes of each client: more than all buffers on the way hold.
const BYTES: usize = 400_000;
const CLIENTS: usize = 8;

type Work = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Tasks that are to be polled, and how many there are in all.
#[derive(Default)]
struct Queue {
    ready: Mutex<VecDeque<Arc<Task>>>,
    woken: Condvar,
    alive: AtomicUsize,
}

struct Task {
    work: Mutex<Option<Work>>,
    queue: Arc<Queue>,
}

impl Wake for Task {
    fn wake(self: Arc<Task>) {
        let queue = Arc::clone(&self.queue);
        queue.ready.lock().expect("nobody panics").push_back(self);
        queue.woken.notify_one();
    }
}

fn spawn(queue: &Arc<Queue>, work: impl Future<Output = io::Result<()>> + Send + 'static) {
    queue.alive.fetch_add(1, Ordering::Relaxed);
    Arc::new(Task { work: Mutex::new(Some(Box::pin(work))), queue: Arc::clone(queue) }).wake();
}

/// Polls tasks until all have ended; `idle` runs while none is to be polled, and says for how long to wait.
fn run(queue: &Arc<Queue>, mut idle: impl FnMut() -> Duration) {
    while queue.alive.load(Ordering::Relaxed) > 0 {
        let Some(task) = next(queue, &mut idle) else { continue };
        let mut work = task.work.lock().expect("nobody panics");
        let Some(future) = work.as_mut() else { continue };
        let waker = Arc::clone(&task).into();
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            outcome.expect("the task succeeds");
            *work = None;
            queue.alive.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn next(queue: &Queue, idle: &mut impl FnMut() -> Duration) -> Option<Arc<Task>> {
    if let Some(task) = queue.ready.lock().expect("nobody panics").pop_front() {
        return Some(task);
    }
    let time = idle();
    let ready = queue.ready.lock().expect("nobody panics");
    let (mut ready, _) = queue.woken.wait_timeout_while(ready, time, |ready| ready.is_empty()).expect("nobody panics");
    ready.pop_front()
}

fn byte(client: usize, at: usize) -> u8 {
    (at / 7 + client * 31) as u8
}

async fn echo(mut stream: AsyncTcpStream) -> io::Result<()> {
    let mut buf = vec![0; 10_000];
    loop {
        let count = stream.read(&mut buf).await?;
        if count == 0 {
            return std::future::poll_fn(|cx| stream.poll_shutdown(cx)).await;
        }
        stream.write_all(&buf[..count]).await?;
    }
}

async fn serve(mut listener: AsyncTcpListener, queue: Arc<Queue>) -> io::Result<()> {
    for _ in 0..CLIENTS {
        let (stream, _) = listener.accept().await?;
        spawn(&queue, echo(stream));
    }
    Ok(())
}

async fn client(stack: Stack, number: usize, queue: Arc<Queue>) -> io::Result<()> {
    let addr: SocketAddr = SERVER.parse().expect("an address");
    let mut reader = AsyncTcpStream::connect(&stack, addr).await?;
    let mut writer = reader.try_clone()?;
    spawn(&queue, async move {
        let bytes: Vec<u8> = (0..BYTES).map(|at| byte(number, at)).collect();
        assert!(writer.writable().await?.writable);
        writer.write_all(&bytes).await?;
        std::future::poll_fn(|cx| writer.poll_shutdown(cx)).await
    });
    let (mut buf, mut read) = (vec![0; 3_000], 0);
    loop {
        assert!(reader.readable().await?.readable);
        let seen = reader.peek(&mut buf[..1]).await?;
        let count = reader.read(&mut buf).await?;
        assert_eq!(seen, count.min(1));
        if count == 0 {
            break;
        }
        for (at, &got) in buf[..count].iter().enumerate() {
            assert_eq!(got, byte(number, read + at), "client {number}, byte {}", read + at);
        }
        read += count;
    }
    assert_eq!(read, BYTES);
    Ok(())
}

fn stacks(mode: Mode) -> (Stack, Stack) {
    let (left, right) = wire::pair(WireConfig::named("left"), WireConfig::named("right"));
    let stack = |device, address: &str| {
        let interface = Interface::new(device).address(address).expect("an address");
        Stack::builder().mode(mode).interface(interface).build().expect("a stack")
    };
    (stack(left, "10.0.0.1/24"), stack(right, "10.0.0.2/24"))
}

fn echoes(server: &Stack, client_stack: &Stack, idle: impl FnMut() -> Duration) {
    let queue = Arc::new(Queue::default());
    let listener = AsyncTcpListener::bind(server, SERVER).expect("a free port");
    spawn(&queue, serve(listener, Arc::clone(&queue)));
    for number in 0..CLIENTS {
        spawn(&queue, client(client_stack.clone(), number, Arc::clone(&queue)));
    }
    run(&queue, idle);
    for stack in [server, client_stack] {
        stack.shutdown();
        stack.ledger().check().expect("the books balance");
        assert_eq!(stack.ledger().held(), 0);
    }
}

#[test]
fn tasks_echo_while_softirq_threads_wake_them() {
    let (server, client) = stacks(Mode::Threads);
    echoes(&server, &client, || Duration::from_secs(1));
}

#[test]
fn tasks_echo_on_an_executor_that_polls_the_stacks_when_it_is_idle() {
    let (server, client) = stacks(Mode::Polled);
    echoes(&server, &client, || {
        server.poll(server.now());
        client.poll(client.now());
        Duration::ZERO
    });
}

/// Two requests, the second with its SYN; each is read and answered by the task of the listener.
async fn fast_requests(client: Stack, mut listener: AsyncTcpListener, queue: Arc<Queue>) -> io::Result<()> {
    for fast in [false, true] {
        let data: Vec<u8> = (0..5_000).map(|at| byte(7, at)).collect();
        let (stack, sent) = (client.clone(), data.clone());
        spawn(&queue, async move {
            let addr = SERVER.parse().expect("an address");
            let mut stream = AsyncTcpStream::connect_with_data(&stack, addr, &sent, &SockOptions::default()).await?;
            assert_eq!(stream.read(&mut [0; 8]).await?, 2);
            assert_eq!(stream.stream().info().syn_data, fast);
            Ok(())
        });
        let (mut service, _) = listener.accept().await?;
        let (mut got, mut buf) = (Vec::new(), [0; 512]);
        while got.len() < data.len() {
            let count = service.read(&mut buf).await?;
            assert!(count > 0);
            got.extend_from_slice(&buf[..count]);
        }
        assert!(got == data);
        assert_eq!(service.stream().info().tfo_child, fast);
        service.write_all(b"ok").await?;
        assert_eq!(service.read(&mut buf).await?, 0);
    }
    Ok(())
}

#[test]
fn a_task_connects_with_its_first_bytes() {
    let (left, right) = wire::pair(WireConfig::named("left"), WireConfig::named("right"));
    let stack = |device, address: &str| {
        let interface = Interface::new(device).address(address).expect("an address");
        let builder = Stack::builder().interface(interface).sysctl("net.ipv4.tcp_fastopen", "3").expect("a sysctl");
        builder.build().expect("a stack")
    };
    let (server, client) = (stack(left, "10.0.0.1/24"), stack(right, "10.0.0.2/24"));
    let listener = AsyncTcpListener::bind(&server, SERVER).expect("a free port");
    listener.listener().set_fastopen(4);
    let queue = Arc::new(Queue::default());
    spawn(&queue, fast_requests(client.clone(), listener, Arc::clone(&queue)));
    run(&queue, || Duration::from_secs(1));
    for stack in [server, client] {
        stack.shutdown();
        stack.ledger().check().expect("the books balance");
    }
}

/// Counts how often it is woken.
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_task_is_woken_when_there_is_something_to_do_and_not_before() {
    let clock = ManualClock::new();
    let (left, right) = wire::pair(WireConfig::named("left"), WireConfig::named("right"));
    let stack = |device, address: &str, seed| {
        let interface = Interface::new(device).address(address).expect("an address");
        let builder = Stack::builder().mode(Mode::Polled).clock(clock.clone()).seed(seed);
        builder.interface(interface).build().expect("a stack")
    };
    let (server, client) = (stack(left, "10.0.0.1/24", 1), stack(right, "10.0.0.2/24", 2));
    let settle = || {
        (0..20).for_each(|_| {
            server.poll(server.now());
            client.poll(client.now());
        })
    };
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Arc::clone(&woken).into();
    let mut cx = Context::from_waker(&waker);
    let count = || woken.0.swap(0, Ordering::Relaxed);

    let mut listener = AsyncTcpListener::bind(&server, SERVER).expect("a free port");
    assert!(listener.poll_accept(&mut cx).is_pending());
    settle();
    assert_eq!(count(), 0, "nobody connects");
    let mut connecting = Box::pin(AsyncTcpStream::connect(&client, SERVER.parse().expect("an address")));
    assert!(connecting.as_mut().poll(&mut cx).is_pending());
    settle();
    assert_eq!(count(), 2, "both ends are woken, once");
    let Poll::Ready(Ok(mut ours)) = connecting.as_mut().poll(&mut cx) else { panic!("it is connected") };
    let Poll::Ready(Ok((mut theirs, _))) = listener.poll_accept(&mut cx) else { panic!("it is accepted") };

    let mut buf = [0; 100];
    assert!(theirs.poll_read(&mut cx, &mut buf).is_pending());
    assert!(theirs.poll_read(&mut cx, &mut buf).is_pending(), "it may be asked again");
    settle();
    assert_eq!(count(), 0);
    assert!(matches!(ours.poll_write(&mut cx, b"hello"), Poll::Ready(Ok(5))));
    settle();
    assert_eq!(count(), 1, "one waiter, whoever asks how often");
    assert!(matches!(theirs.poll_read(&mut cx, &mut buf), Poll::Ready(Ok(5))));
    assert!(matches!(ours.poll_write(&mut cx, b"again"), Poll::Ready(Ok(5))));
    settle();
    assert_eq!(count(), 0, "nobody waits, nobody is woken");
    assert!(matches!(theirs.poll_readable(&mut cx), Poll::Ready(Ok(ready)) if ready.readable));
    assert!(matches!(theirs.poll_read(&mut cx, &mut buf), Poll::Ready(Ok(5))));
    assert!(theirs.poll_read(&mut cx, &mut buf).is_pending());
    server.shutdown();
    assert_eq!(count(), 1, "the end of the stack wakes who waits");
    let Poll::Ready(Err(error)) = theirs.poll_read(&mut cx, &mut buf) else { panic!("the stack is down") };
    assert_eq!(error.kind(), io::ErrorKind::NetworkDown);
    server.ledger().check().expect("the books balance");
}

async fn echo_datagrams(mut socket: AsyncUdpSocket, count: usize) -> io::Result<()> {
    let mut buf = [0; 2_000];
    for _ in 0..count {
        let (len, from) = socket.recv_from(&mut buf).await?;
        socket.writable().await?;
        socket.send_to(&buf[..len], from).await?;
    }
    Ok(())
}

async fn ask_by_datagrams(mut socket: AsyncUdpSocket, count: usize) -> io::Result<()> {
    let mut buf = [0; 2_000];
    for number in 0..count {
        let text = vec![number as u8; 1 + number % 1_400];
        assert_eq!(socket.send(&text).await?, text.len());
        let ready = socket.readable().await?;
        assert!(ready.readable && !ready.error, "{ready:?}");
        let (len, _) = socket.peek_from(&mut buf).await?;
        assert_eq!(buf[..len], text);
        assert_eq!(socket.recv(&mut buf).await?, text.len());
    }
    Ok(())
}

/// Clients that ask and a server that echoes, each a task.
fn datagrams(server: &Stack, client: &Stack, idle: impl FnMut() -> Duration) {
    const QUESTIONS: usize = 200;
    let queue = Arc::new(Queue::default());
    let socket = AsyncUdpSocket::bind(server, "10.0.0.1:53").expect("a free port");
    spawn(&queue, echo_datagrams(socket, QUESTIONS * CLIENTS));
    for _ in 0..CLIENTS {
        let socket = AsyncUdpSocket::bind(client, "10.0.0.2:0").expect("a free port");
        socket.socket().connect("10.0.0.1:53").expect("on the link");
        spawn(&queue, ask_by_datagrams(socket, QUESTIONS));
    }
    run(&queue, idle);
    for stack in [server, client] {
        stack.shutdown();
        stack.ledger().check().expect("the books balance");
        assert_eq!(stack.ledger().held(), 0);
    }
}

#[test]
fn tasks_exchange_datagrams_while_softirq_threads_wake_them() {
    let (server, client) = stacks(Mode::Threads);
    datagrams(&server, &client, || Duration::from_secs(1));
}

#[test]
fn tasks_exchange_datagrams_on_an_executor_that_polls_the_stacks_when_it_is_idle() {
    let (server, client) = stacks(Mode::Polled);
    datagrams(&server, &client, || {
        server.poll(server.now());
        client.poll(client.now());
        Duration::ZERO
    });
}

#[test]
fn who_waits_for_a_stack_polls_its_queues_before_he_sleeps() {
    let (left, right) = wire::pair(WireConfig::named("left"), WireConfig::named("right"));
    let stack = |device, address: &str| {
        let interface = Interface::new(device).address(address).expect("an address");
        let builder = Stack::builder().mode(Mode::Polled).interface(interface);
        builder.sysctl("net.core.busy_poll", "1000000").expect("a sysctl").build().expect("a stack")
    };
    let (server, client) = (stack(left, "10.0.0.1/24"), stack(right, "10.0.0.2/24"));
    let socket = UdpSocket::bind(&server, "10.0.0.1:53").expect("a free port");
    socket.set_nonblocking(true).expect("it is");
    let asking = UdpSocket::bind(&client, "10.0.0.2:0").expect("a free port");
    asking.send_to(b"who is there?", "10.0.0.1:53").expect("on the link");
    let end = server.now() + 60_000_000_000;
    let mut buf = [0; 64];
    while socket.recv(&mut buf).is_err() && server.now() < end {
        // Nobody polls: waiting does, until a packet comes.
        server.wait(Some(server.now() + 1_000_000)).expect("there is something to wait for");
        client.wait(Some(client.now() + 1_000_000)).expect("there is something to wait for");
    }
    assert_eq!(&buf[..13], b"who is there?");
    for stack in [server, client] {
        stack.shutdown();
        stack.ledger().check().expect("the books balance");
    }
}
