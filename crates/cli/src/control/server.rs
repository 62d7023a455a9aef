//! The control socket of a running stack.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;

use super::{Ask, MAX_REQUEST, Reply};

/// Connections at a time; further ones are told so and closed.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send its next request or to take a reply.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a client that is refused may take to close.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What answers requests.
pub trait Answer: Send + Sync + 'static {
    /// Answers a request, by as many replies as it takes: each goes to `send`, whose error means that the client went
    /// away.
    ///
    /// # Errors
    /// That of `send`.
    fn answer(&self, ask: Ask, send: &mut dyn FnMut(Reply) -> io::Result<()>) -> io::Result<()>;
}

/// A control socket in service; it is removed when this is dropped. Connections that are open then end with the process.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    closing: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Makes the socket, for this user alone, and answers from now on. Call it before other threads make files: the
    /// process's file mode mask is changed meanwhile.
    ///
    /// # Errors
    /// `AddrInUse` if another process answers there; else what the system says. The text has the mend.
    pub fn start(path: &Path, answer: Arc<dyn Answer>) -> io::Result<Server> {
        let listener = bind(path)?;
        let closing = Arc::<AtomicBool>::default();
        let accepting = thread::Builder::new().name("control".to_owned()).spawn({
            let closing = Arc::clone(&closing);
            move || accept(&listener, &answer, &closing)
        })?;
        Ok(Server { path: path.to_owned(), closing, accepting: Some(accepting) })
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // Wakes the accepting thread; if nobody can connect, it sleeps on until the process ends.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = std::fs::remove_file(&self.path);
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            let _ = accepting.join();
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let failed = |error: io::Error| {
        let mend = match error.kind() {
            io::ErrorKind::NotFound => "; make the folder, or choose another with --control",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "; choose a folder of your own with --control, or set XDG_RUNTIME_DIR"
            }
            _ => "; choose another place with --control",
        };
        io::Error::new(error.kind(), format!("control socket {}: {error}{mend}", path.display()))
    };
    match bind_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                let what = "another rxpath answers there; end it, or choose another place with --control";
                return Err(io::Error::new(error.kind(), format!("control socket {}: {what}", path.display())));
            }
            // Left by a process that was killed. Anything but a socket stays where it is.
            if !is_socket(path) {
                return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there")));
            }
            std::fs::remove_file(path).map_err(failed)?;
            bind_private(path).map_err(failed)
        }
        bound => bound.map_err(failed),
    }
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

fn accept(listener: &UnixListener, answer: &Arc<dyn Answer>, closing: &AtomicBool) {
    let open = Arc::<AtomicUsize>::default();
    for stream in listener.incoming() {
        if closing.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, as a rule: others must close theirs first.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        let place = Place::take(&open);
        let answer = Arc::clone(answer);
        let serve = move || {
            let _ = match place {
                Some(_place) => converse(stream, &*answer),
                None => refuse(&stream, format!("{MAX_CONNECTIONS} are asking already; try again later")),
            };
        };
        // Without a thread the connection closes: the client says that it got no answer.
        let _ = thread::Builder::new().name("control-client".to_owned()).spawn(serve);
    }
}

/// One of the connections that there may be at a time.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(Arc::clone(open));
        (open.fetch_add(1, Ordering::AcqRel) < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One client: its requests, one after the other, until it closes or does nothing for too long.
fn converse(stream: UnixStream, answer: &dyn Answer) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader.by_ref().take(MAX_REQUEST as u64).read_until(b'\n', &mut line)?;
        if n == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && n == MAX_REQUEST {
            // Where the next request would begin is unknown.
            return refuse(&stream, format!("a request has at most {MAX_REQUEST} bytes, one line"));
        }
        match serde_json::from_slice::<Ask>(&line) {
            Ok(ask) => answer.answer(ask, &mut |reply| send(&stream, reply))?,
            Err(error) => {
                let example = r#"{"ask":"counters"}"#;
                send(&stream, Reply::Error(format!("the request is not understood: {error}; ask as in {example}")))?;
            }
        }
    }
}

