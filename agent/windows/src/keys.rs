//! Calls of Windows that tell which key is pressed, and that nothing of ours may take. For tests.

/// A call a line, in two halves: whole, the names would stand in the very program that looks for them.
const CALLS: &str = include_str!("keys.txt");

/// Looks for them in a program that asks whether there is input: the names of what it takes from the system stand in it as they
/// are. Panics if it takes one.
pub fn assert_none_is_taken(program: &[u8]) {
    let has = |name: &str| program.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    assert!(has(&["GetLast", "InputInfo"].concat()), "the search finds what is there");
    for call in CALLS.lines().map(|halves| halves.replace(' ', "")) {
        assert!(!has(&call), "{call}");
    }
}
