//! Where clients come in, and what a client's connection may cost: how many there are, and how long one may stand still.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::actor::Actor;

/// Connections of one server at once; more wait.
const CONNECTIONS: usize = 64;

/// A connection over which nothing moved for so long is closed: an answer that is not read, a request that never ends.
const STANDSTILL: Duration = Duration::from_secs(60);

/// How long accepting rests after an error: out of file descriptors, most likely, and others will be closed.
const REST: Duration = Duration::from_millis(100);

/// A socket that listens.
pub(crate) trait Accept: Send + Sync + 'static {
    /// What comes of it.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Who is at its other end, as far as that matters here.
    type Peer: Clone + Send + Sync + 'static;

    /// The next connection.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Stream>>;

    /// Who made it.
    fn peer(stream: &Self::Stream) -> Self::Peer;
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    type Peer = Actor;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        UnixListener::poll_accept(self, cx).map_ok(|(stream, _)| stream)
    }

    fn peer(stream: &UnixStream) -> Actor {
        Actor::of(stream)
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Peer = ();

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        TcpListener::poll_accept(self, cx).map_ok(|(stream, _)| stream)
    }

    fn peer(_: &TcpStream) {}
}

/// A listening socket that lets in as many as there is room for.
pub(crate) struct Door<L> {
    listener: L,
    slots: Slots,
}

impl<L: Accept> Door<L> {
    /// Opens it.
    pub(crate) fn new(listener: L) -> Door<L> {
        Door { listener, slots: Slots::new() }
    }
}

impl<L: Accept> Listener for Door<L> {
    type Io = Bounded<L::Stream>;
    type Addr = L::Peer;

    async fn accept(&mut self) -> (Self::Io, L::Peer) {
        let listener = &self.listener;
        let connection = self.slots.fill(|cx| listener.poll_accept(cx)).await;
        let peer = L::peer(&connection.stream);
        (connection, peer)
    }

    /// Nobody asks for it.
    fn local_addr(&self) -> io::Result<L::Peer> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The places for connections of one server.
struct Slots(Arc<Semaphore>);

impl Slots {
    /// All free.
    fn new() -> Slots {
        Slots(Arc::new(Semaphore::new(CONNECTIONS)))
    }

    /// The next connection that polling `accept` brings, once there is a place for it.
    async fn fill<S>(&self, mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>) -> Bounded<S> {
        // The semaphore is never closed.
        let slot = Arc::clone(&self.0).acquire_owned().await.ok();
        loop {
            match poll_fn(&mut accept).await {
                Ok(stream) => return Bounded::new(stream, slot),
                Err(error) => tracing::warn!(%error, "cannot accept a connection"),
            }
            sleep(REST).await;
        }
    }
}

/// A connection that fails when nothing moves.
pub(crate) struct Bounded<S> {
    stream: S,
    deadline: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<S> Bounded<S> {
    /// A connection, with the place that it takes.
    pub(crate) fn new(stream: S, slot: Option<OwnedSemaphorePermit>) -> Bounded<S> {
        Bounded { stream, deadline: Box::pin(sleep(STANDSTILL)), _slot: slot }
    }

    /// Passes on what a read or write came to: progress puts the deadline off, standstill beyond it is an error.
    fn watch<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.deadline.as_mut().reset(Instant::now() + STANDSTILL);
            return result;
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(cx, result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn connection(slots: &Slots) -> (Bounded<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(4);
        let mut ours = Some(ours);
        (slots.fill(|_| Poll::Ready(ours.take().ok_or_else(|| io::Error::other("taken")))).await, theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut_off_and_who_reads_slowly_is_not() {
        let slots = Slots::new();
        let (mut ours, mut theirs) = connection(&slots).await;
        let writing = tokio::spawn(async move { ours.write_all(&[0; 64]).await });
        let mut buffer = [0; 4];
        for _ in 0..8 {
            sleep(STANDSTILL / 2).await;
            theirs.read_exact(&mut buffer).await.unwrap();
        }
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_its_connection_ends() {
        let slots = Slots::new();
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            all.push(connection(&slots).await);
        }
        let waiting = tokio::time::timeout(Duration::from_secs(1), connection(&slots)).await;
        assert!(waiting.is_err());
        all.pop();
        connection(&slots).await;
    }
}
