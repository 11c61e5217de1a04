//! The allocator, and when it gives memory back.
//!
//! glibc's keeps the holes that megabyte-sized messages of many threads leave behind: a node that is flooded with
//! them would grow for as long as the flood lasts. This one does not, but what is free it keeps for ten seconds by
//! default, in case somebody wants it again. Under requests that all take much for a moment that is several times
//! what is in use at any moment. Nor does it ask for huge pages (feature `no_thp`): of two mebibytes that one small
//! buffer begins, nothing goes back while the buffer is there.

#![allow(unsafe_code)]

use std::ffi::c_long;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name: milliseconds until free pages go back.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
const AT_ONCE: c_long = 0;

/// Gives free pages back at once from now on. Call it before there is another thread.
pub fn keep_nothing() {
    // SAFETY: the option is a number in a table of the allocator, and no other thread reads it yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, AT_ONCE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_pages_go_back_at_once() {
        // SAFETY: as above; tests have threads, but none that sets another value.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert!(delay() > AT_ONCE, "it is that option: the default is a delay");
        keep_nothing();
        assert_eq!(delay(), AT_ONCE);
    }
}
