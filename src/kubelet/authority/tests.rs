//! The rewriter: what passes, what is rewritten, what is refused; in pieces of any size, and against anything.

use futures::FutureExt as _;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::super::hpack::{Decoder, HpackError, MAX_LIST, write_literal};
use super::super::raw::{PREFACE, frame};
use tokio::io::AsyncReadExt as _;

use super::{
    LocalAuthority,
    rewriter::{Malformed, Rewriter},
};

const SETTINGS: u8 = 4;

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        write_literal(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

/// What comes out when `bytes` come in at once, or why it ends.
fn rewritten(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut rewriter = Rewriter::new();
    pass(&mut rewriter, bytes)
}

fn pass(rewriter: &mut Rewriter, mut bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut output = Vec::new();
    while !bytes.is_empty() {
        let before = output.len();
        let taken = rewriter.feed(bytes, &mut output)?;
        assert!(taken > 0, "no progress");
        assert!(
            output.len() - before <= taken + MAX_LIST + 9 + 9,
            "more than a block at once"
        );
        bytes = &bytes[taken..];
    }
    Ok(output)
}

/// The preface and these frames.
fn sent(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), frames.concat()].concat()
}

const PATH: (&str, &str) = (":path", "/a.B/C");
const ENCODED: (&str, &str) = (":authority", "%2Fvar%2Flib%2Fx-reg.sock");
const LOCAL: (&str, &str) = (":authority", "localhost");

#[test]
fn everything_but_headers_passes_unchanged() {
    let frames = [
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        frame(SETTINGS, 1, 0, &[]),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(0, 1, 1, &[7; 16 * 1024]),
        frame(6, 0, 0, &[1; 8]),
        frame(2, 0, 3, &[0, 0, 0, 0, 1]),
        frame(3, 0, 3, &[0, 0, 0, 8]),
        frame(7, 0, 0, &[0; 8]),
        frame(200, 0xff, 9, b"unknown"),
    ];
    assert_eq!(rewritten(&sent(&frames)).unwrap(), sent(&frames));
}

#[test]
fn any_authority_becomes_localhost_and_the_other_fields_stay() {
    for authority in [
        "%2Ftmp%2Fx.sock",
        "/tmp/x.sock",
        "tmp%2Fx.sock",
        "localhost",
        "",
        "\u{0}\u{ff}",
    ] {
        let before = block(&[
            (":method", "POST"),
            (":authority", authority),
            PATH,
            ("te", "trailers"),
            ("host", "x y"),
        ]);
        let after = block(&[
            (":method", "POST"),
            LOCAL,
            PATH,
            ("te", "trailers"),
            ("host", "x y"),
        ]);
        let before = sent(&[frame(1, 0x4, 1, &before)]);
        assert_eq!(
            rewritten(&before).unwrap(),
            sent(&[frame(1, 0x4, 1, &after)]),
            "{authority}"
        );
    }
    let without = sent(&[frame(1, 0x5, 1, &block(&[PATH]))]);
    assert_eq!(
        rewritten(&without).unwrap(),
        without,
        "none is added; the end of the stream is kept"
    );
}

#[test]
fn indexed_fields_become_literals_over_the_whole_connection() {
    // POST by its static index, the authority inserted; then both by index, and trailers on the same stream.
    let mut first = vec![0x83, 0x41];
    first.push(ENCODED.1.len() as u8);
    first.extend(ENCODED.1.as_bytes());
    let frames = [
        frame(1, 0x4, 1, &first),
        frame(1, 0x4, 3, &[0x83, 0xbe]),
        frame(1, 0x5, 3, &[0x83]),
    ];
    let fields = block(&[(":method", "POST"), LOCAL]);
    let wanted = [
        frame(1, 0x4, 1, &fields),
        frame(1, 0x4, 3, &fields),
        frame(1, 0x5, 3, &block(&[(":method", "POST")])),
    ];
    assert_eq!(rewritten(&sent(&frames)).unwrap(), sent(&wanted));
}

#[test]
fn padding_and_priority_are_dropped() {
    let fields = block(&[ENCODED, PATH]);
    let wanted = sent(&[frame(1, 0x5, 1, &block(&[LOCAL, PATH]))]);
    let padded = [&[3][..], &fields, &[0; 3]].concat();
    let prioritised = [&[0x80, 0, 0, 0, 200][..], &fields].concat();
    let both = [&[255, 0, 0, 0, 0, 0][..], &fields, &[0; 255]].concat();
    for (flags, payload) in [(0x0d, padded), (0x25, prioritised), (0x2d, both)] {
        assert_eq!(
            rewritten(&sent(&[frame(1, flags, 1, &payload)])).unwrap(),
            wanted,
            "{flags:x}"
        );
    }
}

