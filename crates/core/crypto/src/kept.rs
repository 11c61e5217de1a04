//! Secrets that stay where they are.
//!
//! A value that is moved leaves its bytes behind. One in a box of its own is moved by its address, and is erased
//! with the box, if its type erases itself.

#![allow(unsafe_code)]

use std::ops::Deref;

/// One secret on the heap, kept out of swap where the system lets us.
pub(crate) struct Kept<T>(Box<T>);

impl<T> Kept<T> {
    /// Moves a secret to its place.
    pub fn new(secret: T) -> Self {
        let kept = Box::new(secret);
        // SAFETY: the range is that of a live value, and locking its pages changes no byte of it. They are never
        // unlocked: the same page may hold another secret, and a process has few. A system that allows no
        // locked memory refuses, which costs nothing.
        let _ = unsafe { libc::mlock(std::ptr::from_ref(&*kept).cast(), size_of::<T>()) };
        Self(kept)
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self::new(T::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_secret_stays_in_its_place_and_a_copy_has_one_of_its_own() {
        let kept = Kept::new([7u8; 32]);
        let place = std::ptr::from_ref(&*kept);
        let moved = [kept];
        assert_eq!(std::ptr::from_ref(&*moved[0]), place);
        let copy = moved[0].clone();
        assert_eq!(*copy, [7; 32]);
        assert_ne!(std::ptr::from_ref(&*copy), place);
    }
}
