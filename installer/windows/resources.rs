//! What a program of Windows carries beside its code: version, icon, and the manifest that asks for long paths, texts in UTF-8 and
//! sharp pixels. Included by the build scripts of the programs; does nothing where the target is another system.

use std::{env, io, path::Path};

/// The version of Windows that programs say they know: without it the system tells them that it is an old one.
const MANIFEST: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<assembly xmlns="urn:schemas-microsoft-com:asm.v1" manifestVersion="1.0">
  <trustInfo xmlns="urn:schemas-microsoft-com:asm.v3">
    <security><requestedPrivileges><requestedExecutionLevel level="asInvoker" uiAccess="false"/></requestedPrivileges></security>
  </trustInfo>
  <compatibility xmlns="urn:schemas-microsoft-com:compatibility.v1">
    <application><supportedOS Id="{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}"/></application>
  </compatibility>
  <application xmlns="urn:schemas-microsoft-com:asm.v3">
    <windowsSettings>
      <longPathAware xmlns="http://schemas.microsoft.com/SMI/2016/WindowsSettings">true</longPathAware>
      <activeCodePage xmlns="http://schemas.microsoft.com/SMI/2019/WindowsSettings">UTF-8</activeCodePage>
      <dpiAware xmlns="http://schemas.microsoft.com/SMI/2005/WindowsSettings">true/pm</dpiAware>
      <dpiAwareness xmlns="http://schemas.microsoft.com/SMI/2016/WindowsSettings">PerMonitorV2, PerMonitor</dpiAwareness>
    </windowsSettings>
  </application>
</assembly>
"#;

/// Gives them to one program of the package. `about` is what the system's lists call it.
pub(crate) fn add(program: &str, about: &str) -> io::Result<()> {
    let folder = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let icons = Path::new(&folder).ancestors().map(|above| above.join("installer/windows/lull.ico"));
    let icon =
        icons.into_iter().find(|icon| icon.is_file()).ok_or_else(|| io::Error::other("lull.ico is not above the package"))?;
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", icon.display());
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("windows") {
        return Ok(());
    }
    let icon = icon.to_str().ok_or_else(|| io::Error::other("the folder's name is not a text"))?;
    let file = format!("{program}.exe");
    let mut resource = winresource::WindowsResource::new();
    resource
        .set_icon(icon)
        .set_manifest(MANIFEST)
        .set("ProductName", "Lull")
        .set("FileDescription", about)
        .set("CompanyName", "Lull")
        .set("LegalCopyright", "MIT licence")
        .set("InternalName", program)
        .set("OriginalFilename", &file);
    resource.compile_for(program)
}
