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

use super::fence::Fence;

/// Sends bytes that are a message already, if the fence lets them pass, and reads an answer of type `A`.
pub(super) struct EncodedCodec<A> {
    fence: Fence,
    answer: PhantomData<A>,
}

impl<A> EncodedCodec<A> {
    pub(super) fn new(fence: Fence) -> Self {
        Self {
            fence,
            answer: PhantomData,
        }
    }
}

impl<A: prost::Message + Default + 'static> Codec for EncodedCodec<A> {
    type Encode = Bytes;
    type Decode = A;
    type Encoder = AsIs;
    type Decoder = ProstDecoder<A>;

    fn encoder(&mut self) -> AsIs {
        AsIs(self.fence.clone())
    }

    fn decoder(&mut self) -> ProstDecoder<A> {
        ProstCodec::<A, A>::raw_decoder(BufferSettings::default())
    }
}

/// Writes the bytes that it is given. That happens when the connection takes the request.
pub(super) struct AsIs(Fence);

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if !self.0.passes() {
            return Err(Status::cancelled("not sent"));
        }
        to.put(item);
        Ok(())
    }
}
