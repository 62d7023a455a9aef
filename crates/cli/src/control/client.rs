//! Asking a running stack.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use serde::de::DeserializeOwned;

use super::{Ask, Reply, default_path};

/// A connection to the control socket of a running stack.
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the socket at `path`, by default at [`default_path`].
    ///
    /// # Errors
    /// Nobody answers there; the text says what to do.
    pub fn connect(path: Option<&Path>) -> anyhow::Result<Client> {
        let path = path.map_or_else(default_path, Path::to_path_buf);
        let stream = UnixStream::connect(&path).with_context(|| {
            format!(
                "no stack is reached at {}: start `rxpath serve`, or say with --control where its socket is",
                path.display()
            )
        })?;
        Ok(Client { path, stream: BufReader::new(stream) })
    }

    /// Asks, and gives the answer.
    ///
    /// # Errors
    /// The other side refuses, goes away, or answers what is not understood.
    pub fn ask<T: DeserializeOwned>(&mut self, ask: &Ask) -> anyhow::Result<T> {
        self.send(ask)?;
        self.next()?.ok_or_else(|| anyhow!("{}: the stack went away without an answer", self.path.display()))
    }

    /// Asks what has more than one answer; [`Client::next`] gives them.
    ///
    /// # Errors
    /// The other side went away.
    pub fn send(&mut self, ask: &Ask) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(ask)?;
        line.push('\n');
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        sent.with_context(|| format!("{}: asking the stack", self.path.display()))
    }

    /// The next answer; none if the other side closed.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let path = self.path.display();
        let mut line = String::new();
        let n = self.stream.read_line(&mut line).with_context(|| format!("{path}: waiting for the stack's answer"))?;
        if n == 0 {
            return Ok(None);
        }
        if !line.ends_with('\n') {
            bail!("{path}: the stack went away, or waited too long for its answer to be taken, in the middle of it");
        }
        match serde_json::from_str(&line).with_context(|| format!("{path}: what answers there is not rxpath"))? {
            Reply::Ok(value) => {
                let answer = serde_json::from_value(value);
                Ok(Some(answer.with_context(|| format!("{path}: the answer of another version of rxpath"))?))
            }
            Reply::Error(why) => bail!("{path}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::control::tests::socket_path;

    #[test]
    fn half_an_answer_is_none() {
        let path = socket_path("half");
        let listener = UnixListener::bind(&path).expect("bound");
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(b"{\"ok\":1}\n{\"ok\":").expect("taken");
        });
        let mut client = Client::connect(Some(&path)).expect("connected");
        assert_eq!(client.next::<u32>().expect("an answer"), Some(1));
        answering.join().expect("answered");
        let error = client.next::<u32>().expect_err("half of one").to_string();
        assert!(error.ends_with("in the middle of it"), "{error}");
        assert_eq!(client.next::<u32>().expect("the end"), None);
        std::fs::remove_file(&path).expect("removed");
    }
}
