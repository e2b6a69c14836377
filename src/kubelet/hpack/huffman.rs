//! Pure. The Huffman code of HPACK (RFC 7541, appendix B), decoded bit by bit.
//!
//! The code is canonical: its lengths alone, in the order of the symbols, say all of it. The kubelet sends a dozen
//! such strings a day, so this is small and not fast.

use super::HpackError;

/// The end of the string. It only serves as padding and is never sent whole.
const EOS: u16 = 256;
const SYMBOLS: usize = 257;
const LONGEST: usize = 30;

/// Bits of each symbol: the 256 bytes, then EOS.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23,
    23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
    22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26,
    27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27,
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The codes of each length follow each other, from `first` on; their symbols stand in `order` from `start` on.
struct Canonical {
    order: [u16; SYMBOLS],
    start: [usize; LONGEST + 1],
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
}

const CODE: Canonical = canonical();

const fn canonical() -> Canonical {
    let mut code = Canonical {
        order: [0; SYMBOLS],
        start: [0; LONGEST + 1],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
    };
    let (mut placed, mut next, mut length) = (0, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.start[length] = placed;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                code.order[placed] = symbol as u16;
                placed += 1;
                next += 1;
                code.count[length] += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
}

/// The string behind `coded`; at most 8/5 as long.
pub(super) fn decode(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
    let mut string = Vec::with_capacity(coded.len() * 8 / 5);
    // The bits since the last symbol. No code is longer than 30 bits, and each string of 30 bits begins with one.
    let (mut bits, mut length) = (0u32, 0usize);
    for byte in coded {
        for at in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> at & 1);
            length += 1;
            let above = bits.wrapping_sub(CODE.first[length]);
            if above >= CODE.count[length] {
                continue;
            }
            match CODE.order[CODE.start[length] + above as usize] {
                EOS => return Err(HpackError::Huffman),
                symbol => string.push(symbol as u8),
            }
            (bits, length) = (0, 0);
        }
    }
    // What is left is the beginning of EOS, which is all ones, and less than a byte.
    match length < 8 && bits == (1 << length) - 1 {
        true => Ok(string),
        false => Err(HpackError::Huffman),
    }
}

/// The bits of a symbol, and how many they are: what an encoder needs.
#[cfg(test)]
pub(super) fn code_of(symbol: u16) -> (u32, u8) {
    let length = LENGTHS[usize::from(symbol)];
    let start = CODE.start[usize::from(length)];
    let rank = CODE.order[start..].iter().position(|it| *it == symbol).unwrap();
    (CODE.first[usize::from(length)] + rank as u32, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_one_of_appendix_b() {
        for (symbol, bits, length) in [
            (0, 0x1ff8, 13),
            (1, 0x007f_ffd8, 23),
            (10, 0x3fff_fffc, 30),
            (u16::from(b' '), 0x14, 6),
            (u16::from(b'%'), 0x15, 6),
            (u16::from(b'0'), 0x0, 5),
            (u16::from(b'/'), 0x18, 6),
            (u16::from(b'X'), 0xfc, 8),
            (u16::from(b'\\'), 0x7fff0, 19),
            (u16::from(b't'), 0x9, 5),
            (127, 0x0fff_fffc, 28),
            (128, 0xfffe6, 20),
            (199, 0x01ff_ffec, 25),
            (220, 0x0fff_fffd, 28),
            (249, 0x0fff_fffe, 28),
            (255, 0x03ff_ffee, 26),
            (256, 0x3fff_ffff, 30),
        ] {
            assert_eq!(code_of(symbol), (bits, length), "{symbol}");
        }
        assert_eq!(CODE.count.iter().sum::<u32>(), 257);
        let room: u64 = LENGTHS
            .iter()
            .map(|length| 1 << (LONGEST - usize::from(*length)))
            .sum();
        assert_eq!(room, 1 << LONGEST, "no string of 30 bits is without a code");
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        // "0" is 00000, "a" is 00011.
        for (coded, wanted) in [
            (&[][..], Some("")),
            (&[0b0000_0111], Some("0")),
            (&[0b0000_0000], None),
            (&[0b0000_0110], None),
            (&[0b0000_0111, 0xff], None),
            (&[0xff], None),
            (&[0b0001_1000, 0b0011_1111], Some("a0")),
            (&[0xff, 0xff, 0xff, 0xff], None),
        ] {
            let decoded = decode(coded).ok();
            assert_eq!(decoded.as_deref(), wanted.map(str::as_bytes), "{coded:x?}");
        }
    }
}
