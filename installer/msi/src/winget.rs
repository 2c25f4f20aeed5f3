//! The three files by which `winget` finds an installer.

/// An installer that was published.
#[derive(Debug, Clone)]
pub struct Published {
    /// Such as `Lull.Agent`.
    pub id: String,
    /// What the installer calls the product.
    pub name: String,
    pub version: String,
    pub about: String,
    /// Where it can be had.
    pub url: String,
    /// Of the installer, in hexadecimal digits.
    pub sha256: String,
    /// `{...}`, as in the installer.
    pub product_code: String,
    /// The product's, over all versions.
    pub upgrade_code: String,
}

/// The version of their form.
const FORM: &str = "1.12.0";

/// Names and contents of the files.
pub fn files(published: &Published) -> [(String, String); 3] {
    let Published { id, name, version, about, url, sha256, product_code, upgrade_code } = published;
    let head = |kind: &str| {
        format!(
            "# yaml-language-server: $schema=https://aka.ms/winget-manifest.{kind}.{FORM}.schema.json\nPackageIdentifier: {id}\n\
             PackageVersion: {version}\n"
        )
    };
    let tail = |kind: &str| format!("ManifestType: {kind}\nManifestVersion: {FORM}\n");
    let versions = format!("{}DefaultLocale: en-US\n{}", head("version"), tail("version"));
    let installers = format!(
        "{}Platform:\n- Windows.Desktop\nMinimumOSVersion: 10.0.0.0\nInstallerType: wix\nScope: machine\nInstallModes:\n- silent\n\
         - silentWithProgress\nUpgradeBehavior: install\nInstallers:\n- Architecture: x64\n  InstallerUrl: {url}\n  InstallerSha256: {}\n  \
         ProductCode: '{product_code}'\n  AppsAndFeaturesEntries:\n  - ProductCode: '{product_code}'\n    UpgradeCode: '{upgrade_code}'\n{}",
        head("installer"),
        sha256.to_uppercase(),
        tail("installer")
    );
    let locale = format!(
        "{}PackageLocale: en-US\nPublisher: Lull\nPackageName: {name}\nLicense: MIT\nShortDescription: {about}\n{}",
        head("defaultLocale"),
        tail("defaultLocale")
    );
    [(format!("{id}.yaml"), versions), (format!("{id}.installer.yaml"), installers), (format!("{id}.locale.en-US.yaml"), locale)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_files_name_one_version_and_the_installers_digest_and_code() {
        let published = Published {
            id: "Lull.Agent".into(),
            name: "Lull Agent".into(),
            version: "0.1.0".into(),
            about: "Runs functions.".into(),
            url: "https://example.org/lull-agent-0.1.0-x64.msi".into(),
            sha256: "ab".repeat(32),
            product_code: "{CODE}".into(),
            upgrade_code: "{UPGRADE}".into(),
        };
        let files = files(&published);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Lull.Agent.yaml", "Lull.Agent.installer.yaml", "Lull.Agent.locale.en-US.yaml"]);
        for (name, text) in &files {
            assert!(text.contains("PackageIdentifier: Lull.Agent\nPackageVersion: 0.1.0\n"), "{name}: {text}");
            assert!(text.ends_with("ManifestVersion: 1.12.0\n"), "{name}: {text}");
        }
        let installer = &files[1].1;
        assert!(installer.contains(&format!("\n  InstallerSha256: {}\n", "AB".repeat(32))), "{installer}");
        assert!(
            installer.contains("\n  ProductCode: '{CODE}'\n  AppsAndFeaturesEntries:\n  - ProductCode: '{CODE}'\n"),
            "{installer}"
        );
    }
}