#[test]
fn a_block_in_several_frames_becomes_one_frame() {
    let fields = block(&[ENCODED, PATH]);
    let wanted = sent(&[frame(1, 0x5, 1, &block(&[LOCAL, PATH])), frame(6, 0, 0, &[0; 8])]);
    for cut in 0..=fields.len() {
        let (head, tail) = fields.split_at(cut);
        let padded = [&[2][..], head, &[0; 2]].concat();
        let frames = [
            frame(1, 0x09, 1, &padded),
            frame(9, 0, 1, &[]),
            // Flags that mean something only elsewhere, and the reserved bit.
            frame(9, 0x2d, 0x8000_0001, tail),
            frame(6, 0, 0, &[0; 8]),
        ];
        assert_eq!(rewritten(&sent(&frames)).unwrap(), wanted, "{cut}");
    }
}

#[test]
fn what_is_malformed_ends_the_connection() {
    let start = frame(1, 0, 1, &[0x83]);
    let rows = [
        (
            vec![vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1]],
            Malformed::FrameSize(16 * 1024 + 1),
        ),
        (vec![vec![0xff; 9]], Malformed::FrameSize(0x00ff_ffff)),
        (vec![frame(1, 0x0c, 1, &[])], Malformed::Padding),
        (vec![frame(1, 0x0c, 1, &[2, 0x83])], Malformed::Padding),
        (vec![frame(1, 0x24, 1, &[0; 4])], Malformed::Padding),
        (vec![frame(1, 0x2c, 1, &[1, 0, 0, 0, 0, 0])], Malformed::Padding),
        (
            vec![start.clone(), frame(0, 0, 1, &[])],
            Malformed::Interleaved(0),
        ),
        (
            vec![start.clone(), frame(1, 4, 1, &[])],
            Malformed::Interleaved(1),
        ),
        (
            vec![start.clone(), frame(200, 0, 1, &[])],
            Malformed::Interleaved(200),
        ),
        (vec![start, frame(9, 4, 3, &[])], Malformed::Interleaved(9)),
        (vec![frame(9, 4, 1, &[])], Malformed::Continuation),
        (vec![frame(5, 4, 1, &[0; 4])], Malformed::PushPromise),
        (
            vec![frame(1, 4, 1, &[0xbe])],
            Malformed::Hpack(HpackError::Index(62)),
        ),
        (
            vec![frame(1, 4, 1, &[0x3f])],
            Malformed::Hpack(HpackError::Truncated),
        ),
    ];
    for (frames, error) in rows {
        assert_eq!(rewritten(&sent(&frames)), Err(error), "{frames:x?}");
    }
}

#[test]
fn a_block_without_end_is_not_collected_without_end() {
    for piece in [&[0u8; 0][..], &[0x83], &[0x83; 1000], &[0x83; 16 * 1024]] {
        let mut rewriter = Rewriter::new();
        pass(&mut rewriter, &sent(&[frame(1, 0, 1, piece)])).unwrap();
        let more = frame(9, 0, 1, piece);
        let frames = (1..10_000)
            .take_while(|_| pass(&mut rewriter, &more) != Err(Malformed::BlockSize))
            .count();
        assert!(
            (frames + 1) * more.len() <= 32 * 1024,
            "{frames} frames of {}",
            piece.len()
        );
    }
}

