//! The tables of an installer, and the file around them.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read as _},
    time::{Duration, SystemTime},
};

use msi::{CodePage, Column, Insert, Package, PackageType, Select, Value};
use uuid::Uuid;

/// What an installer is to be.
#[derive(Debug, Clone)]
pub struct Wish {
    /// As people write it: three numbers.
    pub version: String,
    /// When its source was written, in seconds since 1970. Nothing in the file says when it was built.
    pub epoch_s: u64,
}

/// An installer that cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    #[error("the file is not an installer that can be read or written: {0}")]
    File(#[from] io::Error),
    #[error("{0}")]
    Content(String),
}

/// Properties that somebody who is not yet an administrator may give, and that are passed on to the part that is one.
const PUBLIC: [&str; 8] = ["COORDINATOR", "DATA", "JOIN_TOKEN", "JOIN_TOKEN_FILE", "KEEP_DATA", "REBOOT", "SERVICE", "TRAY"];
/// Those that are in no log.
const HIDDEN: [&str; 1] = ["JOIN_TOKEN"];
/// Windows 10 and Server 2016 say that they are this to installers, and so do all since.
const WINDOWS_MIN: &str = "VersionNT64 >= 603";
/// Where the old version goes: within the transaction, so that it comes back if the new one cannot be installed.
const REMOVES_EXISTING_AT: i32 = 1501;

// What the installer's own documentation calls these bits.
const ACTION_SET_PROPERTY: i32 = 51;
const ACTION_KIND: i32 = 0x3f;
const ACTION_ROLLBACK: i32 = 0x100;
const ACTION_DEFERRED: i32 = 0x400;
const ACTION_HIDES_TARGET: i32 = 0x2000;
const UPGRADE_MAX_INCLUSIVE: i32 = 0x200;
const UPGRADE_DETECT_ONLY: i32 = 0x2;
const COMPONENT_TRANSITIVE: i32 = 0x40;
const SERVICE_VITAL: i32 = 0x8000;
/// What the summary calls an installer whose files are in it, compressed, under long names.
const COMPRESSED: i32 = 2;
/// The version of the installer service that the tables need.
const INSTALLER_MIN: i32 = 500;
const READ_ONLY_RECOMMENDED: i32 = 2;
/// The format counts time from the first of these years.
const FROM_1601_TO_1970: Duration = Duration::from_secs(11_644_473_600);
/// English, as the version of a program names it.
const LANGUAGE: &str = "1033";

/// The finished file. The same bytes and the same wish give the same file.
pub fn finish(raw: Vec<u8>, wish: &Wish) -> Result<Vec<u8>, FinishError> {
    let version = Version::parse(&wish.version)?;
    let mut database = Database::read(raw)?;
    properties(&mut database, &version)?;
    actions(&mut database);
    upgrades(&mut database);
    conditions(&mut database);
    files(&mut database, &version)?;
    components(&mut database);
    path(&mut database);
    let package = codes(&mut database, &version);
    compact(database.write(package, wish.epoch_s)?, wish.epoch_s)
}

/// The rows of a table, in the order of its columns.
struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// Where a column is. Each that is asked for is in every installer.
    fn at(&self, column: &str) -> usize {
        let at = self.columns.iter().position(|other| other.name() == column);
        at.unwrap_or_else(|| panic!("the tables of an installer have fixed columns, and {column} is one"))
    }

    /// Changes one cell of each row, by the row.
    fn change(&mut self, column: &str, change: impl Fn(&dyn Fn(&str) -> String, &Value) -> Value) {
        let at = self.at(column);
        let names: Vec<String> = self.columns.iter().map(|column| column.name().to_owned()).collect();
        for row in &mut self.rows {
            let text = |name: &str| {
                let cell = names.iter().position(|other| other == name).and_then(|at| row[at].as_str());
                cell.unwrap_or_default().to_owned()
            };
            let changed = change(&text, &row[at]);
            row[at] = changed;
        }
    }
}

/// An installer in memory: `wixl` miscounts the uses of its texts, so that its file cannot be changed in place.
struct Database {
    tables: BTreeMap<String, Table>,
    streams: BTreeMap<String, Vec<u8>>,
    /// Title, subject, author, comments and creating program.
    words: [String; 5],
}

