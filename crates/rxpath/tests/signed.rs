//! Two stacks whose segments are signed, over a cable that loses and reorders nothing, and one that has another key.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use rxpath::device::wire::{self, WireConfig};
use rxpath::net::{
    AoAlgorithm, AoKey, AoSettings, AsyncTcpStream, AuthKeys, Md5Key, Peers, Secret, SockOptions, TcpListener,
    TcpStream,
};
use rxpath::rxpath_trace::Counter;
use rxpath::{Interface, Stack};

const BYTES: usize = 1 << 20;
const SERVER: &str = "10.0.0.1:179";

fn stacks() -> (Stack, Stack) {
    let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    let build = |wire, address| {
        let interface = Interface::new(wire).address(address).expect("an address");
        Stack::builder().interface(interface).build().expect("a stack")
    };
    (build(a, "10.0.0.1/24"), build(b, "10.0.0.2/24"))
}

fn settle(stacks: &[&Stack]) {
    thread::sleep(Duration::from_millis(200));
    for stack in stacks {
        stack.shutdown();
        let ledger = stack.ledger();
        ledger.check().unwrap_or_else(|imbalance| panic!("{imbalance}\n{}", ledger.details()));
    }
}

fn peers(addr: [u8; 4], prefix: u8) -> Peers {
    Peers::network(addr, prefix).expect("a network")
}

fn secret(bytes: &[u8]) -> Secret {
    Secret::new(bytes).expect("a secret")
}

fn connect(client: &Stack, keys: &AuthKeys) -> std::io::Result<TcpStream> {
    let mut options = SockOptions::default();
    options.syn_retries = Some(1);
    TcpStream::connect_signed(client, SERVER, &options, keys)
}

/// Sends the same both ways at once, and reads it.
fn exchange(one: &TcpStream, other: &TcpStream, seed: u8) {
    let data: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8 ^ seed).collect();
    thread::scope(|scope| {
        for stream in [one, other] {
            let mut writing = stream.try_clone().expect("a handle");
            let data = &data;
            scope.spawn(move || writing.write_all(data).expect("it is taken"));
        }
        for stream in [one, other] {
            let mut reading = stream.try_clone().expect("a handle");
            let data = &data;
            scope.spawn(move || {
                let mut back = vec![0; BYTES];
                reading.read_exact(&mut back).expect("it comes");
                assert!(back == *data);
            });
        }
    });
}

fn close(one: TcpStream, other: TcpStream) {
    one.shutdown(Shutdown::Write).expect("a half-close");
    other.shutdown(Shutdown::Write).expect("a half-close");
    for mut stream in [&one, &other] {
        assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    }
}

