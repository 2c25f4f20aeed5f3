//! Gives memory back that an agent at rest has no use for.

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

/// Gives back freed memory that the allocator keeps, and parts of the program that were read for work that is over.
/// What is needed after all is there again at the first touch, from the system's file cache. Takes a fraction of a
/// millisecond.
pub fn give_back() {
    sys::trim_heap();
    sys::let_go_of_code();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_on_after_it_gave_memory_back() {
        let kept: Vec<String> = (0..1_000).map(|number| format!("{number} is kept")).collect();
        drop((0..1_000).map(|number| vec![number as u8; 4096]).collect::<Vec<_>>());
        give_back();
        assert!(kept.iter().enumerate().all(|(number, text)| *text == format!("{number} is kept")));
        let thread = std::thread::spawn(|| "so do threads that start then".len());
        assert_eq!(thread.join().expect("it runs"), 29);
    }
}
