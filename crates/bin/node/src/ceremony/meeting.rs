//! Where operators meet, and whether they mean the same ceremony.
//!
//! Whoever is met says first which definition it has. Until it has said the same one, nothing else of it is heard: what
//! is signed in a ceremony is signed under the hash of its definition, and would look forged. Who has another is sent the
//! text, so that both see the first line that differs.

use aequa_types::ClusterId;
use aequa_types::definition::Definition;
use ssz_derive::{Decode, Encode};

/// From a node's port to the one its operator is met at.
pub const MEETING_PORT_OFFSET: u16 = 500;
/// The longest text that is shown to others; a longer one has no more than its hash to say.
const TEXT_BYTES_MAX: usize = 900_000;
/// Largest frame with a definition.
pub const DEFINITION_FRAME_BYTES_MAX: usize = TEXT_BYTES_MAX + 64;
/// The most of a line that is shown.
const SHOWN_CHARS_MAX: usize = 120;

/// The definition that an operator has.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DefinitionClaim {
    /// Its hash.
    pub hash: ClusterId,
    /// Its text, for one that has another; otherwise empty.
    pub text: Vec<u8>,
}

impl DefinitionClaim {
    /// What is said to whoever is met.
    pub fn short(definition: &Definition) -> Self {
        Self { hash: definition.definition_hash, text: Vec::new() }
    }

    /// What is said to one that has another.
    pub fn full(definition: &Definition) -> Self {
        let text = Some(definition.to_json().into_bytes()).filter(|text| text.len() <= TEXT_BYTES_MAX);
        Self { hash: definition.definition_hash, text: text.unwrap_or_default() }
    }

    /// The first line in which it differs from the own one, for people; nothing while its text is not known.
    pub fn difference(&self, own: &Definition) -> Option<String> {
        let theirs = std::str::from_utf8(&self.text).ok().filter(|text| !text.is_empty())?;
        let own = own.to_json();
        let (mut own, mut theirs) = (own.lines(), theirs.lines());
        for number in 1.. {
            let (here, there) = (own.next(), theirs.next());
            if here != there {
                return Some(format!("line {number} is {} here and {} there", shown(here), shown(there)));
            }
            here?;
        }
        None
    }
}

/// A line as people may see it, whatever is in it.
fn shown(line: Option<&str>) -> String {
    let line = line.map(|line| line.trim().chars().take(SHOWN_CHARS_MAX).collect::<String>());
    line.map_or_else(|| "missing".into(), |line| format!("{line:?}"))
}

/// The name of all meetings: who is met is known by its key.
pub fn meeting() -> ClusterId {
    ClusterId::right_padding_from(b"aequa/meeting/v1")
}

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
    use aequa_testkit::dealt;
    use aequa_types::Height;

    #[test]
    fn ports_move_and_all_else_stays() {
        assert_eq!(meeting_address("/ip4/127.0.0.1/tcp/31000"), "/ip4/127.0.0.1/tcp/31500");
        assert_eq!(meeting_address("/dns4/a.example/udp/31001/quic-v1"), "/dns4/a.example/udp/31501/quic-v1");
        assert_eq!(meeting_address("/ip4/10.0.0.1/tcp/65500"), "/ip4/10.0.0.1/tcp/65000");
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let lock = dealt(4).lock;
        let at = |height| Definition::following(&lock, lock.operators.clone(), Height(height)).unwrap();
        let (own, other) = (at(50), at(60));
        assert_eq!(DefinitionClaim::full(&own).difference(&own), None);
        assert_eq!(DefinitionClaim::short(&other).difference(&own), None, "only its hash is known");
        let said = DefinitionClaim::full(&other).difference(&own).unwrap();
        assert!(said.contains(r#"is "\"activation_height\": 50" here"#), "{said}");
        assert!(said.contains(r#""\"activation_height\": 60" there"#), "{said}");
        let cut = DefinitionClaim { text: b"{".to_vec(), ..DefinitionClaim::full(&other) };
        assert!(cut.difference(&own).unwrap().ends_with("here and missing there"));
        let rude = DefinitionClaim { text: b"{\x1b[31mred".to_vec(), ..cut };
        assert!(
            !rude.difference(&own).unwrap().contains('\x1b'),
            "nothing of it reaches the terminal as it is"
        );
    }
}