impl Database {
    fn read(raw: Vec<u8>) -> io::Result<Self> {
        let mut file = Package::open(Cursor::new(raw))?;
        let names: Vec<String> =
            file.tables().map(|table| table.name().to_owned()).filter(|name| !name.starts_with('_')).collect();
        let mut tables = BTreeMap::new();
        for name in names {
            let columns = file.get_table(&name).map(|table| table.columns().to_vec()).unwrap_or_default();
            let rows =
                file.select_rows(Select::table(&name))?.map(|row| (0..row.len()).map(|at| row[at].clone()).collect()).collect();
            tables.insert(name, Table { columns, rows });
        }
        let mut streams = BTreeMap::new();
        for name in file.streams().collect::<Vec<_>>() {
            let mut bytes = Vec::new();
            file.read_stream(&name)?.read_to_end(&mut bytes)?;
            streams.insert(name, bytes);
        }
        let summary = file.summary_info();
        let words = [summary.title(), summary.subject(), summary.author(), summary.comments(), summary.creating_application()];
        Ok(Self { tables, streams, words: words.map(|words| words.unwrap_or_default().to_owned()) })
    }

    fn write(self, package: Uuid, epoch_s: u64) -> io::Result<Vec<u8>> {
        let mut file = Package::create(PackageType::Installer, Cursor::new(Vec::new()))?;
        for (name, Table { columns, rows }) in self.tables {
            file.create_table(name.as_str(), columns)?;
            file.insert_rows(Insert::into(name).rows(rows))?;
        }
        for (name, bytes) in self.streams {
            io::copy(&mut bytes.as_slice(), &mut file.write_stream(&name)?)?;
        }
        // The library sets 65001 wherever it writes, and Windows refuses a database in that.
        file.set_database_codepage(CodePage::Windows1252);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch_s);
        let summary = file.summary_info_mut();
        let [title, subject, author, comments, program] = self.words;
        summary.set_codepage(CodePage::Windows1252);
        summary.set_title(title);
        summary.set_subject(subject);
        summary.set_author(author);
        summary.set_comments(comments);
        summary.set_creating_application(program);
        summary.set_arch("x64");
        summary.set_languages(&[msi::LanguageId::from_tag("en-US")]);
        summary.set_keywords(&["Installer".to_owned()]);
        summary.set_word_count(COMPRESSED);
        summary.set_page_count(INSTALLER_MIN);
        summary.set_doc_security(READ_ONLY_RECOMMENDED);
        summary.set_uuid(package);
        summary.set_creation_time(at);
        summary.set_last_save_time(at);
        file.flush()?;
        Ok(file.into_inner()?.into_inner())
    }

    fn rows(&mut self, table: &str) -> Option<&mut Table> {
        self.tables.get_mut(table)
    }

    fn add(&mut self, table: &str, row: Vec<Value>) {
        if let Some(table) = self.rows(table) {
            table.rows.push(row);
        }
    }

    fn property(&self, name: &str) -> Option<String> {
        let rows = &self.tables.get("Property")?.rows;
        rows.iter().find(|row| row[0].as_str() == Some(name)).and_then(|row| row[1].as_str()).map(str::to_owned)
    }

    /// Sets a property, whether it is there or not.
    fn set(&mut self, name: &str, value: &str) {
        if let Some(table) = self.rows("Property") {
            table.rows.retain(|row| row[0].as_str() != Some(name));
            table.rows.push(vec![Value::from(name), Value::from(value)]);
        }
    }

    /// Stands for all rows and all files.
    fn content(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let mut note = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for (name, Table { rows, .. }) in &self.tables {
            note(name.as_bytes());
            let line = |row: &Vec<Value>| row.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join("\t");
            let mut lines: Vec<String> = rows.iter().map(line).collect();
            lines.sort_unstable();
            lines.iter().for_each(|line| note(line.as_bytes()));
        }
        for (name, bytes) in &self.streams {
            note(name.as_bytes());
            note(bytes);
        }
        hasher.finalize()
    }
}

/// Three numbers, each within what an installer compares.
struct Version([u16; 3]);

impl Version {
    fn parse(text: &str) -> Result<Self, FinishError> {
        let wrong = || FinishError::Content(format!("`{text}` is not a version\nhint: write three numbers, as in 1.2.3"));
        let parts: Vec<u16> = text.split('.').map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
        match parts[..] {
            // The installer keeps a byte for each of the first two.
            [major @ 0..256, minor @ 0..256, patch] => Ok(Self([major, minor, patch])),
            _ => Err(wrong()),
        }
    }

    fn short(&self) -> String {
        let [major, minor, patch] = self.0;
        format!("{major}.{minor}.{patch}")
    }

