//! Gives the program what programs of Windows carry.

#[path = "../installer/windows/resources.rs"]
mod resources;

fn main() -> std::io::Result<()> {
    resources::add("lull-agent", "Lull Agent")
}
