//! The program `lull-msi`: finishes installers and writes what tells of them.

use std::{fs, io::Cursor, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use lull_msi::{Wish, finish, sbom, winget};
use msi::{Package, Select};

/// Finishes installers for Windows
#[derive(Debug, Parser)]
#[command(name = "lull-msi", version)]
enum Command {
    /// Sets what `wixl` leaves out, and makes one file of one content
    Finish {
        /// What `wixl` made
        raw: PathBuf,
        /// Where the finished installer goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The version that it was made for
        #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
        version: String,
        /// When its source was written, in seconds since 1970
        #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
        epoch: u64,
    },
    /// Writes the three files by which winget finds an installer
    Winget {
        /// The finished and signed installer
        msi: PathBuf,
        /// Its SHA-256 in hexadecimal digits
        #[arg(long, value_name = "DIGITS")]
        sha256: String,
        /// Such as Lull.Agent
        #[arg(long, value_name = "ID")]
        id: String,
        /// Where it can be had
        #[arg(long, value_name = "URL")]
        url: String,
        /// Where the files go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Lists the parts of a program, of what `cargo metadata` says on standard input
    Sbom {
        /// The program's package
        #[arg(long, value_name = "NAME")]
        package: String,
        /// The lock file
        #[arg(long, value_name = "FILE")]
        lock: PathBuf,
        /// Where the list goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Finish { raw, out, version, epoch } => {
            let bytes = fs::read(&raw).with_context(|| raw.display().to_string())?;
            let finished = finish(bytes, &Wish { version, epoch_s: epoch })?;
            fs::write(&out, finished).with_context(|| out.display().to_string())
        }
        Command::Winget { msi, sha256, id, url, out } => {
            let bytes = fs::read(&msi).with_context(|| msi.display().to_string())?;
            let mut file = Package::open(Cursor::new(bytes))?;
            let about = file.summary_info().subject().unwrap_or_default().to_owned();
            let rows: Vec<_> = file.select_rows(Select::table("Property"))?.collect();
            let property = |name: &str| {
                let row = rows.iter().find(|row| row["Property"].as_str() == Some(name));
                row.and_then(|row| row["Value"].as_str())
                    .map(str::to_owned)
                    .with_context(|| format!("the installer has no {name}"))
            };
            let published = winget::Published {
                id,
                name: property("ProductName")?,
                version: property("ProductVersion")?,
                about,
                url,
                sha256,
                product_code: property("ProductCode")?,
                upgrade_code: property("UpgradeCode")?,
            };
            fs::create_dir_all(&out)?;
            winget::files(&published).into_iter().try_for_each(|(name, text)| Ok(fs::write(out.join(name), text)?))
        }
        Command::Sbom { package, lock, out } => {
            let metadata = serde_json::from_reader(std::io::stdin().lock())?;
            let list = sbom::of(&metadata, &fs::read_to_string(lock)?, &package)?;
            fs::write(&out, format!("{list:#}\n")).with_context(|| out.display().to_string())
        }
    }
}
