//! Tokens that are given where nobody else on the machine sees them: a file, standard input, the environment.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Far more than any token has.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// A token that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the token file {} cannot be read: {source}\nhint: name the file that holds what `lull token create` printed", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("standard input cannot be read: {0}\nhint: give the token in a file, with --token-file FILE")]
    Input(io::Error),
    #[error("there is no token in {0}\nhint: it holds one line, as `lull token create` printed it")]
    Empty(String),
    #[error("{0} holds more than a token has\nhint: it holds one line, as `lull token create` printed it")]
    Long(String),
}

/// The token that was given: as a word, in a file, or in this variable of the environment. `-` in place of either of the
/// first two is standard input.
pub fn given(word: Option<String>, file: Option<PathBuf>, variable: &str) -> Result<Option<String>, SecretError> {
    match (word, file) {
        (Some(word), _) if word == "-" => from_input().map(Some),
        (Some(word), _) => Ok(Some(word)),
        (None, Some(file)) => read(&file).map(Some),
        (None, None) => Ok(std::env::var(variable).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())),
    }
}

/// The token in a file; `-` is standard input.
pub fn read(file: &Path) -> Result<String, SecretError> {
    if file == Path::new("-") {
        return from_input();
    }
    let failed = |source| SecretError::File { path: file.to_owned(), source };
    let place = file.display().to_string();
    first_line(File::open(file).map_err(failed)?, &place)?.map_err(failed)
}

fn from_input() -> Result<String, SecretError> {
    first_line(io::stdin().lock(), "standard input")?.map_err(SecretError::Input)
}

fn first_line(from: impl Read, place: &str) -> Result<io::Result<String>, SecretError> {
    let mut text = String::new();
    match from.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text) {
        Err(error) => return Ok(Err(error)),
        Ok(read) if read as u64 > SECRET_BYTES_MAX => return Err(SecretError::Long(place.to_owned())),
        Ok(_) => {}
    }
    // Editors of Windows begin files with a mark.
    let token = text.trim_start_matches('\u{feff}').lines().map(str::trim).find(|line| !line.is_empty());
    token.map(|token| Ok(token.to_owned())).ok_or_else(|| SecretError::Empty(place.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_first_line_of_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let with = |text: &str| {
            std::fs::write(&file, text).expect("written");
            given(None, Some(file.clone()), "LULL_NO_SUCH_VARIABLE")
        };
        for text in ["lull1-abc", "lull1-abc\n", "\u{feff}lull1-abc\r\n", "\n  lull1-abc  \nrest"] {
            assert_eq!(with(text).expect("read").as_deref(), Some("lull1-abc"), "{text:?}");
        }
        assert!(matches!(with(" \n"), Err(SecretError::Empty(_))));
        assert!(matches!(with(&"x".repeat(70_000)), Err(SecretError::Long(_))));
        let missing = given(None, Some(folder.path().join("none")), "LULL_NO_SUCH_VARIABLE");
        assert!(matches!(missing, Err(SecretError::File { .. })));
        assert_eq!(given(None, None, "LULL_NO_SUCH_VARIABLE").expect("none is no error"), None);
        assert_eq!(given(Some("word".into()), None, "LULL_NO_SUCH_VARIABLE").expect("given").as_deref(), Some("word"));
    }
}
