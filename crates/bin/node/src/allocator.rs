//! When free memory goes back to the system.
//!
//! The C library keeps what is free in the middle of a heap for whoever asks next, and has eight heaps per processor.
//! Requests that all take much for a moment would leave several times what is in use at any moment. So large buffers
//! that no hole fits are mapped one by one and go back when they are dropped, and all threads share a few heaps, which
//! are cut where they end in free pages. What is free in the middle of a heap, below something that lives long, goes
//! back now and then.

#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

/// A buffer of this many bytes and more has pages of its own, unless a heap has a hole for it. Buffers of pages come
/// and go with every request. Among them small pieces that live long, those of the store, would each hold a page of
/// which nothing else is in use.
const MAPPED_FROM_BYTES: i32 = 16 << 10;
/// Free bytes at the end of a heap that are kept.
const KEPT_AT_END_BYTES: i32 = 128 << 10;
/// Heaps of all threads together. Small pieces wait in a store of each thread's own.
const HEAPS_MAX: i32 = 4;
/// Time between two looks for free pages in the middle of heaps. Going through heaps of 50 MiB takes milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Gives free memory back early from now on, where the allocator has such settings. Call it before there is another
/// thread.
pub fn give_back_early() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_TRIM_THRESHOLD, KEPT_AT_END_BYTES),
        (libc::M_ARENA_MAX, HEAPS_MAX),
    ] {
        // SAFETY: the options are numbers of the allocator's own. One it does not know changes nothing.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Gives free pages in the middle of heaps back from now on, every now and then, where the allocator can.
pub fn give_back_now_and_then() -> io::Result<()> {
    #[cfg(target_env = "gnu")]
    std::thread::Builder::new().name("give-back".into()).spawn(|| {
        loop {
            std::thread::sleep(LOOK_EVERY);
            give_back();
        }
    })?;
    Ok(())
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: the allocator does this under its own locks.
    unsafe { libc::malloc_trim(KEPT_AT_END_BYTES as usize) };
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    /// Bytes of the pages that hold a piece, when it has pages of its own: the allocator keeps two words of them.
    fn has_own_pages(piece: &mut Vec<u8>) -> bool {
        const PAGE: usize = 4096;
        // SAFETY: the piece was allocated by the allocator that is asked, and is alive.
        let usable = unsafe { libc::malloc_usable_size(piece.as_mut_ptr().cast()) };
        (usable + 2 * size_of::<usize>()).is_multiple_of(PAGE)
    }

    /// Bytes of memory that are in use by this process.
    fn resident_bytes() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn free_pages_below_what_lives_on_go_back() {
        const PIECES: usize = 8192;
        const BYTES: usize = 8 << 10;
        let mut pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![1; BYTES]).collect();
        let last = pieces.pop();
        let full = resident_bytes();
        drop(pieces);
        give_back();
        assert!(resident_bytes() + PIECES * BYTES / 2 < full, "half at least");
        drop(last);
    }

    #[test]
    fn large_buffers_have_pages_of_their_own_every_time_and_small_ones_share_theirs() {
        give_back_early();
        for _ in 0..3 {
            // So large that no hole fits. Left alone, the first one raises the limit for the next.
            assert!(has_own_pages(&mut vec![1; (8 << 20) + 1]));
            assert!(!has_own_pages(&mut vec![1; 8_001]));
        }
    }
}
