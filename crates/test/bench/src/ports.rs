//! Ports of this machine that are free.

use crate::error::BenchError;
use std::net::TcpListener;

/// Where to look: below the range the system gives out by itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The first of so many ports in a row on which nobody listens.
pub fn free(count: u16) -> Result<u16, BenchError> {
    let step = usize::from(count.max(1));
    // Runs beside each other begin at different places.
    let blocks = PORTS.len() / step;
    let first = usize::try_from(std::process::id()).unwrap_or(0) % blocks;
    let bases = (0..blocks).map(|at| PORTS.start + ((first + at) % blocks * step) as u16);
    let is_free =
        |base: &u16| (*base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    bases
        .into_iter()
        .find(is_free)
        .ok_or_else(|| BenchError::Usage(format!("no {count} ports in a row are free")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_among_the_free_ones() {
        let base = free(4).unwrap();
        let _taken = TcpListener::bind(("127.0.0.1", base + 2)).unwrap();
        let other = free(4).unwrap();
        assert!(!(other..other + 4).contains(&(base + 2)));
    }
}
