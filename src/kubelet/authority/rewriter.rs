//! Pure. What a client sends over HTTP/2, with `:authority` replaced by `localhost`.
//!
//! The preface and every frame pass unchanged, but for HEADERS with its CONTINUATIONs: that block becomes one HEADERS
//! frame of plain literals, without padding and priority. Such frames are not flow-controlled, so their length may
//! change; and as no literal enters a table, the server's own decoder has nothing to keep.

use super::super::hpack::{Decoder, HpackError, MAX_LIST, write_literal};

/// Bytes of a frame's payload: what a server allows by saying nothing.
const MAX_FRAME: usize = 16 * 1024;
/// Bytes of the frames that carry one block, their headers included; without those, empty frames would never end.
const MAX_BLOCK_FRAMES: usize = 2 * MAX_FRAME;

// A field counts 32 bytes besides its name and value, and its literal takes less, even with `localhost` for nothing:
// the new block always fits one frame.
const _: () = assert!(MAX_LIST <= MAX_FRAME);

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const FRAME_HEADER: usize = 9;

const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a frame of {0} bytes; {MAX_FRAME} are allowed")]
    FrameSize(usize),
    #[error("a HEADERS frame with more padding than it is long")]
    Padding,
    #[error("a frame of type {0} where the rest of a header block was due")]
    Interleaved(u8),
    #[error("a CONTINUATION frame without HEADERS")]
    Continuation,
    #[error("a PUSH_PROMISE frame from a client")]
    PushPromise,
    #[error("a header block in frames of more than {MAX_BLOCK_FRAMES} bytes")]
    BlockSize,
    #[error(transparent)]
    Hpack(#[from] HpackError),
}

/// One connection's inbound direction. After an error it has lost track and serves no more.
#[derive(Debug)]
pub(super) struct Rewriter {
    decoder: Decoder,
    position: Position,
    /// A frame's header, or the payload of a frame with a part of a block, as far as it has come.
    held: Vec<u8>,
    /// The block whose end is still to come.
    open: Option<Block>,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    /// Bytes that pass unchanged.
    Passing(usize),
    FrameHeader,
    Payload(Head),
}

#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

#[derive(Debug)]
struct Block {
    stream: [u8; 4],
    end_stream: bool,
    fragments: Vec<u8>,
    /// Bytes of the frames so far.
    frames: usize,
}

impl Rewriter {
    pub(super) fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            position: Position::Passing(PREFACE),
            held: Vec::new(),
            open: None,
        }
    }

    /// Takes bytes from the client, in any pieces, and appends what the server is to read. Says how many it took: it
    /// stops behind a block, so that `output` grows by no more than the input and one frame.
    pub(super) fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut rest = input;
        loop {
            self.position = match self.position {
                Position::Passing(left) => {
                    let (passing, behind) = rest.split_at(left.min(rest.len()));
                    output.extend_from_slice(passing);
                    rest = behind;
                    match left - passing.len() {
                        0 => Position::FrameHeader,
                        left => {
                            self.position = Position::Passing(left);
                            break;
                        }
                    }
                }
                Position::FrameHeader => {
                    if !self.hold(&mut rest, FRAME_HEADER) {
                        break;
                    }
                    let head = Head::read(&self.held);
                    let position = self.begin(head)?;
                    if let Position::Passing(_) = position {
                        output.extend_from_slice(&self.held);
                    }
                    self.held.clear();
                    position
                }
                Position::Payload(head) => {
                    if !self.hold(&mut rest, head.length) {
                        break;
                    }
                    self.position = Position::FrameHeader;
                    if let Some(block) = self.collect(head)? {
                        self.write(&block, output)?;
                        break;
                    }
                    Position::FrameHeader
                }
            };
        }
        Ok(input.len() - rest.len())
    }

    /// Moves bytes from `rest` to `held` until those are `wanted` many.
    fn hold(&mut self, rest: &mut &[u8], wanted: usize) -> bool {
        let (taken, behind) = rest.split_at(rest.len().min(wanted - self.held.len()));
        self.held.extend_from_slice(taken);
        *rest = behind;
        self.held.len() == wanted
    }

    /// What becomes of a frame whose header is known.
    fn begin(&mut self, head: Head) -> Result<Position, Malformed> {
        if head.length > MAX_FRAME {
            return Err(Malformed::FrameSize(head.length));
        }
        match (&mut self.open, head.kind) {
            (None, HEADERS) => Ok(Position::Payload(head)),
            (None, CONTINUATION) => Err(Malformed::Continuation),
            (None, PUSH_PROMISE) => Err(Malformed::PushPromise),
            (None, _) => Ok(Position::Passing(head.length)),
            (Some(block), CONTINUATION) if block.stream == head.stream => {
                block.frames += FRAME_HEADER + head.length;
                match block.frames > MAX_BLOCK_FRAMES {
                    true => Err(Malformed::BlockSize),
                    false => Ok(Position::Payload(head)),
                }
            }
            (Some(_), kind) => Err(Malformed::Interleaved(kind)),
        }
    }

    /// Adds the held payload to its block; the block, if that was its end.
    fn collect(&mut self, head: Head) -> Result<Option<Block>, Malformed> {
        let block = match self.open.take() {
            Some(mut block) => {
                block.fragments.extend_from_slice(&self.held);
                block
            }
            None => Block {
                stream: head.stream,
                end_stream: head.flags & END_STREAM != 0,
                fragments: fragment(&self.held, head.flags)
                    .ok_or(Malformed::Padding)?
                    .to_vec(),
                frames: FRAME_HEADER + head.length,
            },
        };
        self.held.clear();
        if head.flags & END_HEADERS != 0 {
            return Ok(Some(block));
        }
        self.open = Some(block);
        Ok(None)
    }

    fn write(&mut self, block: &Block, output: &mut Vec<u8>) -> Result<(), Malformed> {
        let fields = self.decoder.decode(&block.fragments)?;
        let begin = output.len();
        output.extend_from_slice(&[0; FRAME_HEADER]);
        for field in &fields {
            let value = match &*field.name {
                b":authority" => b"localhost",
                _ => &*field.value,
            };
            write_literal(output, &field.name, value);
        }
        let length = (output.len() - begin - FRAME_HEADER) as u32;
        let [_, high, middle, low] = length.to_be_bytes();
        let flags = END_HEADERS | if block.end_stream { END_STREAM } else { 0 };
        let [a, b, c, d] = block.stream;
        output[begin..][..FRAME_HEADER].copy_from_slice(&[high, middle, low, HEADERS, flags, a, b, c, d]);
        Ok(())
    }
}

impl Head {
    /// Reads a frame's header; `held` has nine bytes.
    fn read(held: &[u8]) -> Self {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        Self {
            length: number(&held[..3]) as usize,
            kind: held[3],
            flags: held[4],
            // The first bit is reserved and means nothing.
            stream: (number(&held[5..]) & 0x7fff_ffff).to_be_bytes(),
        }
    }
}

/// The part of the block in the payload of a HEADERS frame.
fn fragment(payload: &[u8], flags: u8) -> Option<&[u8]> {
    let (padding, rest) = match flags & PADDED {
        0 => (0, payload),
        _ => payload
            .split_first()
            .map(|(length, rest)| (usize::from(*length), rest))?,
    };
    let rest = match flags & PRIORITY {
        0 => rest,
        _ => rest.get(5..)?,
    };
    rest.get(..rest.len().checked_sub(padding)?)
}
