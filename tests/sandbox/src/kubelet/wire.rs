//! gRPC over a unix socket with an `:authority` that no Rust client sends and no Rust server takes.
//!
//! The kubelet's is the socket's path. Client and server here are stock ones; between them and the socket the value
//! moves from and to a header of its own, as it is coded, so that Huffman's code is theirs. This knows as little of
//! HTTP/2 as it needs: a peer that does what grpc-go and `h2` do not (padding, priorities, a block in several frames)
//! breaks the connection with a word.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy, duplex, split},
    net::UnixStream,
};

/// The header that a client says the `:authority` in that is to be sent, as sensitive; and that a server finds it in,
/// with the first request of a connection.
pub(crate) const ORIGINAL: &str = "x-authority";

const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED_OR_PRIORITY: u8 = 8 | 32;
/// Of the static table of HPACK.
const AUTHORITY: usize = 1;
const PIPE: usize = 64 * 1024;

/// On whose side the value is exchanged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exchange {
    /// The client's: [`ORIGINAL`] is sent as `:authority` and not as itself.
    Send,
    /// The server's: it gets `localhost`, and what was sent as [`ORIGINAL`].
    Receive,
}

/// The connection for a client or a server, with the exchange between it and the socket.
pub(crate) fn through(socket: UnixStream, exchange: Exchange) -> DuplexStream {
    let (ours, inner) = duplex(PIPE);
    tokio::spawn(async move {
        let (from_socket, to_socket) = socket.into_split();
        let (from_us, to_us) = split(inner);
        // An error of either drops both, and so closes the connection.
        let editor = Editor::new(exchange);
        let ended = match exchange {
            Exchange::Send => {
                tokio::try_join!(edited(from_us, to_socket, editor), copied(from_socket, to_us))
            }
            Exchange::Receive => {
                tokio::try_join!(edited(from_socket, to_us, editor), copied(from_us, to_socket))
            }
        };
        if let Err(error) = ended
            && error.kind() == io::ErrorKind::InvalidData
        {
            eprintln!("sandbox: {error}");
        }
    });
    ours
}

async fn copied(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}

async fn edited(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut editor: Editor,
) -> io::Result<()> {
    let mut buffer = vec![0; PIPE];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let bytes = editor.push(&buffer[..read]);
        let bytes = bytes.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        to.write_all(&bytes).await?;
    }
}

/// The client's bytes, frame by frame.
struct Editor {
    exchange: Exchange,
    /// Bytes of the preface that are to come.
    preface: usize,
    /// The beginning of a frame.
    pending: Vec<u8>,
    /// Whether a request has come: later ones may refer to its `:authority`.
    begun: bool,
}

impl Editor {
    fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            preface: PREFACE,
            pending: Vec::new(),
            begun: false,
        }
    }

    /// Takes bytes as they come; gives those that can go on.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let (preface, frames) = bytes.split_at(self.preface.min(bytes.len()));
        self.preface -= preface.len();
        let mut out = preface.to_vec();
        self.pending.extend_from_slice(frames);
        while let Some(head) = self.pending.first_chunk::<FRAME_HEAD>().copied() {
            let [a, b, c, kind, flags, ..] = head;
            let end = FRAME_HEAD + u32::from_be_bytes([0, a, b, c]) as usize;
            if self.pending.len() < end {
                break;
            }
            let frame: Vec<_> = self.pending.drain(..end).collect();
            if kind != HEADERS {
                out.extend(frame);
                continue;
            }
            if flags & PADDED_OR_PRIORITY != 0 || flags & END_HEADERS == 0 {
                return Err(format!("HEADERS with the flags {flags:#x} are not understood"));
            }
            let block = self.block(&frame[FRAME_HEAD..])?;
            let length = u32::try_from(block.len()).map_err(|_| "a block is too long")?;
            out.extend(&length.to_be_bytes()[1..]);
            out.extend(&head[3..]);
            out.extend(block);
        }
        Ok(out)
    }

    /// One block of headers with its `:authority` exchanged.
    fn block(&mut self, block: &[u8]) -> Result<Vec<u8>, String> {
        let fields = fields(block)?;
        let authority = fields.iter().find(|field| field.name == AUTHORITY);
        if authority.is_none() && !self.begun {
            return Err("the first request has no literal :authority".into());
        }
        self.begun = true;
        let original = fields.iter().find(|field| field.sensitive);
        let value = match self.exchange {
            Exchange::Send => original.map(|field| block[field.value..field.end].to_vec()),
            Exchange::Receive => Some(string("localhost")),
        };
        let mut out = Vec::new();
        for field in &fields {
            let whole = &block[field.begin..field.end];
            match &value {
                Some(value) if field.name == AUTHORITY => {
                    out.extend(&block[field.begin..field.value]);
                    out.extend(value);
                }
                Some(_) if field.sensitive && matches!(self.exchange, Exchange::Send) => {}
                _ => out.extend(whole),
            }
        }
        if let (Exchange::Receive, Some(authority)) = (self.exchange, authority) {
            // A literal that is not indexed.
            out.push(0);
            out.extend(string(ORIGINAL));
            out.extend(&block[authority.value..authority.end]);
        }
        Ok(out)
    }
}

/// Where something stands in a block.
struct Field {
    begin: usize,
    /// Where the value begins, coded as a string; the end where there is none.
    value: usize,
    end: usize,
    /// The index of a literal's name; 0 where it has none, and for what is no literal.
    name: usize,
    /// A literal that is never to be indexed, so that no table changes when it is taken out.
    sensitive: bool,
}