fn send(mut stream: &UnixStream, reply: Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The last reply of a connection. What still comes is read for a moment: closed with unread bytes, the socket would lose
/// the reply.
fn refuse(mut stream: &UnixStream, why: String) -> io::Result<()> {
    stream.set_read_timeout(Some(LAST_WORDS))?;
    send(stream, Reply::Error(why))?;
    stream.shutdown(Shutdown::Write)?;
    let mut forgotten = [0; 4_096];
    for _ in 0..MAX_REQUEST / forgotten.len() {
        if stream.read(&mut forgotten)? == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::Client;
    use crate::control::tests::socket_path;

    /// Answers `select` with what was asked and everything else with an error.
    struct Echo;

    impl Answer for Echo {
        fn answer(&self, ask: Ask, send: &mut dyn FnMut(Reply) -> io::Result<()>) -> io::Result<()> {
            match ask {
                Ask::Select { lives } => send(Reply::Ok(lives.into())),
                _ => send(Reply::Error("no; ask for select".to_owned())),
            }
        }
    }

    fn raw(path: &Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).expect("the server is there");
        stream.write_all(request).expect("sent");
        stream.shutdown(Shutdown::Write).expect("shut down");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    #[test]
    fn questions_are_answered_one_after_the_other() {
        let path = socket_path("questions");
        let _server = Server::start(&path, Arc::new(Echo)).expect("starts");
        let mut client = Client::connect(Some(&path)).expect("connects");
        for text in ["a", "b\n\"c"] {
            let answer: String = client.ask(&Ask::Select { lives: text.to_owned() }).expect("an answer");
            assert_eq!(answer, text);
        }
        let error = client.ask::<String>(&Ask::Counters).expect_err("refused");
        assert!(error.to_string().ends_with("no; ask for select"), "{error}");
        assert_eq!(client.ask::<String>(&Ask::Select { lives: "d".to_owned() }).expect("still open"), "d");
    }

    #[test]
    fn malformed_requests_are_answered_and_the_connection_stays() {
        let path = socket_path("malformed");
        let _server = Server::start(&path, Arc::new(Echo)).expect("starts");
        let text = raw(&path, b"hello\n{\"ask\":\"fly\"}\n\xff\n{\"ask\":\"select\",\"lives\":\"x\"}\n");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[..3].iter().all(|line| line.starts_with(r#"{"error":"the request is not understood: "#)),
            "{text}"
        );
        assert_eq!(lines[3], r#"{"ok":"x"}"#);
    }

    #[test]
    fn an_endless_request_is_refused() {
        let path = socket_path("endless");
        let _server = Server::start(&path, Arc::new(Echo)).expect("starts");
        let text = raw(&path, &b"x".repeat(MAX_REQUEST));
        assert_eq!(text, "{\"error\":\"a request has at most 16384 bytes, one line\"}\n");
    }

    #[test]
    fn connections_are_bounded() {
        let path = socket_path("bounded");
        let _server = Server::start(&path, Arc::new(Echo)).expect("starts");
        let mut held: Vec<Client> = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut client = Client::connect(Some(&path)).expect("connects");
            client.ask::<String>(&Ask::Select { lives: String::new() }).expect("an answer");
            held.push(client);
        }
        assert!(raw(&path, b"{}\n").contains("32 are asking already"));
    }

    #[test]
    fn the_socket_is_private_and_goes_with_the_server() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = socket_path("private");
        let server = Server::start(&path, Arc::new(Echo)).expect("starts");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        let second = Server::start(&path, Arc::new(Echo)).expect_err("in use");
        assert!(second.to_string().contains("another rxpath answers there"), "{second}");
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_was_left_is_replaced_and_a_file_is_not() {
        let path = socket_path("left");
        drop(UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "std leaves the file");
        drop(Server::start(&path, Arc::new(Echo)).expect("replaces it"));
        std::fs::write(&path, "mine").expect("written");
        let error = Server::start(&path, Arc::new(Echo)).expect_err("a file is there");
        assert!(error.to_string().contains("no socket is there"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("untouched"), "mine");
        std::fs::remove_file(&path).expect("removed");
    }
}
