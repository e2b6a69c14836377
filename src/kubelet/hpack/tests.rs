//! The decoder against the examples of the RFC, against an encoder, and against anything.

use proptest::{collection::vec, prelude::*};

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn shown(fields: &[Field]) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    fields
        .iter()
        .map(|it| (text(&it.name), text(&it.value)))
        .collect()
}

const FIRST: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
];
const SECOND: [(&str, &str); 5] = [
    FIRST[0],
    FIRST[1],
    FIRST[2],
    FIRST[3],
    ("cache-control", "no-cache"),
];
const THIRD: [(&str, &str); 5] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];

#[test]
fn the_single_fields_of_appendix_c_2_are_read() {
    for (hex, field, size) in [
        (
            "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
            ("custom-key", "custom-header"),
            55,
        ),
        ("040c2f73616d706c652f70617468", (":path", "/sample/path"), 0),
        ("100870617373776f726406736563726574", ("password", "secret"), 0),
        ("82", (":method", "GET"), 0),
    ] {
        let mut decoder = Decoder::new();
        assert_eq!(shown(&decoder.decode(&bytes(hex)).unwrap()), [field]);
        assert_eq!(decoder.size, size, "{hex}");
    }
}

#[test]
fn the_requests_of_appendix_c_3_and_4_are_read() {
    let plain = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    let huffman = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new();
        let mut read = |at: usize| decoder.decode(&bytes(blocks[at])).unwrap();
        assert_eq!(shown(&read(0)), FIRST);
        assert_eq!(shown(&read(1)), SECOND);
        assert_eq!(shown(&read(2)), THIRD);
        assert_eq!(decoder.size, 164);
    }
}

#[test]
fn the_responses_of_appendix_c_5_and_6_are_read_as_fields_leave_a_table_of_256_bytes() {
    let plain = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a
         2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b
         425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ];
    let huffman = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f36
         72c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new();
        // The size update that the RFC's example presupposes: 256.
        decoder.decode(&bytes("3fe101")).unwrap();
        let mut sizes = Vec::new();
        let mut read = |at: usize| {
            let fields = decoder.decode(&bytes(blocks[at])).unwrap();
            sizes.push(decoder.size);
            shown(&fields)
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect::<Vec<_>>()
        };
        let (date, location) = (
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com",
        );
        assert_eq!(
            read(0),
            [":status: 302", "cache-control: private", date, location]
        );
        assert_eq!(
            read(1),
            [":status: 307", "cache-control: private", date, location]
        );
        let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        let date = "date: Mon, 21 Oct 2013 20:13:22 GMT";
        let private = "cache-control: private";
        assert_eq!(
            read(2),
            [
                ":status: 200",
                private,
                date,
                location,
                "content-encoding: gzip",
                cookie
            ]
        );
        assert_eq!(sizes, [222, 222, 215]);
    }
}

#[test]
fn what_is_malformed_has_its_own_error() {
    for (hex, error) in [
        ("80", HpackError::Index(0)),
        ("be", HpackError::Index(62)),
        ("7f00", HpackError::Index(63)),
        ("3f", HpackError::Truncated),
        ("40", HpackError::Truncated),
        ("4003616263", HpackError::Truncated),
        ("000461", HpackError::Truncated),
        ("0001", HpackError::Truncated),
        ("ffffffffff01", HpackError::Integer),
        ("3fffffffffffffffffff7f", HpackError::Integer),
        ("3fe21f", HpackError::TableSize(4097)),
        ("823fe11f", HpackError::LateTableSize),
        ("00018161", HpackError::Truncated),
        ("0081ff00", HpackError::Huffman),
    ] {
        assert_eq!(Decoder::new().decode(&bytes(hex)), Err(error), "{hex}");
    }
    let mut decoder = Decoder::new();
    assert_eq!(
        decoder.decode(&bytes("3fe11f20203fe11f82")).unwrap().len(),
        1,
        "4096, 0, 0, 4096"
    );
}

#[test]
fn a_small_block_cannot_expand_without_bound() {
    let mut decoder = Decoder::new();
    let mut block = Vec::from([0x40]);
    for string in [&[b'n'; 1000][..], &[b'v'; 3000]] {
        write_length(&mut block, string.len());
        block.extend_from_slice(string);
    }
    block.extend([0xbe; 3]);
    assert_eq!(decoder.decode(&block).unwrap().len(), 4);
    assert_eq!(decoder.decode(&[0xbe; 5]), Err(HpackError::TooLarge));
}

/// How an encoder may write a field, and what it does before.
#[derive(Clone, Copy, Debug)]
enum Form {
    Indexed,
    Inserted,
    Plain,
    Never,
    Resized(u16),
}