/// RFC 7541, 6.
fn fields(block: &[u8]) -> Result<Vec<Field>, String> {
    let (mut fields, mut at) = (Vec::new(), 0);
    while let Some(first) = block.get(at) {
        let begin = at;
        // An indexed field, or a change of the table's size: no literal.
        let (literal, width) = match first {
            0x80.. => (false, 7),
            0x40.. => (true, 6),
            0x20.. => (false, 5),
            _ => (true, 4),
        };
        let sensitive = (0x10..0x20).contains(first);
        let index = integer(block, &mut at, width)?;
        if literal && index == 0 {
            skip(block, &mut at)?;
        }
        let value = at;
        if literal {
            skip(block, &mut at)?;
        }
        fields.push(Field {
            begin,
            value,
            end: at,
            name: if literal { index } else { 0 },
            sensitive,
        });
    }
    Ok(fields)
}

fn skip(block: &[u8], at: &mut usize) -> Result<(), String> {
    let length = integer(block, at, 7)?;
    *at += length;
    if *at > block.len() {
        return Err("a string ends after its block".into());
    }
    Ok(())
}

/// RFC 7541, 5.1.
fn integer(block: &[u8], at: &mut usize, width: u32) -> Result<usize, String> {
    let mut next = || {
        let byte = block
            .get(*at)
            .copied()
            .ok_or("a number ends after its block")
            .map(usize::from);
        *at += 1;
        byte
    };
    let most = (1_usize << width) - 1;
    let mut number = next()? & most;
    if number < most {
        return Ok(number);
    }
    for shift in [0, 7, 14] {
        let byte = next()?;
        number += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number is too long".into())
}

/// A string without Huffman's code.
fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let length = text.len();
    if length < 127 {
        out.push(length.to_le_bytes()[0]);
    } else {
        out.push(127);
        let mut rest = length - 127;
        while rest > 127 {
            out.push((rest & 0x7f).to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        out.push(rest.to_le_bytes()[0]);
    }
    out.extend(text.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    /// `:method: POST`, a table size, `:authority: <value>`, `a: b`.
    fn block(value: &str) -> Vec<u8> {
        let mut block = vec![0x83, 0x3f, 0xe1, 0x1f, 0x41];
        block.extend(string(value));
        block.extend(b"\x00\x01a\x01b");
        block
    }

    /// All at once and byte by byte.
    fn pass(exchange: Exchange, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let whole = Editor::new(exchange).push(bytes)?;
        let mut editor = Editor::new(exchange);
        let mut single = Vec::new();
        for byte in bytes {
            single.extend(editor.push(&[*byte])?);
        }
        assert_eq!(whole, single);
        Ok(whole)
    }

    /// A sensitive header with this value.
    fn wanted(value: &str) -> Vec<u8> {
        [b"\x10\x0bx-authority", &string(value)[..]].concat()
    }

    #[test]
    fn a_client_says_in_a_header_what_is_sent_as_authority() {
        let path = "%2Fa".repeat(100);
        for value in ["", "localhost", "/raw/path.sock", &path] {
            let headers = [block("placeholder"), wanted(value)].concat();
            let all = |headers: &[u8]| {
                let frames = [
                    frame(4, 0, b"settings"),
                    frame(1, 4, headers),
                    frame(0, 1, b"data"),
                ];
                [START, &frames.concat()].concat()
            };
            let sent = pass(Exchange::Send, &all(&headers)).unwrap();
            assert_eq!(sent, all(&block(value)), "{value}");
        }
    }

    #[test]
    fn without_that_header_nothing_changes() {
        let all = [START, &frame(1, 4, &block("localhost"))].concat();
        assert_eq!(pass(Exchange::Send, &all).unwrap(), all);
    }

    #[test]
    fn a_server_finds_the_value_in_another_header() {
        let all = [START, &frame(1, 4, &block("/raw"))].concat();
        let mut received = block("localhost");
        received.extend(b"\x00\x0bx-authority\x04/raw");
        let expected = [START, &frame(1, 4, &received)].concat();
        assert_eq!(pass(Exchange::Receive, &all).unwrap(), expected);
    }

    #[test]
    fn a_later_request_may_refer_to_the_authority() {
        let first = [START, &frame(1, 4, &block("x"))].concat();
        let later = frame(1, 5, &[0x83, 0xbe]);
        let wanting = frame(1, 5, &[&[0x83, 0xbe][..], &wanted("y")].concat());
        for (exchange, second) in [
            (Exchange::Send, &later),
            (Exchange::Send, &wanting),
            (Exchange::Receive, &later),
        ] {
            let passed = pass(exchange, &[&first, &second[..]].concat()).unwrap();
            assert!(passed.ends_with(&later), "{exchange:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            frame(1, 0, &block("x")),
            frame(1, 4 | 8, &block("x")),
            frame(1, 4 | 32, &block("x")),
            frame(1, 4, &[0x83]),
            frame(1, 4, &[0x41, 5, b'x']),
            frame(1, 4, &[0x41]),
            frame(1, 4, &[0x7f, 0xff, 0xff, 0xff, 0xff]),
        ] {
            let all = [START, &bad].concat();
            assert!(pass(Exchange::Receive, &all).is_err(), "{bad:?}");
        }
    }
}
