//! The codec of calls whose request is encoded before it is sent.
//!
//! A request can name the segments of thousands of nodes, twice. Encoded it takes a tenth of the memory; and the message
//! would be kept, by tonic and the channel, until the connection takes it.

use std::marker::PhantomData;

use bytes::{BufMut as _, Bytes};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Sends bytes that are a message already, and reads an answer of type `A`.
pub(super) struct EncodedCodec<A>(PhantomData<A>);

impl<A> EncodedCodec<A> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<A: prost::Message + Default + 'static> Codec for EncodedCodec<A> {
    type Encode = Bytes;
    type Decode = A;
    type Encoder = AsIs;
    type Decoder = ProstDecoder<A>;

    fn encoder(&mut self) -> AsIs {
        AsIs
    }

    fn decoder(&mut self) -> ProstDecoder<A> {
        ProstCodec::<A, A>::raw_decoder(BufferSettings::default())
    }
}

/// Writes the bytes that it is given.
pub(super) struct AsIs;

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}
