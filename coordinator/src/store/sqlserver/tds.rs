//! Tests only: what a server answers, in the bytes of \[MS-TDS\]. Just enough for a login, one row of numbers, or an error.
//!
//! <https://learn.microsoft.com/openspecs/windows_protocols/ms-tds>

/// A server's answer to the first message of a connection (2.2.6.5): version 16, and no encryption.
pub(super) fn prelogin() -> Vec<u8> {
    const OPTIONS: [u8; 11] = [0x00, 0, 11, 0, 6, 0x01, 0, 17, 0, 1, 0xFF];
    const VERSION: [u8; 6] = [16, 0, 0, 0, 0, 0];
    const ENCRYPTION_NOT_SUPPORTED: u8 = 2;
    packet(&[&OPTIONS[..], &VERSION, &[ENCRYPTION_NOT_SUPPORTED]].concat())
}

/// The login is accepted (2.2.7.14), by a server that speaks TDS 7.4.
pub(super) fn login() -> Vec<u8> {
    let body = [&[1][..], &0x7400_0004_u32.to_be_bytes(), &text("mock"), &[16, 0, 0, 0]].concat();
    packet(&[with_length(0xAD, &body), done_token(0)].concat())
}

/// Nothing more comes, and nothing went wrong.
pub(super) fn done() -> Vec<u8> {
    packet(&done_token(0))
}

/// One row of numbers, and the names of their columns (2.2.7.4, 2.2.7.19).
pub(super) fn row(columns: &[(&str, i32)]) -> Vec<u8> {
    const INTN: u8 = 0x26;
    let count = u16::try_from(columns.len()).expect("a few columns").to_le_bytes();
    let mut tokens = [&[0x81][..], &count].concat();
    for (name, _) in columns {
        let (user_type, flags) = ([0; 4], [0; 2]);
        tokens.extend([&user_type[..], &flags, &[INTN, 4], &text(name)].concat());
    }
    tokens.push(0xD1);
    for (_, value) in columns {
        tokens.push(4);
        tokens.extend(value.to_le_bytes());
    }
    tokens.extend(done_token(0x10));
    packet(&tokens)
}

/// The request failed (2.2.7.10).
pub(super) fn error(number: u32, words: &str) -> Vec<u8> {
    let (state, class, line) = (1, 16, 1_u32.to_le_bytes());
    let words: Vec<u8> = words.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = u16::try_from(words.len() / 2).expect("a short message").to_le_bytes();
    let (server, procedure) = (text(""), text(""));
    let body = [&number.to_le_bytes()[..], &[state, class], &length, &words, &server, &procedure, &line].concat();
    packet(&[with_length(0xAA, &body), done_token(0x02)].concat())
}

/// The last token of an answer (2.2.7.6); `status` 0x02 is an error, 0x10 says that rows were counted.
fn done_token(status: u16) -> Vec<u8> {
    let (command, rows) = ([0; 2], [0; 8]);
    [&[0xFD][..], &status.to_le_bytes(), &command, &rows].concat()
}

fn with_length(token: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a small token").to_le_bytes();
    [&[token][..], &length, body].concat()
}

/// A text whose length is one byte.
fn text(text: &str) -> Vec<u8> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let length = u8::try_from(units.len()).expect("a short text");
    [vec![length], units.into_iter().flat_map(u16::to_le_bytes).collect()].concat()
}

/// All of an answer in one packet (2.2.3.1).
fn packet(tokens: &[u8]) -> Vec<u8> {
    const TABULAR_RESULT: u8 = 4;
    const END_OF_MESSAGE: u8 = 1;
    let length = u16::try_from(tokens.len() + 8).expect("a small answer").to_be_bytes();
    [&[TABULAR_RESULT, END_OF_MESSAGE, length[0], length[1], 0, 0, 1, 0], tokens].concat()
}