#[test]
fn the_largest_block_fits_one_frame() {
    // An empty authority and nothing else in the largest number; the new block is larger than the old one.
    let most = MAX_LIST / (10 + 32);
    let grows = [0x01, 0x00].repeat(most);
    let output = rewritten(&sent(&[frame(1, 4, 1, &grows)])).unwrap();
    assert_eq!(
        output[PREFACE.len()..],
        frame(1, 4, 1, &block(&vec![LOCAL; most]))
    );
    assert!(output.len() - PREFACE.len() - 9 <= 16 * 1024);
    let value = "v".repeat(MAX_LIST - 32 - 1);
    let fields = block(&[("n", &value)]);
    assert!(rewritten(&sent(&[frame(1, 4, 1, &fields)])).is_ok());
    let fields = block(&[("nn", &value)]);
    let error = rewritten(&sent(&[frame(1, 4, 1, &fields)]));
    assert_eq!(error, Err(Malformed::Hpack(HpackError::TooLarge)));
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

/// Frames of a client that keeps the rules, but for what the blocks say.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just(":authority"),
        Just(":path"),
        Just("%2Fx"),
        Just("/x"),
        Just("")
    ];
    let literal = (text.clone(), text, any::<bool>()).prop_map(|(name, value, insert)| {
        let mut field = block(&[(name, value)]);
        field[0] = if insert { 0x40 } else { 0 };
        field
    });
    let field = prop_oneof![3 => literal, 1 => (0x81u8..0xc2).prop_map(|it| vec![it]), 1 => Just(vec![0x20, 0x3f, 0x10])];
    let headers = (
        vec(field, 0..5),
        any::<bool>(),
        any::<bool>(),
        any::<Index>(),
        0u8..4,
    )
        .prop_map(|(fields, padded, prioritised, cut, continuations)| {
            let fields = fields.concat();
            let cut = if continuations == 0 {
                fields.len()
            } else {
                cut.index(fields.len() + 1)
            };
            let mut payload = if padded { vec![2] } else { vec![] };
            payload.extend(prioritised.then_some([0, 0, 0, 0, 9]).into_iter().flatten());
            payload.extend(&fields[..cut]);
            payload.extend(padded.then_some([0, 0]).into_iter().flatten());
            let flags = (u8::from(padded) * 0x8) | (u8::from(prioritised) * 0x20);
            let mut frames = frame(1, flags | (u8::from(continuations == 0) * 0x4), 1, &payload);
            for at in 1..=continuations {
                let last = at == continuations;
                let rest = if last { &fields[cut..] } else { &[] };
                frames.extend(frame(9, u8::from(last) * 0x4, 1, rest));
            }
            frames
        });
    let other = (0u8..11, any::<u8>(), vec(any::<u8>(), 0..40))
        .prop_filter("carries a block", |(kind, ..)| ![1, 5, 9].contains(kind))
        .prop_map(|(kind, flags, payload)| frame(kind, flags, 3, &payload));
    vec(prop_oneof![headers, other], 0..6).prop_map(|frames| sent(&frames))
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn pieces_of_any_size_make_no_difference(bytes in frames(), cuts in vec(any::<Index>(), 0..12)) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut rewriter = Rewriter::new();
        let mut pieces = cuts.windows(2).map(|cut| pass(&mut rewriter, &bytes[cut[0]..cut[1]]));
        let output = pieces.try_fold(Vec::new(), |mut sum, piece| {
            sum.extend(piece?);
            Ok(sum)
        });
        prop_assert_eq!(output, rewritten(&bytes));
    }

    #[test]
    fn what_comes_out_says_localhost_and_needs_no_table(bytes in frames()) {
        let Ok(output) = rewritten(&bytes) else { return Ok(()) };
        let mut rest = &output[PREFACE.len()..];
        while let Some(head) = rest.get(..9) {
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let (payload, behind) = rest[9..].split_at(length);
            rest = behind;
            prop_assert_ne!(head[3], 9);
            if head[3] == 1 {
                prop_assert_eq!(head[4] & !0x1, 0x4);
                for field in Decoder::new().decode(payload).unwrap() {
                    prop_assert!(field.name != ":authority" || field.value == "localhost");
                }
            }
        }
        prop_assert!(rest.is_empty());
        // Once more changes nothing.
        prop_assert_eq!(rewritten(&output).unwrap(), output);
    }
}

proptest! {
    #![proptest_config(config(4096))]

    #[test]
    fn no_bytes_panic_or_grow_or_hang(
        bytes in frames(),
        changes in vec((any::<Index>(), any::<u8>()), 0..6),
        tail in vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = bytes;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(tail);
        // `pass` holds the bounds, and that each call takes something.
        let wanted = rewritten(&bytes);
        let mut read = Vec::new();
        let mut stream = LocalAuthority::new(&bytes[..]);
        match stream.read_to_end(&mut read).now_or_never().unwrap() {
            Ok(_) => prop_assert_eq!(Ok(read), wanted),
            Err(error) => prop_assert_eq!(error.to_string(), wanted.unwrap_err().to_string()),
        }
    }
}
