//! A file that only root can write.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use lull_shared::{amount::quoted, misread};

use super::{FILE, Found, VALUE_BYTES_MAX, Value, Values};

/// Whom the file must belong to.
const ROOT: u32 = 0;
/// The rights of others to write.
const OTHERS_WRITE: u32 = 0o022;
/// A policy has a line for each setting.
const FILE_BYTES_MAX: u64 = 4 * VALUE_BYTES_MAX as u64;

pub(super) fn found() -> Found {
    of_file(Path::new(FILE), ROOT)
}

/// What a file says that must be this user's.
fn of_file(path: &Path, owner: u32) -> Found {
    match text(path, owner) {
        Ok(Some(text)) => parse(&text, path),
        Ok(None) => Found::default(),
        Err(error) => Found { unread: vec![format!("{}: {error}", path.display())], ..Found::default() },
    }
}

fn text(path: &Path, owner: u32) -> io::Result<Option<String>> {
    // What is no file might never be opened.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let about = file.metadata()?;
    if !about.is_file() || about.uid() != owner || about.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other("it is not a file that root alone can write"));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn parse(text: &str, path: &Path) -> Found {
    let unread = |words: String| Found { unread: vec![format!("{}: {words}", path.display())], ..Found::default() };
    let file: toml::Table = match misread::toml(text) {
        Ok(file) => file,
        Err(wrong) => return unread(lull_shared::hint::in_one_line(&wrong.to_string())),
    };
    let mut found = Found::default();
    let Found { mandatory, recommended, unread } = &mut found;
    for (name, value) in file {
        match (name.as_str(), value) {
            ("mandatory", toml::Value::Table(table)) => take(table, mandatory, unread),
            ("recommended", toml::Value::Table(table)) => take(table, recommended, unread),
            (_, toml::Value::Table(_)) | ("mandatory" | "recommended", _) => {
                unread.push(format!("{}: there is no such part; its parts are [mandatory] and [recommended]", quoted(&name)));
            }
            // With what to join stands outside of the tables, as it is no setting of the policy.
            (_, value) => take([(name, value)], mandatory, unread),
        }
    }
    found
}

/// The same names as everywhere: a setting may be written as in other files too, but once.
fn take(table: impl IntoIterator<Item = (String, toml::Value)>, into: &mut Values, unread: &mut Vec<String>) {
    let value = |value: toml::Value| match value {
        toml::Value::String(text) => Value::Text(text),
        toml::Value::Boolean(yes) => Value::Number(yes.into()),
        toml::Value::Integer(number) => u64::try_from(number).map_or(Value::Other, Value::Number),
        _ => Value::Other,
    };
    for (name, said) in table {
        let known = super::value_name(&name);
        if into.keys().any(|other| other.eq_ignore_ascii_case(&known)) {
            unread.push(format!("{} is said twice", quoted(&name)));
        } else {
            into.insert(known, value(said));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{super::MachinePolicy, *};

    fn own() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[test]
    fn a_file_says_the_same_as_the_registry() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        let text = "join_token = \"lull1-x\"\ncoordinator = \"lull.example.org\"\n[mandatory]\nidle = \"30m\"\non_battery = false\n\
                    Cores = 40\n[recommended]\nhours = \"20:00-06:00\"\n";
        std::fs::write(&path, text).expect("written");
        let policy = MachinePolicy::of(&of_file(&path, own()));
        assert_eq!(
            policy.word.mandatory.given(),
            [("idle", "30m".to_owned()), ("cores", "40".to_owned()), ("on_battery", "false".to_owned())]
        );
        assert_eq!(policy.word.recommended.given().len(), 1);
        assert_eq!(policy.pending.expect("a token").coordinators, ["lull.example.org"]);
        assert_eq!(MachinePolicy::of(&of_file(&folder.path().join("none"), own())), MachinePolicy::default());
    }

    #[test]
    fn a_file_that_others_can_write_or_that_is_damaged_stops_all_work() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, "[mandatory]\nidle = \"30m\"\n").expect("written");
        let word = |owner| MachinePolicy::of(&of_file(&path, owner)).word;
        assert!(word(own()).unread.is_empty());
        assert_eq!(word(own() + 1).unread.len(), 1, "somebody else's");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("rights");
        assert_eq!(word(own()).unread.len(), 1, "everybody can write it");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("rights");
        std::fs::write(&path, "[mandatory").expect("written");
        assert_eq!(word(own()).unread.len(), 1, "damaged");
    }

    #[test]
    fn a_part_that_there_is_not_and_a_setting_that_is_said_twice_stop_all_work() {
        for (text, words) in [
            ("[Mandatory]\nhours = \"never\"\n", "`Mandatory`: there is no such part"),
            ("mandatory = \"x\"\n", "`mandatory`: there is no such part"),
            ("on_battery = true\n[mandatory]\non_battery = false\n", "`on_battery` is said twice"),
            ("[mandatory]\non_metered = true\nOnMetered = false\n", "is said twice"),
        ] {
            let found = parse(text, Path::new("policy.toml"));
            assert!(found.unread.len() == 1 && found.unread[0].contains(words), "{text}: {:?}", found.unread);
        }
    }
}
