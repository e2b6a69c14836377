//! The shim before HTTP/2: whatever `:authority` a client sends, the server reads `localhost`.
//!
//! The kubelet sends the socket's path, percent-encoded or raw, and C-core the same without its first slash. None of
//! these is an authority, and h2 (0.4.20) resets the stream; it has no option for that. A Go server takes anything.

mod rewriter;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use rewriter::Rewriter;

/// Bytes that are read at once. A registration is smaller.
const READ: usize = 4 * 1024;

/// A connection as the server reads it; what the server writes passes untouched. It reads from the client only when
/// the server asks for more, and holds a block of headers at most.
pub(super) struct LocalAuthority<S> {
    stream: S,
    rewriter: Rewriter,
    /// Read from the client; the rewriter has still to take it from `taken` on.
    input: Vec<u8>,
    taken: usize,
    /// For the server; it has had it up to `given`.
    output: Vec<u8>,
    given: usize,
}

impl<S> LocalAuthority<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            rewriter: Rewriter::new(),
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            given: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LocalAuthority<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let ready = &this.output[this.given..];
            if !ready.is_empty() {
                let now = ready.len().min(buf.remaining());
                buf.put_slice(&ready[..now]);
                this.given += now;
                return Poll::Ready(Ok(()));
            }
            this.output.clear();
            this.given = 0;
            if this.taken < this.input.len() {
                let fed = this.rewriter.feed(&this.input[this.taken..], &mut this.output);
                this.taken += fed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                continue;
            }
            this.input.resize(READ, 0);
            this.taken = READ;
            let mut read = ReadBuf::new(&mut this.input);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            let length = read.filled().len();
            this.input.truncate(length);
            this.taken = 0;
            if length == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LocalAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod over_h2;
#[cfg(test)]
mod tests;
