use std::{
    collections::BTreeMap,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use msi::{CodePage, Package, Select};

use super::*;

const EPOCH_S: u64 = 1_700_000_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn wish() -> Wish {
    Wish { version: env!("CARGO_PKG_VERSION").into(), epoch_s: EPOCH_S }
}

/// What `wixl` makes of a source with stand-ins for the programs; none where it is not installed.
fn raw(source: &str, agent: &str) -> Option<Vec<u8>> {
    let stage = tempfile::tempdir().expect("a folder");
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_S);
    for (name, content) in
        [("lull-agent.exe", agent), ("lull-tray.exe", "tray"), ("lull.exe", "lull"), ("LICENSE.txt", "licence")]
    {
        let file = fs::File::create(stage.path().join(name)).expect("a file");
        std::io::Write::write_all(&mut &file, content.as_bytes()).expect("written");
        file.set_modified(at).expect("its time");
    }
    fs::copy(root().join("installer/windows/lull.ico"), stage.path().join("lull.ico")).expect("the icon");
    let source_path = root().join("installer/windows").join(source).canonicalize().expect("the source");
    let made = Command::new("wixl")
        .args(["-a", "x64", "-D", &format!("Version={}", env!("CARGO_PKG_VERSION"))])
        // It takes files by relative names only.
        .args(["-D", "Stage=.", "-D", "Icon=lull.ico", "-o", "raw.msi"])
        .arg(source_path)
        .current_dir(stage.path())
        .output();
    match made {
        Ok(said) => {
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            Some(fs::read(stage.path().join("raw.msi")).expect("an installer"))
        }
        Err(error) => {
            eprintln!("NOT CHECKED: {source}: wixl: {error}");
            None
        }
    }
}

fn finished(source: &str, agent: &str) -> Option<Vec<u8>> {
    raw(source, agent).map(|raw| finish(raw, &wish()).expect("it can be finished"))
}

/// Rows of a table by their first column.
fn table(bytes: &[u8], name: &str) -> BTreeMap<String, Vec<String>> {
    let mut file = Package::open(Cursor::new(bytes.to_vec())).expect("an installer");
    let rows = file.select_rows(Select::table(name)).expect("the table");
    let text = |value: &msi::Value| match value {
        msi::Value::Null => String::new(),
        other => other.as_str().map_or_else(|| other.as_int().unwrap_or_default().to_string(), str::to_owned),
    };
    rows.map(|row| (text(&row[0]), (1..row.len()).map(|at| text(&row[at])).collect())).collect()
}

fn sequence(bytes: &[u8]) -> BTreeMap<String, i32> {
    table(bytes, "InstallExecuteSequence").into_iter().map(|(action, row)| (action, row[1].parse().expect("a number"))).collect()
}

#[test]
fn two_builds_of_one_content_are_one_file_and_another_content_is_another_product() {
    let Some(first) = finished("lull-agent.wxs", "agent") else { return };
    let second = finished("lull-agent.wxs", "agent").expect("it is there");
    assert!(first == second, "not one byte differs");
    let other = finished("lull-agent.wxs", "another").expect("it is there");
    let code = |bytes: &[u8]| table(bytes, "Property")["ProductCode"][0].clone();
    assert_ne!(code(&first), code(&other));
    assert!(code(&first).starts_with('{') && code(&first) == code(&first).to_uppercase(), "{}", code(&first));
}

#[test]
fn the_header_is_one_that_windows_reads() {
    for source in ["lull-agent.wxs", "lull.wxs"] {
        let Some(bytes) = finished(source, "agent") else { return };
        // Sectors of 512 bytes, by the version of the file and their power of two.
        assert_eq!((bytes[0x1a], bytes[0x1e]), (3, 9));
        let file = Package::open(Cursor::new(&bytes)).expect("an installer");
        assert_eq!(file.database_codepage(), CodePage::Windows1252);
        let summary = file.summary_info();
        assert_eq!((summary.codepage(), summary.arch(), summary.word_count()), (CodePage::Windows1252, Some("x64"), Some(2)));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_S);
        assert_eq!((summary.creation_time(), summary.last_saved_time()), (Some(at), Some(at)));
        // The directory's first entry is the root, and its time of creation is 0.
        let directory = u32::from_le_bytes(bytes[0x30..0x34].try_into().expect("four bytes")) as usize;
        let root = 512 * (directory + 1);
        assert_eq!((bytes[root + 66], &bytes[root + 100..root + 108]), (5, &[0; 8][..]));
        // The code page itself, as it stands in the string pool, and not as the library shows it.
        let mut compound = cfb::CompoundFile::open(Cursor::new(&bytes)).expect("a compound file");
        let pool = "\u{4840}\u{3f3f}\u{4577}\u{446c}\u{3e6a}\u{44b2}\u{482f}";
        let mut head = [0; 4];
        std::io::Read::read_exact(&mut compound.open_stream(pool).expect("the string pool"), &mut head).expect("its head");
        assert_eq!(u32::from_le_bytes(head) & 0xffff, 1252);
    }
}

