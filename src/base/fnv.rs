//! Pure. The two 32-bit hashes of Fowler, Noll and Vo that Kubernetes and upstream use.
//!
//! What is derived from them is seen by others: where the volumes of a StatefulSet go, and the names of labels. The
//! crates that there are serve hash maps, with FNV-1a and 64 bits.

const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// FNV-1: multiplies first.
pub fn fnv1(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(OFFSET, |hash, byte| hash.wrapping_mul(PRIME) ^ u32::from(*byte))
}

/// FNV-1a: multiplies last.
pub fn fnv1a(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_test_vectors_hold() {
        assert_eq!((fnv1(b""), fnv1a(b"")), (0x811c_9dc5, 0x811c_9dc5));
        assert_eq!((fnv1(b"a"), fnv1a(b"a")), (0x050c_5d7e, 0xe40c_292c));
        assert_eq!((fnv1(b"foobar"), fnv1a(b"foobar")), (0x31f0_b262, 0xbf9c_f968));
    }
}