#[test]
fn md5_connections_carry_data_and_others_are_refused_in_silence() {
    let (server, client) = stacks();
    let listener = TcpListener::bind(&server, SERVER).expect("a free port");
    let key = |secret_of: &[u8]| Md5Key { peers: peers([10, 0, 0, 0], 24), secret: secret(secret_of) };
    listener.change_keys(|keys| keys.add_md5(key(b"secret"))).expect("a key");
    let mut keys = AuthKeys::new();
    keys.add_md5(key(b"secret")).expect("a key");
    let one = connect(&client, &keys).expect("the same key");
    let (other, _) = listener.accept().expect("a connection");
    exchange(&one, &other, 1);
    for stream in [&one, &other] {
        let peers = Peers::one(stream.peer_addr().expect("a peer").ip()).expect("an address");
        stream.add_md5_key(Md5Key { peers, secret: secret(b"new") }).expect("a key of more weight, or in its place");
    }
    exchange(&one, &other, 2);
    // An acknowledgement that was under way when the keys changed has the signature of before.
    let failures = || [&server, &client].map(|stack| stack.snapshot()[Counter::TcpExtTCPMD5Failure]);
    let at_change = failures();
    assert_eq!(
        (one.md5_keys().len(), other.md5_keys().len()),
        (2, 1),
        "a listener's key is inherited for the peer alone"
    );
    assert_eq!(one.remove_md5_key(peers([10, 0, 0, 0], 31)).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    close(one, other);
    let mut wrong = AuthKeys::new();
    wrong.add_md5(key(b"wrong")).expect("a key");
    let to: SocketAddr = SERVER.parse().expect("an address");
    let unsigned = TcpStream::connect_timeout(&client, &to, Duration::from_millis(300)).map_err(|error| error.kind());
    assert_eq!(unsigned.map(|_| ()), Err(ErrorKind::TimedOut));
    let counters = server.snapshot();
    assert!(counters[Counter::TcpExtTCPMD5NotFound] > 0);
    assert_eq!(failures(), at_change);
    settle(&[&server, &client]);
}

#[test]
fn who_does_not_wait_connects_with_keys_too() {
    let (server, client) = stacks();
    let listener = TcpListener::bind(&server, SERVER).expect("a free port");
    let key = AoKey::new(peers([10, 0, 0, 0], 24), 1, secret(b"secret"));
    listener.change_keys(|keys| keys.add_ao(key)).expect("a key");
    let mut keys = AuthKeys::new();
    keys.add_ao(key).expect("a key");
    let (to, options) = (SERVER.parse().expect("an address"), SockOptions::default());
    let one = TcpStream::connect_signed_nonblocking(&client, Some(4_000), to, &options, &keys).expect("it begins");
    let (other, from) = listener.accept().expect("a connection");
    assert_eq!(from.port(), 4_000);
    assert!(one.readiness().writable && one.take_error().expect("a look").is_none());
    one.set_nonblocking(false).expect("it is one");
    exchange(&one, &other, 1);
    close(one, other);
    let connecting = AsyncTcpStream::connect_signed(&client, to, &options, &keys);
    let one = block_on(connecting).expect("the same key").into_inner();
    let (other, _) = listener.accept().expect("a connection");
    assert!(one.ao_info().is_some() && other.ao_info().is_some());
    exchange(&one, &other, 2);
    close(one, other);
    settle(&[&server, &client]);
}

#[test]
fn ao_connections_carry_data_while_their_keys_change() {
    let (server, client) = stacks();
    let listener = TcpListener::bind(&server, SERVER).expect("a free port");
    let first = AoKey::new(peers([10, 0, 0, 0], 24), 1, secret(b"first"));
    let second = AoKey {
        algorithm: AoAlgorithm::Aes128Cmac,
        mac_len: 16,
        exclude_options: true,
        ..AoKey::new(peers([10, 0, 0, 0], 24), 2, secret(b"second"))
    };
    listener.change_keys(|keys| keys.add_ao(first)).expect("a key");
    let mut keys = AuthKeys::new();
    keys.add_ao(first).expect("a key");
    let one = connect(&client, &keys).expect("the same key");
    let (other, _) = listener.accept().expect("a connection");
    exchange(&one, &other, 1);
    for stream in [&one, &other] {
        stream.add_ao_key(second).expect("a key more");
        assert_eq!(stream.add_ao_key(second).map_err(|error| error.kind()), Err(ErrorKind::AlreadyExists));
    }
    // Each asks the other for the second key, by what it sends next.
    one.choose_ao_keys(None, Some(2)).expect("it is there");
    other.choose_ao_keys(None, Some(2)).expect("it is there");
    exchange(&one, &other, 2);
    for stream in [&one, &other] {
        let info = stream.ao_info().expect("it is authenticated");
        assert_eq!((info.current, info.rnext), (2, 2));
        assert_eq!((info.counters.bad, info.counters.key_not_found, info.counters.required), (0, 0, 0));
        stream.remove_ao_key((1, 1), None, None).expect("nobody uses it");
        assert_eq!(
            stream.remove_ao_key((2, 2), None, None).map_err(|error| error.kind()),
            Err(ErrorKind::ResourceBusy)
        );
        stream.set_ao(Some(AoSettings { accept_icmps: true, ..info.settings }), None).expect("a setting");
    }
    exchange(&one, &other, 3);
    let keys_left = one.ao_keys();
    assert_eq!(keys_left.len(), 1);
    assert!(keys_left[0].good > 0 && keys_left[0].bad == 0);
    close(one, other);
    assert!(listener.ao_counters().good >= 2, "SYN and third segment");
    keys.settings.required = true;
    keys.remove_ao(first.peers, 1, 1).expect("it was there");
    assert_eq!(connect(&client, &keys).map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::InvalidInput));
    settle(&[&server, &client]);
}

/// Waits for a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
