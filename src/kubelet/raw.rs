//! A client made of raw HTTP/2 frames, for tests: it sends what no library would.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::hpack::{Decoder, write_literal};

/// What is waited for longer than this does not come, and the test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A client of raw frames.
pub(super) struct Raw {
    pub(super) stream: UnixStream,
    decoder: Decoder,
}

impl Raw {
    pub(super) async fn new(mut stream: UnixStream) -> Self {
        // Room for all answers: no window is ever updated again.
        let window = frame(8, 0, 0, &0x7000_0000_u32.to_be_bytes());
        stream
            .write_all(&[PREFACE, &frame(4, 0, 0, &[]), &window].concat())
            .await
            .unwrap();
        Self {
            stream,
            decoder: Decoder::new(),
        }
    }

    /// Type, flags, stream and payload of the next frame; `None` when the server has gone or says nothing for long.
    pub(super) async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        timeout(PATIENCE, self.next_frame()).await.ok()?.ok()
    }

    async fn next_frame(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let [_, _, _, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// The message and the `grpc-status` that the server answers on a stream; `None` when it resets the stream or
    /// goes.
    pub(super) async fn answer(&mut self, wanted: u32) -> Option<(Vec<u8>, String)> {
        let mut message = Vec::new();
        loop {
            let (kind, flags, stream, payload) = self.frame().await?;
            match kind {
                0 if stream == wanted => message.extend(payload),
                1 => {
                    for field in self.decoder.decode(&payload).unwrap() {
                        if stream == wanted && field.name == "grpc-status" {
                            return Some((message, String::from_utf8(field.value.to_vec()).unwrap()));
                        }
                    }
                }
                3 if stream == wanted => return None,
                // SETTINGS and PING are acknowledged.
                4 | 6 if flags & 1 == 0 => {
                    let payload = if kind == 4 { vec![] } else { payload };
                    self.stream.write_all(&frame(kind, 1, 0, &payload)).await.ok()?;
                }
                _ => {}
            }
        }
    }
}

pub(super) const GET_INFO: &str = "/pluginregistration.Registration/GetInfo";
/// A gRPC message of no bytes.
pub(super) const EMPTY_MESSAGE: [u8; 5] = [0; 5];

/// The header block of a call, all literals.
pub(super) fn call(path: &str, authority: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-go/1.83.0"),
        ("te", "trailers"),
    ] {
        write_literal(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

/// A gRPC message as a DATA frame carries it.
pub(super) fn message(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat()
}
