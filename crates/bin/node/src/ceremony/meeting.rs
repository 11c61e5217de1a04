//! Where operators meet while their nodes run.

/// From a node's port to the one its operator is met at.
pub const MEETING_PORT_OFFSET: u16 = 500;

/// The address of a node with the port at which its operator is met.
pub fn meeting_address(address: &str) -> String {
    let mut is_port = false;
    let parts = address.split('/').map(|part| {
        let port = part.parse::<u16>().ok().filter(|_| is_port);
        is_port = matches!(part, "tcp" | "udp");
        port.map_or_else(|| part.to_owned(), |port| meeting_port(port).to_string())
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Above the node's port, or below it where there is no room.
fn meeting_port(port: u16) -> u16 {
    port.checked_add(MEETING_PORT_OFFSET).unwrap_or(port.saturating_sub(MEETING_PORT_OFFSET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_move_and_all_else_stays() {
        assert_eq!(meeting_address("/ip4/127.0.0.1/tcp/31000"), "/ip4/127.0.0.1/tcp/31500");
        assert_eq!(meeting_address("/dns4/a.example/udp/31001/quic-v1"), "/dns4/a.example/udp/31501/quic-v1");
        assert_eq!(meeting_address("/ip4/10.0.0.1/tcp/65500"), "/ip4/10.0.0.1/tcp/65000");
    }
}
