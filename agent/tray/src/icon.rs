//! The pictures of each state, drawn when this was built.

use crate::face::State;

include!("icon/list.rs");

static PICTURES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/icons.bin"));

const _: () = assert!(STATES.len() == State::ALL.len(), "each state has its picture");

/// What a picture lies upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    Light,
    Dark,
    /// Nobody says.
    Unknown,
}

/// Pixels of four bytes each: red, green, blue and opacity, from the upper left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    pub size: u32,
    pub pixels: &'static [u8],
}

/// The smallest picture that is at least so large, or the largest.
pub fn picture(state: State, bar: Bar, size: u32) -> Picture {
    let at = SIZES.iter().position(|own| *own >= size).unwrap_or(SIZES.len() - 1);
    pictures(state, bar).nth(at).expect("there are as many as sizes")
}

/// All sizes.
pub fn pictures(state: State, bar: Bar) -> impl Iterator<Item = Picture> {
    let bytes = |size: u32| (size * size * 4) as usize;
    let of_bar: usize = SIZES.iter().copied().map(bytes).sum();
    let mut from = (state as usize * INKS.len() + bar as usize) * of_bar;
    SIZES.into_iter().map(move |size| {
        let pixels = &PICTURES[from..from + bytes(size)];
        from += pixels.len();
        Picture { size, pixels }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_picture_of_its_own_on_every_bar_and_in_every_size() {
        assert_eq!(State::ALL.map(|state| format!("{state:?}").to_lowercase()), STATES, "in the order in which they are drawn");
        let mut seen = std::collections::BTreeSet::new();
        for state in State::ALL {
            for bar in [Bar::Light, Bar::Dark, Bar::Unknown] {
                for Picture { size, pixels } in pictures(state, bar) {
                    assert_eq!(pixels.len(), (size * size * 4) as usize);
                    let inked = pixels.chunks(4).filter(|pixel| pixel[3] > 128).count();
                    assert!(inked > pixels.len() / 4 / 12, "{state:?} on {bar:?} at {size} has {inked} points");
                    assert!(seen.insert(pixels), "{state:?} on {bar:?} at {size} looks like another");
                }
            }
        }
    }

    #[test]
    fn a_bar_gets_the_size_that_it_asks_for_or_one_that_can_be_made_smaller() {
        let size = |wanted| picture(State::Idle, Bar::Dark, wanted).size;
        assert_eq!([16, 17, 24, 64, 200].map(size), [16, 20, 24, 64, 64]);
    }
}