#[test]
fn a_token_is_hidden_and_everything_that_may_be_given_reaches_the_elevated_part() {
    let Some(bytes) = finished("lull-agent.wxs", "agent") else { return };
    let properties = table(&bytes, "Property");
    assert_eq!(properties["MsiHiddenProperties"], ["JOIN_TOKEN"]);
    let secure: Vec<&str> = properties["SecureCustomProperties"][0].split(';').collect();
    for name in ["JOIN_TOKEN", "JOIN_TOKEN_FILE", "COORDINATOR", "TRAY", "DATA", "KEEP_DATA", "WIX_UPGRADE_DETECTED"] {
        assert!(secure.contains(&name), "{name}: {secure:?}");
    }
    // Whatever is named in an action that a person gives is one of these.
    for (action, row) in table(&bytes, "CustomAction") {
        let (kind, target) = (row[0].parse::<i32>().expect("a number"), &row[2]);
        assert_eq!(target.contains("[JOIN_TOKEN]"), kind & 0x2000 != 0, "{action} hides what it says only if it must");
    }
}

#[test]
fn actions_are_of_their_kinds_and_in_their_places() {
    let Some(bytes) = finished("lull-agent.wxs", "agent") else { return };
    let (actions, at) = (table(&bytes, "CustomAction"), sequence(&bytes));
    let kind = |action: &str| actions[action][0].parse::<i32>().expect("a number");
    for action in ["DataAsBefore", "DataByDefault", "TrayAsBefore", "TrayByDefault"] {
        assert_eq!(kind(action), 51, "{action} sets a property at once");
        assert!(at["AppSearch"] < at[action] && at[action] < at["LaunchConditions"], "{action}");
    }
    for action in ["SetUp", "UndoSetUp", "TakeDown", "TakeDownButData", "EndTrays", "EndTraysForGood", "StartTrays"] {
        assert_eq!(kind(action) & (0x3f | 0x400 | 0x800), 18 | 0x400 | 0x800, "{action} is the agent itself, as the system");
    }
    assert_eq!((kind("UndoSetUp") & 0x100, kind("SetUp") & 0x140), (0x100, 0), "one is for the way back, and a failure counts");
    let orders = [
        ("InstallInitialize", "RemoveExistingProducts"),
        ("RemoveExistingProducts", "EndTrays"),
        ("EndTrays", "StopServices"),
        ("DeleteServices", "TakeDown"),
        ("TakeDown", "RemoveFiles"),
        ("InstallServices", "UndoSetUp"),
        ("UndoSetUp", "SetUp"),
        ("SetUp", "StartServices"),
        ("StartServices", "StartTrays"),
        ("StartTrays", "InstallFinalize"),
    ];
    for (before, after) in orders {
        assert!(at[before] < at[after], "{before} comes before {after}");
    }
}

#[test]
fn a_newer_version_takes_the_place_of_an_older_one_and_an_older_one_is_refused() {
    for source in ["lull-agent.wxs", "lull.wxs"] {
        let Some(bytes) = finished(source, "agent") else { return };
        let mut file = Package::open(Cursor::new(bytes.clone())).expect("an installer");
        let rows: Vec<_> = file.select_rows(Select::table("Upgrade")).expect("the table").collect();
        assert_eq!(rows.len(), 2);
        for row in rows {
            let (found, attributes) =
                (row["ActionProperty"].as_str().expect("a name"), row["Attributes"].as_int().expect("bits"));
            let code = row["UpgradeCode"].as_str().expect("a code");
            assert_eq!(code, code.to_uppercase());
            match found {
                "WIX_UPGRADE_DETECTED" => assert_eq!(attributes & 0x202, 0x200, "it is removed, one of the same version too"),
                _ => assert_eq!(attributes & 0x2, 2, "it is only detected"),
            }
        }
        let conditions = table(&bytes, "LaunchCondition");
        let refuses = |condition: &str| assert!(conditions.contains_key(condition), "{condition}: {conditions:?}");
        refuses("NOT WIX_DOWNGRADE_DETECTED");
        refuses("Installed OR VersionNT64 >= 603");
        refuses("NOT (DATA >> \"\\\")");
    }
}

#[test]
fn files_have_short_names_and_programs_their_version() {
    let Some(bytes) = finished("lull-agent.wxs", "agent") else { return };
    let files = table(&bytes, "File");
    let (agent, licence) = (&files["AgentProgram"], &files["License"]);
    assert_eq!(agent[1], "LULLAGEN.EXE|lull-agent.exe");
    assert_eq!((agent[3].as_str(), agent[4].as_str()), (concat!(env!("CARGO_PKG_VERSION"), ".0"), "1033"));
    assert_eq!((licence[1].as_str(), licence[3].as_str()), ("LICENSE.TXT|LICENSE.txt", ""));
    let tray = &table(&bytes, "Component")["Tray"];
    assert_eq!((tray[2].parse::<i32>().expect("bits") & 0x140, tray[3].as_str()), (0x140, "TRAY <> \"0\""));
    let service = &table(&bytes, "ServiceInstall")["AgentService"];
    assert_eq!((service[4].as_str(), service[7].as_str()), ("32769", r"NT SERVICE\LullAgent"));
}

#[test]
fn no_folder_is_left_when_the_last_product_goes() {
    for source in ["lull-agent.wxs", "lull.wxs"] {
        let Some(bytes) = finished(source, "agent") else { return };
        let folders: Vec<String> = table(&bytes, "RemoveFile").into_values().map(|row| row[2].clone()).collect();
        assert_eq!(folders, ["INSTALLFOLDER", "LULLFOLDER"]);
    }
}

#[test]
fn a_version_that_an_installer_cannot_compare_is_refused() {
    for wrong in ["1", "1.2", "1.2.3.4", "256.0.0", "0.1.70000", "1.2.x", ""] {
        let wish = Wish { version: wrong.into(), epoch_s: 0 };
        let refused = finish(Vec::new(), &wish).expect_err(wrong).to_string();
        assert!(refused.contains("\nhint: "), "{wrong}: {refused}");
    }
}
