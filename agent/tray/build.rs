//! Gives the program what programs of Windows carry, and draws the icons, for every kind of task bar and every usual size, into one file that the program carries.
//!
//! The file is states by inks by sizes, in the order of the lists here; each picture is its pixels, four bytes each: red, green,
//! blue and opacity, from the upper left. `src/icon.rs` reads it by the same lists.

use std::{env, error::Error, fs, path::Path};

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree},
};

#[path = "../../installer/windows/resources.rs"]
mod resources;

include!("src/icon/list.rs");

/// The ink in which they are drawn by hand.
const INK: &str = "#1d2127";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=icons");
    println!("cargo:rerun-if-changed=src/icon/list.rs");
    resources::add("lull-tray", "Lull Tray")?;
    let mut pictures = Vec::new();
    for state in STATES {
        let text = fs::read_to_string(Path::new("icons").join(state).with_extension("svg"))?;
        for ink in INKS {
            let tree = Tree::from_str(&text.replace(INK, ink), &Options::default())?;
            for size in SIZES {
                pictures.extend(draw(&tree, size)?);
            }
        }
    }
    let folder = env::var("OUT_DIR")?;
    fs::write(Path::new(&folder).join("icons.bin"), pictures)?;
    Ok(())
}

fn draw(tree: &Tree, size: u32) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut pixmap = Pixmap::new(size, size).ok_or("a picture without size")?;
    let scale = size as f32 / tree.size().width();
    resvg::render(tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    let colours = pixmap.pixels().iter().map(|pixel| pixel.demultiply());
    Ok(colours.flat_map(|colour| [colour.red(), colour.green(), colour.blue(), colour.alpha()]).collect())
}