    /// As programs carry it.
    fn long(&self) -> String {
        format!("{}.0", self.short())
    }
}

fn number(value: &Value) -> i32 {
    value.as_int().unwrap_or_default()
}

fn properties(database: &mut Database, version: &Version) -> Result<(), FinishError> {
    if database.property("ProductVersion") != Some(version.short()) {
        return Err(FinishError::Content(format!("the installer was made for another version than {}", version.short())));
    }
    let secure = database.property("SecureCustomProperties").unwrap_or_default();
    let mut secure: Vec<&str> = secure.split(';').filter(|name| !name.is_empty()).chain(PUBLIC).collect();
    secure.sort_unstable();
    secure.dedup();
    let secure = secure.join(";");
    database.set("SecureCustomProperties", &secure);
    database.set("MsiHiddenProperties", &HIDDEN.join(";"));
    // It would end programs and services in an order of its own; the actions of the installer do so in theirs.
    database.set("MSIRESTARTMANAGERCONTROL", "Disable");
    let upgrade = database.property("UpgradeCode").ok_or_else(|| FinishError::Content("there is no upgrade code".into()))?;
    database.set("UpgradeCode", &upgrade.to_uppercase());
    Ok(())
}

fn actions(database: &mut Database) {
    if let Some(table) = database.rows("CustomAction") {
        table.change("Type", |text, kind| {
            let mut kind = number(kind);
            if kind & ACTION_KIND == ACTION_SET_PROPERTY {
                // Nothing else may be said of one that sets a property.
                kind = ACTION_SET_PROPERTY;
            }
            if text("Action").starts_with("Undo") {
                kind |= ACTION_ROLLBACK | ACTION_DEFERRED;
            }
            if HIDDEN.iter().any(|hidden| text("Target").contains(&format!("[{hidden}]"))) {
                kind |= ACTION_HIDES_TARGET;
            }
            Value::Int(kind)
        });
    }
    if let Some(table) = database.rows("InstallExecuteSequence") {
        table.change("Sequence", |text, at| match text("Action").as_str() {
            "RemoveExistingProducts" => Value::Int(REMOVES_EXISTING_AT),
            _ => at.clone(),
        });
    }
}

/// A build of the same version takes the place of an earlier one: two products of one version would stand beside each other.
fn upgrades(database: &mut Database) {
    if let Some(table) = database.rows("Upgrade") {
        table.change("UpgradeCode", |text, _| Value::from(text("UpgradeCode").to_uppercase()));
        table.change("Attributes", |_, bits| match number(bits) {
            bits if bits & UPGRADE_DETECT_ONLY == 0 => Value::Int(bits | UPGRADE_MAX_INCLUSIVE),
            bits => Value::Int(bits),
        });
    }
}

/// What must be so before anything is done.
fn conditions(database: &mut Database) {
    let name = database.property("ProductName").unwrap_or_default();
    let all = [
        (format!("Installed OR {WINDOWS_MIN}"), format!("{name} needs Windows 10, Windows Server 2016, or later.")),
        // It would end the quoted argument of the service in a quote of its own.
        ("NOT (DATA >> \"\\\")".to_owned(), "DATA must not end in a backslash.".to_owned()),
    ];
    for (condition, words) in all {
        database.add("LaunchCondition", vec![Value::from(condition), Value::from(words)]);
    }
}

fn files(database: &mut Database, version: &Version) -> Result<(), FinishError> {
    let Some(table) = database.rows("File") else { return Ok(()) };
    let long = |name: &str| name.rsplit('|').next().unwrap_or(name).to_owned();
    let at = table.at("FileName");
    let mut taken = BTreeMap::new();
    for name in table.rows.iter().filter_map(|row| row[at].as_str()).map(long) {
        let short = short(&name);
        if let Some(other) = taken.insert(short.clone(), name.clone()) {
            return Err(FinishError::Content(format!("{other} and {name} have one short name, {short}")));
        }
    }
    // Without a version a file on the disk that says its own counts as newer than whatever the installer brings.
    let of_programs = |said: String| {
        move |text: &dyn Fn(&str) -> String, other: &Value| match text("FileName").ends_with(".exe") {
            true => Value::from(said.as_str()),
            false => other.clone(),
        }
    };
    table.change("Version", of_programs(version.long()));
    table.change("Language", of_programs(LANGUAGE.to_owned()));
    table.change("FileName", |text, _| {
        let name = long(&text("FileName"));
        Value::from(if short(&name) == name { name } else { format!("{}|{name}", short(&name)) })
    });
    Ok(())
}