/// An encoder that mirrors the decoder's table by keeping a decoder.
fn encode(mirror: &mut Decoder, fields: &[(Field, Form, bool)]) -> Vec<u8> {
    let mut block = Vec::new();
    if let Some((_, Form::Resized(size), _)) = fields.first() {
        write_integer(&mut block, 0x20, 5, usize::from(*size) % (MAX_TABLE + 1));
    }
    for (field, form, huffman) in fields {
        let mut seen = Decoder {
            table: mirror.table.clone(),
            ..*mirror
        };
        seen.decode(&block).unwrap();
        let found = |it: &dyn Fn(&Field) -> bool| {
            (1..=61 + seen.table.len()).find(|index| seen.field(*index).is_ok_and(|known| it(&known)))
        };
        let whole = found(&|known| known == field);
        if let (Form::Indexed, Some(index)) = (form, whole) {
            write_integer(&mut block, 0x80, 7, index);
            continue;
        }
        let (mark, prefix) = match form {
            Form::Indexed | Form::Inserted => (0x40, 6),
            Form::Never => (0x10, 4),
            Form::Plain | Form::Resized(_) => (0, 4),
        };
        let name = found(&|known| known.name == field.name);
        write_integer(&mut block, mark, prefix, name.unwrap_or(0));
        if name.is_none() {
            write_string(&mut block, &field.name, *huffman);
        }
        write_string(&mut block, &field.value, *huffman);
    }
    mirror.decode(&block).unwrap();
    block
}

fn write_integer(block: &mut Vec<u8>, mark: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        block.push(mark | value as u8);
        return;
    }
    block.push(mark | mask as u8);
    let mut above = value - mask;
    while above >= 0x80 {
        block.push(above as u8 | 0x80);
        above >>= 7;
    }
    block.push(above as u8);
}

fn write_string(block: &mut Vec<u8>, string: &[u8], huffman: bool) {
    if !huffman {
        write_length(block, string.len());
        return block.extend_from_slice(string);
    }
    let mut bits: Vec<bool> = Vec::new();
    for byte in string {
        let (code, length) = huffman::code_of(u16::from(*byte));
        bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
    }
    let whole = bits.len().div_ceil(8);
    bits.resize(whole * 8, true);
    write_integer(block, 0x80, 7, whole);
    block.extend(
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit))),
    );
}

fn fields() -> impl Strategy<Value = Vec<(Field, Form, bool)>> {
    let name = prop_oneof![
        Just(b":authority".to_vec()),
        Just(b":path".to_vec()),
        Just(b"user-agent".to_vec()),
        vec(any::<u8>(), 0..4),
        vec(any::<u8>(), 0..400),
    ];
    let form = prop_oneof![
        3 => Just(Form::Indexed),
        3 => Just(Form::Inserted),
        1 => Just(Form::Plain),
        1 => Just(Form::Never),
        1 => any::<u16>().prop_map(Form::Resized),
    ];
    let value = prop_oneof![vec(any::<u8>(), 0..3), vec(any::<u8>(), 0..300)];
    let field = (name, value, form, any::<bool>()).prop_map(|(name, value, form, huffman)| {
        let field = Field {
            name: name.into(),
            value: value.into(),
        };
        (field, form, huffman)
    });
    vec(field, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_an_encoder_writes_is_read_back_over_many_blocks(blocks in vec(fields(), 1..6)) {
        let (mut mirror, mut decoder) = (Decoder::new(), Decoder::new());
        for fields in blocks {
            let block = encode(&mut mirror, &fields);
            let wanted: Vec<_> = fields.into_iter().map(|(field, ..)| field).collect();
            prop_assert_eq!(decoder.decode(&block).unwrap(), wanted);
            prop_assert!(decoder.size <= decoder.max);
            prop_assert_eq!(decoder.size, decoder.table.iter().map(Field::size).sum::<usize>());
        }
    }

    #[test]
    fn what_is_written_as_literals_is_read_back(fields in fields()) {
        let mut block = Vec::new();
        for (field, ..) in &fields {
            write_literal(&mut block, &field.name, &field.value);
        }
        let wanted: Vec<_> = fields.into_iter().map(|(field, ..)| field).collect();
        prop_assert!(block.len() <= wanted.iter().map(Field::size).sum());
        prop_assert_eq!(Decoder::new().decode(&block).unwrap(), wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    #[test]
    fn no_input_panics_and_all_output_is_bounded(blocks in vec(vec(any::<u16>(), 0..40), 1..4)) {
        // Half of the bytes are such that begin something.
        let common = [0x40, 0x3f, 0xff, 0xbe, 0xbf, 0xc0, 0x00, 0x81];
        let byte = |it: u16| match it.to_be_bytes() {
            [which, _] if which < 128 => common[usize::from(which) % common.len()],
            [_, byte] => byte,
        };
        let blocks = blocks.into_iter().map(|block| block.into_iter().map(byte).collect::<Vec<_>>());
        let mut decoder = Decoder::new();
        for block in blocks {
            let Ok(fields) = decoder.decode(&block) else { break };
            prop_assert!(fields.iter().map(Field::size).sum::<usize>() <= MAX_LIST);
            prop_assert!(decoder.size <= MAX_TABLE);
        }
    }
}
