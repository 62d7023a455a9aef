//! Connections whose segments are signed: TCP MD5 (RFC 2385) and TCP-AO (RFC 5925), as Linux has them (`TCP_MD5SIG_EXT`,
//! `TCP_AO_ADD_KEY`, `TCP_AO_DEL_KEY`, `TCP_AO_INFO`, `TCP_AO_GET_KEYS`).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use rxpath_core::tcp::{
    AoCounters, AoInfo, AoKey, AoKeyInfo, AoSettings, AuthKeys, KeyError, Md5Key, Peers, SockOptions, TcpSock,
};

use super::call::{each_addr, key_error};
use super::{TcpListener, TcpStream};
use crate::stack::Stack;

impl TcpListener {
    /// Changes the keys with which segments of handshakes are verified and answered. Connections inherit those for their
    /// peer when their handshake ends: those that wait to be accepted keep what they have, half-open ones have the new keys
    /// at once. From peers that a key is for nothing else is taken; for others nothing changes.
    ///
    /// # Errors
    /// What `change` gives, as [`KeyError`] says, with a kind of [`std::io::Error`] that is nearest.
    pub fn change_keys<R>(&self, change: impl FnOnce(&mut AuthKeys) -> Result<R, KeyError>) -> io::Result<R> {
        self.core().auth.change(change).map_err(key_error)
    }

    /// The keys as they are now.
    pub fn keys(&self) -> AuthKeys {
        self.core().auth.keys()
    }

    /// What was seen of TCP-AO in handshakes.
    pub fn ao_counters(&self) -> AoCounters {
        self.core().auth.ao_counters()
    }
}

impl TcpStream {
    /// As [`TcpStream::connect_with`], with keys that sign and verify from the SYN on. For an address that a key of TCP-AO is
    /// for, that is used; else one of MD5; else segments are not signed. A peer with another key, or none, does not answer.
    ///
    /// ```
    /// # use rxpath::device::wire::{self, WireConfig};
    /// # use rxpath::net::{AoKey, AuthKeys, Peers, Secret, SockOptions, TcpListener, TcpStream};
    /// # use rxpath::{Interface, Stack};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
    /// # let server = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).build()?;
    /// # let client = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
    /// let secret = Secret::new(b"known to both")?;
    /// let listener = TcpListener::bind(&server, "10.0.0.1:179")?;
    /// let clients = Peers::network([10, 0, 0, 0], 24)?;
    /// listener.change_keys(|keys| keys.add_ao(AoKey::new(clients, 7, secret)))?;
    ///
    /// let mut keys = AuthKeys::new();
    /// keys.add_ao(AoKey::new(Peers::one([10, 0, 0, 1])?, 7, secret))?;
    /// let session = TcpStream::connect_signed(&client, "10.0.0.1:179", &SockOptions::default(), &keys)?;
    /// let (peer, _) = listener.accept()?;
    /// assert!(session.ao_info().is_some() && peer.ao_info().is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`TcpStream::connect_with`]; `InvalidInput` or `NotFound` if TCP-AO is required, or a key is asked for, and there is
    /// none such for the address. `TimedOut` where the peer does not sign alike.
    pub fn connect_signed(
        stack: &Stack,
        addrs: impl ToSocketAddrs,
        options: &SockOptions,
        keys: &AuthKeys,
    ) -> io::Result<TcpStream> {
        each_addr(addrs, |addr| TcpStream::begin_signed(stack, None, addr, options, keys)?.when_connected())
    }

    /// As [`TcpStream::connect_nonblocking`], with keys as [`TcpStream::connect_signed`] has them.
    ///
    /// # Errors
    /// As [`TcpStream::connect_nonblocking`]; `InvalidInput` or `NotFound` if TCP-AO is required, or a key is asked for, and
    /// there is none such for the address.
    pub fn connect_signed_nonblocking(
        stack: &Stack,
        port: Option<u16>,
        addr: SocketAddr,
        options: &SockOptions,
        keys: &AuthKeys,
    ) -> io::Result<TcpStream> {
        let stream = TcpStream::begin_signed(stack, port, addr, options, keys)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Adds a key of MD5, in place of one for exactly the same peers. If it is the one for the peer, segments are signed with
    /// it from now on, and others dropped.
    ///
    /// # Errors
    /// `OutOfMemory` with as many keys as there may be; `InvalidInput` on a connection of TCP-AO.
    pub fn add_md5_key(&self, key: Md5Key) -> io::Result<()> {
        self.change_keys(|sk| sk.add_md5_key(key))
    }

    /// Removes the key of MD5 for exactly these peers: segments are signed with the next best, or not any more.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_md5_key(&self, peers: Peers) -> io::Result<()> {
        self.change_keys(|sk| sk.remove_md5_key(peers))
    }

    /// The keys of MD5.
    pub fn md5_keys(&self) -> Vec<Md5Key> {
        self.0.with(0, |sk| sk.md5_keys().to_vec())
    }

    /// Adds a master key tuple to a connection of TCP-AO. Which one is used is chosen by [`TcpStream::choose_ao_keys`] or by
    /// the peer.
    ///
    /// # Errors
    /// `AlreadyExists` if one of its numbers is taken; `InvalidInput` if it is not for the peer, or the connection is not of
    /// TCP-AO; `OutOfMemory` with as many keys as there may be.
    pub fn add_ao_key(&self, key: AoKey) -> io::Result<()> {
        self.change_keys(|sk| sk.add_ao_key(key))
    }

    /// Removes the master key tuple of these numbers, ours and the peer's. One that is in use goes only if others take its
    /// place: one to sign with, by our number, and one to ask the peer for, by its number.
    ///
    /// # Errors
    /// `NotFound`; `ResourceBusy` if it is in use; `InvalidInput` if the connection is not of TCP-AO.
    pub fn remove_ao_key(&self, ids: (u8, u8), current: Option<u8>, rnext: Option<u8>) -> io::Result<()> {
        self.change_keys(|sk| sk.remove_ao_key(ids, current, rnext))
    }

    /// Chooses the key to sign with, by our number, until the peer asks for another; and the key that the peer is asked to
    /// sign with, by its number.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` if the connection is not of TCP-AO.
    pub fn choose_ao_keys(&self, current: Option<u8>, rnext: Option<u8>) -> io::Result<()> {
        self.change_keys(|sk| sk.choose_ao_keys(current, rnext))
    }

    /// Sets what else a connection of TCP-AO does, and its counters.
    ///
    /// # Errors
    /// `InvalidInput` if the connection is not of TCP-AO.
    pub fn set_ao(&self, settings: Option<AoSettings>, counters: Option<AoCounters>) -> io::Result<()> {
        self.change_keys(|sk| sk.set_ao(settings, counters))
    }

    /// What the connection tells of TCP-AO; None if it does not use it.
    pub fn ao_info(&self) -> Option<AoInfo> {
        self.0.with(0, |sk| sk.ao_info())
    }

    /// The master key tuples of the connection, in the order in which they came.
    pub fn ao_keys(&self) -> Vec<AoKeyInfo> {
        self.0.with(0, |sk| sk.ao_keys())
    }

    fn change_keys(&self, change: impl FnOnce(&mut TcpSock) -> Result<(), KeyError>) -> io::Result<()> {
        let inner = &*self.0;
        inner.stack.core().change_keys(&inner.sock, inner.stack.now(), change).map_err(key_error)
    }
}
