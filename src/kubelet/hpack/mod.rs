//! Pure. A bounded decoder of HPACK (RFC 7541), and the literals that the shim writes instead.
//!
//! No crate fits: `hpack`, `fluke-hpack` and `httlib-hpack` panic on the single byte 0x3f, and `loona-hpack`, where
//! that is mended, has had no release since 2024 and no bound on what a block expands to. Here malformed input is an
//! error, a block holds at most [`MAX_LIST`] bytes, and a connection's table [`MAX_TABLE`].

mod huffman;
mod static_table;

use std::collections::VecDeque;

use bytes::Bytes;

use static_table::STATIC_TABLE;

/// Bytes of the dynamic table: what a server advertises by saying nothing.
pub(super) const MAX_TABLE: usize = 4096;
/// Bytes of a block's fields, counted as SETTINGS_MAX_HEADER_LIST_SIZE counts: names, values and 32 for each.
pub(super) const MAX_LIST: usize = 16 * 1024;
/// What a field counts besides its name and value.
const OVERHEAD: usize = 32;

/// A header field, or a pseudo-header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Bytes,
    pub(super) value: Bytes,
}

impl Field {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + OVERHEAD
    }
}

/// Why a block of header fields cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HpackError {
    #[error("a header block ends in the middle of a field")]
    Truncated,
    #[error("a header block has an integer that is too large")]
    Integer,
    #[error("a header block names field {0}, which is in no table")]
    Index(usize),
    #[error("a header block has a malformed Huffman string")]
    Huffman,
    #[error("a header block changes the table's size to {0} bytes; {MAX_TABLE} are allowed")]
    TableSize(usize),
    #[error("a header block changes the table's size after its first field")]
    LateTableSize,
    #[error("the header fields of a block are larger than {MAX_LIST} bytes")]
    TooLarge,
}

/// One direction of one connection. After an error it has lost track and serves no more.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The latest field first.
    table: VecDeque<Field>,
    size: usize,
    max: usize,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            max: MAX_TABLE,
        }
    }

    /// The fields of one whole block.
    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, HpackError> {
        let mut fields = Vec::new();
        let mut total = 0;
        let mut rest = block;
        while let Some(&first) = rest.first() {
            let field = match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    self.field(index)?
                }
                0x40.. => {
                    let field = self.literal(&mut rest, 6)?;
                    self.insert(field.clone());
                    field
                }
                0x20.. => {
                    let max = integer(&mut rest, 5)?;
                    if !fields.is_empty() {
                        return Err(HpackError::LateTableSize);
                    }
                    if max > MAX_TABLE {
                        return Err(HpackError::TableSize(max));
                    }
                    self.max = max;
                    self.evict(0);
                    continue;
                }
                // Without indexing, or never to be indexed.
                _ => self.literal(&mut rest, 4)?,
            };
            total += field.size();
            if total > MAX_LIST {
                return Err(HpackError::TooLarge);
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Result<Field, HpackError> {
        let name = match integer(rest, prefix)? {
            0 => string(rest)?,
            index => self.field(index)?.name,
        };
        let value = string(rest)?;
        Ok(Field { name, value })
    }

    fn field(&self, index: usize) -> Result<Field, HpackError> {
        let unknown = HpackError::Index(index);
        let at = index.checked_sub(1).ok_or(unknown)?;
        match STATIC_TABLE.get(at) {
            Some((name, value)) => Ok(Field {
                name: Bytes::from_static(name.as_bytes()),
                value: Bytes::from_static(value.as_bytes()),
            }),
            None => self.table.get(at - STATIC_TABLE.len()).cloned().ok_or(unknown),
        }
    }

    /// A field that is larger than the table empties it, and that is no error (section 4.4).
    fn insert(&mut self, field: Field) {
        self.evict(field.size());
        if field.size() <= self.max {
            self.size += field.size();
            self.table.push_front(field);
        }
    }

    fn evict(&mut self, coming: usize) {
        while self.size + coming > self.max
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

/// An integer whose first bits are the last `prefix` ones of the first byte (section 5.1). Four more bytes are
/// plenty.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, HpackError> {
    let mask = (1 << prefix) - 1;
    let mut value = usize::from(take(rest)? & mask);
    if value < usize::from(mask) {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = take(rest)?;
        value += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(HpackError::Integer)
}

fn string(rest: &mut &[u8]) -> Result<Bytes, HpackError> {
    let huffman = rest.first().is_some_and(|first| *first >= 0x80);
    let length = integer(rest, 7)?;
    let (string, behind) = rest.split_at_checked(length).ok_or(HpackError::Truncated)?;
    *rest = behind;
    Ok(match huffman {
        true => huffman::decode(string)?.into(),
        false => Bytes::copy_from_slice(string),
    })
}

fn take(rest: &mut &[u8]) -> Result<u8, HpackError> {
    let (first, behind) = rest.split_first().ok_or(HpackError::Truncated)?;
    *rest = behind;
    Ok(*first)
}

/// Appends a field as a literal that enters no table, without Huffman. Takes less than the 32 bytes that a field
/// counts, besides name and value.
pub(super) fn write_literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for string in [name, value] {
        write_length(block, string.len());
        block.extend_from_slice(string);
    }
}

fn write_length(block: &mut Vec<u8>, length: usize) {
    if length < 0x7f {
        block.push(length as u8);
        return;
    }
    block.push(0x7f);
    let mut above = length - 0x7f;
    while above >= 0x80 {
        block.push(above as u8 | 0x80);
        above >>= 7;
    }
    block.push(above as u8);
}

#[cfg(test)]
mod tests;
