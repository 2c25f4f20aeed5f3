//! Recognises personal data at one place of a text. A candidate is accepted only if it passes what its kind offers as
//! a check (Luhn for cards, modulo 97 for IBANs, ranges for addresses), so that order numbers and dates stay.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Email,
    Iban,
    Card,
    Ssn,
    Ip,
    Phone,
}

impl Kind {
    /// In order of preference where two would match at one place.
    pub const ALL: [Kind; 6] = [Kind::Email, Kind::Iban, Kind::Card, Kind::Ssn, Kind::Ip, Kind::Phone];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Email => "email",
            Kind::Iban => "iban",
            Kind::Card => "card",
            Kind::Ssn => "ssn",
            Kind::Ip => "ip",
            Kind::Phone => "phone",
        }
    }
}

pub struct Finding {
    pub kind: Kind,
    pub len: usize,
    /// Without separators and in one case, so that two spellings of one value are the same.
    pub value: Vec<u8>,
}

/// What starts at `at`, if anything does. Nothing starts inside a word or number.
pub fn find_at(text: &[u8], at: usize, kinds: &[Kind]) -> Option<Finding> {
    let first = text[at];
    if !(first.is_ascii_alphanumeric() || first == b'+' || first == b'(') {
        return None;
    }
    let before = at.checked_sub(1).map(|before| text[before]);
    if before.is_some_and(|byte| is_word(byte) || byte == b'+') {
        return None;
    }
    let rest = &text[at..];
    Kind::ALL.iter().filter(|kind| kinds.contains(kind)).find_map(|kind| {
        let (len, value) = match kind {
            Kind::Email => email(rest),
            Kind::Iban => iban(rest),
            Kind::Card => card(rest),
            Kind::Ssn => ssn(rest, before),
            Kind::Ip => ip(rest, before),
            Kind::Phone => phone(rest, before),
        }?;
        Some(Finding { kind: *kind, len, value })
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn ends_there(rest: &[u8], len: usize) -> bool {
    rest.get(len).is_none_or(|byte| !is_word(*byte))
}

const EMAIL_BYTES_MAX: usize = 254;

fn email(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-'".contains(&byte);
    let local = rest.iter().take(65).take_while(|byte| is_local(**byte)).count();
    if local == 0 || local > 64 || rest.get(local) != Some(&b'@') || rest[local - 1] == b'.' {
        return None;
    }
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let mut domain: Vec<u8> = rest[local + 1..].iter().take(EMAIL_BYTES_MAX).copied().take_while(|b| is_domain(*b)).collect();
    while domain.last().is_some_and(|byte| *byte == b'.' || *byte == b'-') {
        domain.pop();
    }
    let mut labels = domain.split(|byte| *byte == b'.').rev();
    let top = labels.next()?;
    let top_is_name = top.len() >= 2 && top.iter().all(u8::is_ascii_alphabetic);
    if !top_is_name || labels.clone().count() == 0 || labels.any(|label| label.is_empty()) {
        return None;
    }
    let len = local + 1 + domain.len();
    ends_there(rest, len).then(|| (len, rest[..len].to_ascii_lowercase()))
}

/// Country, two check digits, then 11 to 30 letters and digits, in groups of four or without spaces.
fn iban(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let country = rest.get(..2)?.iter().all(u8::is_ascii_uppercase);
    let digits = rest.get(2..4)?.iter().all(u8::is_ascii_digit);
    if !country || !digits {
        return None;
    }
    let mut value = Vec::new();
    let mut found = None;
    let mut at = 0;
    while at < rest.len() && value.len() < 34 {
        let byte = rest[at];
        if byte == b' ' && value.len().is_multiple_of(4) && rest.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) {
            at += 1;
            continue;
        }
        if !(byte.is_ascii_digit() || byte.is_ascii_uppercase()) {
            break;
        }
        value.push(byte);
        at += 1;
        if value.len() >= 15 && ends_there(rest, at) && iban_check(&value) {
            found = Some((at, value.clone()));
        }
    }
    found
}

fn iban_check(value: &[u8]) -> bool {
    let rearranged = value[4..].iter().chain(&value[..4]);
    let remainder = rearranged.fold(0u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    remainder == 1
}

/// Digits in runs between single separators: their values and where each digit ends.
fn digits_with(rest: &[u8], separators: &[u8], count_max: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut digits, mut ends) = (Vec::new(), Vec::new());
    let mut separated = true;
    for (at, byte) in rest.iter().enumerate() {
        if byte.is_ascii_digit() {
            if digits.len() == count_max {
                break;
            }
            digits.push(*byte);
            ends.push(at + 1);
            separated = false;
        } else if separators.contains(byte) && !separated {
            separated = true;
        } else {
            break;
        }
    }
    (digits, ends)
}

/// 13 to 19 digits that start as a card network's do and pass Luhn's check, longest first.
fn card(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    if !matches!(rest[0], b'2'..=b'6') {
        return None;
    }
    let (digits, ends) = digits_with(rest, b" -", 19);
    (13..=digits.len()).rev().find_map(|count| {
        let len = ends[count - 1];
        (ends_there(rest, len) && luhn(&digits[..count])).then(|| (len, digits[..count].to_vec()))
    })
}

fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, byte)| {
            let digit = u32::from(byte - b'0');
            if i % 2 == 1 { doubled(digit) } else { digit }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// AAA-GG-SSSS with the areas, groups and serials that were ever given out.
fn ssn(rest: &[u8], before: Option<u8>) -> Option<(usize, Vec<u8>)> {
    let shape = rest.get(..11)?;
    let well_formed =
        shape.iter().enumerate().all(|(i, byte)| if i == 3 || i == 6 { *byte == b'-' } else { byte.is_ascii_digit() });
    let area = &shape[..3];
    let given_out = area != b"000" && area != b"666" && area[0] != b'9' && &shape[4..6] != b"00" && &shape[7..] != b"0000";
    let alone = ends_there(rest, 11) && rest.get(11) != Some(&b'-') && before != Some(b'-');
    (well_formed && given_out && alone).then(|| (11, shape.iter().copied().filter(u8::is_ascii_digit).collect()))
}

/// Four numbers up to 255 between dots. A version number of four parts looks the same and is taken too.
fn ip(rest: &[u8], before: Option<u8>) -> Option<(usize, Vec<u8>)> {
    if before == Some(b'.') {
        return None;
    }
    let mut at = 0;
    for part in 0..4 {
        let digits = rest[at..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let number = rest[at..at + digits].iter().fold(0u32, |number, byte| number * 10 + u32::from(byte - b'0'));
        if digits == 0 || digits > 3 || number > 255 || (digits > 1 && rest[at] == b'0') {
            return None;
        }
        at += digits;
        if part < 3 {
            if rest.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    let more = rest.get(at) == Some(&b'.') && rest.get(at + 1).is_some_and(u8::is_ascii_digit);
    (ends_there(rest, at) && !more).then(|| (at, rest[..at].to_vec()))
}

/// +CC and 8 to 15 digits in all, (AAA) EEE-NNNN, AAA-EEE-NNNN, or a national number from 0 with 9 to 11 digits that
/// has separators. Dates, amounts and bare order numbers have no such shape.
fn phone(rest: &[u8], before: Option<u8>) -> Option<(usize, Vec<u8>)> {
    if before.is_some_and(|byte| b"-./".contains(&byte)) {
        return None;
    }
    if rest[0] == b'+' {
        return international(&rest[1..]).map(|(len, digits)| (len + 1, digits));
    }
    let (skip, (digits, ends)) = if rest[0] == b'(' {
        let (area, area_ends) = digits_with(&rest[1..], b"", 5);
        let close = 1 + *area_ends.last()?;
        if rest.get(close) != Some(&b')') {
            return None;
        }
        let space = usize::from(matches!(rest.get(close + 1), Some(b' ' | b'-')));
        let skip = close + 1 + space;
        let (local, ends) = digits_with(&rest[skip..], b" -.", 12);
        (skip, ([area, local].concat(), ends))
    } else {
        (0, digits_with(rest, b" -./", 12))
    };
    let len = skip + *ends.last()?;
    let number = &rest[..len];
    let separated = number.iter().any(|byte| !byte.is_ascii_digit());
    let american = digits.len() == 10 && matches!(digits[0], b'2'..=b'9') && is_american(number);
    let national = digits[0] == b'0'
        && digits.len() >= 2
        && digits[1] != b'0'
        && (9..=11).contains(&digits.len())
        && !number.contains(&b'.');
    (separated && (american || national) && ends_there(rest, len)).then_some((len, digits))
}

fn international(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    if !matches!(rest.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut digits = Vec::new();
    let (mut at, mut len) = (0, 0);
    while at < rest.len() && digits.len() < 15 {
        match rest[at] {
            digit if digit.is_ascii_digit() => {
                digits.push(digit);
                len = at + 1;
            }
            b' ' | b'-' | b'.' | b'(' | b')' if at < len + 2 => {}
            _ => break,
        }
        at += 1;
    }
    (digits.len() >= 8 && ends_there(rest, len)).then_some((len, digits))
}

/// Groups of three, three and four digits.
fn is_american(number: &[u8]) -> bool {
    let groups = number.split(|byte| !byte.is_ascii_digit()).filter(|group| !group.is_empty());
    groups.map(<[u8]>::len).eq([3, 3, 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(Kind, String)> {
        let (bytes, mut at, mut all) = (text.as_bytes(), 0, Vec::new());
        while at < bytes.len() {
            let finding = find_at(bytes, at, &Kind::ALL);
            at += finding.as_ref().map_or(1, |finding| finding.len);
            all.extend(finding.map(|finding| (finding.kind, String::from_utf8_lossy(&finding.value).into_owned())));
        }
        all
    }

    fn one(kind: Kind, value: &str) -> Vec<(Kind, String)> {
        vec![(kind, value.to_owned())]
    }

    #[test]
    fn two_spellings_of_a_value_are_the_same() {
        assert_eq!(found("DE89 3704 0044 0532 0130 00"), found("DE89370400440532013000"));
        assert_eq!(found("4111 1111 1111 1111"), one(Kind::Card, "4111111111111111"));
        assert_eq!(found("4111-1111-1111-1111."), one(Kind::Card, "4111111111111111"));
        assert_eq!(found("<A.B@Example.COM>."), one(Kind::Email, "a.b@example.com"));
    }

    #[test]
    fn telephone_numbers_of_several_countries_are_found() {
        assert_eq!(found("(212) 555-0147"), one(Kind::Phone, "2125550147"));
        assert_eq!(found("call 212-555-0147!"), one(Kind::Phone, "2125550147"));
        assert_eq!(found("+44 20 7946 0958 by day"), one(Kind::Phone, "442079460958"));
        assert_eq!(found("089/1234567"), one(Kind::Phone, "0891234567"));
    }

    #[test]
    fn numbers_that_fail_their_check_stay() {
        assert_eq!(found("4111 1111 1111 1112"), []);
        assert_eq!(found("GB28NWBK60161331926819"), []);
        assert_eq!(found("666-12-3456 and 912-05-1120"), []);
        assert_eq!(found("192.0.2.256 and 1.2.3.4.5"), []);
    }

    #[test]
    fn dates_amounts_and_words_stay() {
        assert_eq!(found("2026-03-14, EUR 1,249.00, order 1234567890123, version 3.1.4"), []);
        assert_eq!(found("a@b, user@localhost, @name, x86_64, 01.02.2026"), []);
    }
}