/// A name of eight letters and three, which the installer wants beside a longer one.
fn short(long: &str) -> String {
    let letters = |text: &str, most: usize| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).take(most).collect::<String>().to_uppercase()
    };
    match long.rsplit_once('.') {
        Some((stem, extension)) => format!("{}.{}", letters(stem, 8), letters(extension, 3)),
        None => letters(long, 8),
    }
}

fn components(database: &mut Database) {
    // Whether there is a tray can be said again by a repair.
    if let Some(table) = database.rows("Component") {
        let is_tray = |text: &dyn Fn(&str) -> String| text("Component") == "Tray";
        table.change("Condition", |text, other| if is_tray(text) { Value::from("TRAY <> \"0\"") } else { other.clone() });
        table.change("Attributes", |text, bits| Value::Int(number(bits) | if is_tray(text) { COMPONENT_TRANSITIVE } else { 0 }));
    }
    // `wixl` takes every folder that is to be removed for that of its component.
    if let Some(table) = database.rows("RemoveFile") {
        table.change("DirProperty", |text, other| match text("FileKey").as_str() {
            "RemoveLullFolder" => Value::from("LULLFOLDER"),
            _ => other.clone(),
        });
    }
    // A service that cannot be installed fails the installation.
    if let Some(table) = database.rows("ServiceInstall") {
        table.change("ErrorControl", |_, control| Value::Int(number(control) | SERVICE_VITAL));
    }
}

/// The command line is found wherever it is called.
fn path(database: &mut Database) {
    /// The program that people call.
    const COMMAND: &str = "lull.exe";
    let Some(files) = database.rows("File") else { return };
    let (name, component) = (files.at("FileName"), files.at("Component_"));
    let is_it = |row: &&Vec<Value>| row[name].as_str().is_some_and(|name| name.ends_with(COMMAND));
    let Some(component) = files.rows.iter().find(is_it).map(|row| row[component].clone()) else { return };
    let columns = vec![
        Column::build("Environment").primary_key().id_string(72),
        Column::build("Name").localizable().text_string(255),
        Column::build("Value").localizable().nullable().formatted_string(255),
        Column::build("Component_").id_string(72),
    ];
    // Set at installation, removed with the product, and the whole machine's.
    let row = vec!["Path".into(), "=-*PATH".into(), "[~];[INSTALLFOLDER]".into(), component];
    database.tables.insert("Environment".to_owned(), Table { columns, rows: vec![row] });
    for (action, at) in [("RemoveEnvironmentStrings", 3300), ("WriteEnvironmentStrings", 5200)] {
        database.add("InstallExecuteSequence", vec![Value::from(action), Value::Null, Value::Int(at)]);
    }
}

/// Product and package get their codes from what is in them, so that a code stands for one content. Gives the package's.
fn codes(database: &mut Database, version: &Version) -> Uuid {
    database.set("ProductCode", &braced(Uuid::nil()));
    let content = database.content();
    let code = |what: &str| {
        let mut hasher = blake3::Hasher::new_derive_key("lull-msi codes of an installer");
        for part in [what.as_bytes(), version.short().as_bytes(), content.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    };
    database.set("ProductCode", &braced(code("product")));
    code("package")
}

/// As the installer writes them.
fn braced(code: Uuid) -> String {
    format!("{{{}}}", code.to_string().to_uppercase())
}

/// Writes the file anew, in one order, and in sectors of 512 bytes as every version of Windows reads them.
fn compact(bytes: Vec<u8>, epoch_s: u64) -> Result<Vec<u8>, FinishError> {
    let mut before = cfb::CompoundFile::open(Cursor::new(bytes))?;
    let mut after = cfb::CompoundFile::create_with_version(cfb::Version::V3, Cursor::new(Vec::new()))?;
    let root = before.root_entry();
    let mut paths: Vec<_> = before.walk().filter(|entry| entry.is_stream()).map(|entry| entry.path().to_owned()).collect();
    paths.sort_unstable();
    for path in paths {
        io::copy(&mut before.open_stream(&path)?, &mut after.create_stream(&path)?)?;
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch_s);
    after.set_storage_clsid("/", *root.clsid())?;
    // The root has none, by the format; who signs looks whether it is so.
    after.set_created_time("/", SystemTime::UNIX_EPOCH - FROM_1601_TO_1970)?;
    after.set_modified_time("/", at)?;
    after.flush()?;
    Ok(after.into_inner().into_inner())
}
