//! Tests only: what a server answers, in the bytes of \[MS-TDS\]. Just enough for a login, rows of numbers and
//! texts, or an error.
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

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<&'a str>),
}

/// The only row of a SELECT and the names of its columns.
pub(super) type Row<'a> = &'a [(&'a str, Value<'a>)];

/// One row.
pub(super) fn row(columns: Row<'_>) -> Vec<u8> {
    rows(&[columns])
}

/// The answers of several SELECTs, each of one row, or of none if it has no columns that are known.
pub(super) fn rows(selects: &[Row<'_>]) -> Vec<u8> {
    let mut tokens = Vec::new();
    for (number, columns) in (1..).zip(selects) {
        tokens.extend(if columns.is_empty() { no_row() } else { one_row(columns) });
        tokens.extend(done_token(if number == selects.len() { 0x10 } else { 0x11 }));
    }
    packet(&tokens)
}

fn no_row() -> Vec<u8> {
    metadata(&[("nothing", Value::Int(None))])
}

/// The columns, then their values (2.2.7.4, 2.2.7.19).
fn one_row(columns: Row<'_>) -> Vec<u8> {
    let mut tokens = metadata(columns);
    tokens.push(0xD1);
    for (_, value) in columns {
        match value {
            Value::Int(None) => tokens.push(0),
            Value::Int(Some(value)) => {
                tokens.push(8);
                tokens.extend(value.to_le_bytes());
            }
            Value::Text(None) => tokens.extend([0xFF, 0xFF]),
            Value::Text(Some(value)) => {
                let units: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
                tokens.extend(u16::try_from(units.len()).expect("a short text").to_le_bytes());
                tokens.extend(units);
            }
        }
    }
    tokens
}

fn metadata(columns: Row<'_>) -> Vec<u8> {
    const INTN: [u8; 2] = [0x26, 8];
    // At most 512 bytes, in the collation that servers are set up with.
    const NVARCHAR: [u8; 8] = [0xE7, 0x00, 0x02, 0x09, 0x04, 0xD0, 0x00, 0x34];
    let count = u16::try_from(columns.len()).expect("a few columns").to_le_bytes();
    let mut tokens = [&[0x81][..], &count].concat();
    for (name, value) in columns {
        let (user_type, flags) = ([0; 4], [0; 2]);
        let kind = match value {
            Value::Int(_) => &INTN[..],
            Value::Text(_) => &NVARCHAR,
        };
        tokens.extend([&user_type[..], &flags, kind, &text(name)].concat());
    }
    tokens
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

/// The last token of an answer (2.2.7.6); `status` 0x01 says that more follow, 0x02 is an error, 0x10 that rows were counted.
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
