//! Where members are, in their own words.
//!
//! Every member announces the addresses it listens on, signed by its identity key with a time that only
//! grows. Members pass on what is new to them, and tell all they know to whoever connects, so that two that
//! have moved find each other through any third. Nobody can speak for another, and an older word never
//! replaces a newer one.
//!
//! ```text
//! operator u8 · time_ms u64 · count u8 · count × (length u16 · multiaddr) · signature [64]
//! ```
//!
//! Signed is everything before the signature, after a tag and the cluster id.

use crate::bucket::TokenBucket;
use crate::config::Checked;
use crate::score::Deed;
use aequa_types::{ClusterId, OperatorIndex};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use libp2p::identity::{Keypair, PublicKey};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Addresses of one member: two families, two transports, and as many again for a host with two networks.
pub(crate) const ADDRS_MAX: usize = 8;
/// Bytes of one address: longer than any IP address with a port.
const ADDR_BYTES_MAX: usize = 64;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;
/// Largest announcement.
pub(crate) const ANNOUNCEMENT_BYTES_MAX: usize =
    1 + 8 + 1 + ADDRS_MAX * (2 + ADDR_BYTES_MAX) + SIGNATURE_BYTES;
/// News of one member that are passed on per second, and at once: it moves rarely, and every one of its words
/// goes to everybody.
const NEWS_PER_SECOND: f64 = 0.2;
const NEWS_BURST: f64 = 8.0;
/// What looks new is checked for one carrier so often per second, and at once: all that it knows, when it connects.
const CHECKS_PER_SECOND: f64 = 8.0;
const CHECKS_BURST: f64 = 128.0;
/// Envelope kind of an announcement.
pub(crate) const KIND_ANNOUNCEMENT: u8 = 1;
/// Keeps these signatures apart from all others of the same key.
const TAG: &[u8] = b"aequa/p2p/addresses/v1\0";

/// What a member said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub operator: OperatorIndex,
    time_ms: u64,
    pub addrs: Vec<Multiaddr>,
    /// As it was signed, signature included.
    pub bytes: Bytes,
}

/// What came of an announcement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The newest of this operator.
    News(OperatorIndex),
    /// Known, or older than what is known, or too soon after it.
    Old,
    /// It costs its carrier.
    Bad(Deed),
}

/// The newest word of every member.
pub(crate) struct AddressBook {
    cluster_id: ClusterId,
    me: OperatorIndex,
    keypair: Keypair,
    others: BTreeMap<OperatorIndex, Other>,
    own: Option<Announcement>,
    /// The latest time under the own signature, of this life or an earlier one.
    own_time_ms: u64,
}

struct Other {
    key: Option<PublicKey>,
    newest: Option<Announcement>,
    /// What it says of itself.
    news: TokenBucket,
    /// What it carries, whomever it is of.
    checks: TokenBucket,
}

impl AddressBook {
    pub fn new(config: &Checked, now: Instant) -> Self {
        let other = |peer: &PeerId| Other {
            key: key_of(peer),
            newest: None,
            news: TokenBucket::new(NEWS_PER_SECOND, NEWS_BURST, now),
            checks: TokenBucket::new(CHECKS_PER_SECOND, CHECKS_BURST, now),
        };
        let others = config.others.iter().map(|member| (member.operator, other(&member.peer)));
        Self {
            cluster_id: config.cluster_id,
            me: config.me,
            keypair: config.keypair.clone(),
            others: others.collect(),
            own: None,
            own_time_ms: 0,
        }
    }

    /// Says where this node is, and later than it ever did. `None` when that cannot be signed.
    pub fn announce(&mut self, addrs: Vec<Multiaddr>) -> Option<&Announcement> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let time_ms = u64::try_from(wall).unwrap_or(u64::MAX).max(self.own_time_ms.saturating_add(1));
        let unsigned = encode(self.me, time_ms, &addrs);
        let signature = self.keypair.sign(&self.signed_bytes(&unsigned)).ok()?;
        let bytes = Bytes::from([&unsigned[..], &signature].concat());
        self.own_time_ms = time_ms;
        Some(self.own.insert(Announcement { operator: self.me, time_ms, addrs, bytes }))
    }

    /// Takes what a member carried, whomever it is of. What does not hold is at the cost of its carrier alone.
    pub fn hear(&mut self, carrier: OperatorIndex, body: &Bytes, now: Instant) -> Heard {
        let Some(announcement) = decode(body) else { return Heard::Bad(Deed::Malformed) };
        let operator = announcement.operator;
        let known_ms = match self.others.get(&operator) {
            // An earlier life, with a clock that was ahead: this one has to speak after it.
            None if operator == self.me => Some(self.own_time_ms),
            None => return Heard::Bad(Deed::Malformed),
            Some(other) => other.newest.as_ref().map(|newest| newest.time_ms),
        };
        let is_new = known_ms < Some(announcement.time_ms);
        if !is_new || !self.others.get_mut(&carrier).is_some_and(|carrier| carrier.checks.take(now)) {
            return Heard::Old;
        }
        let key = match self.others.get(&operator) {
            Some(other) => other.key.clone(),
            None => Some(self.keypair.public()),
        };
        if !key.is_some_and(|key| self.holds(&key, body)) {
            return Heard::Bad(Deed::BadSignature);
        }
        match self.others.get_mut(&operator) {
            None => self.own_time_ms = announcement.time_ms,
            Some(other) => {
                if !other.news.take(now) {
                    return Heard::Old;
                }
                other.newest = Some(announcement);
            }
        }
        Heard::News(operator)
    }

    /// The newest word of another member.
    pub fn of(&self, operator: OperatorIndex) -> Option<&Announcement> {
        self.others.get(&operator)?.newest.as_ref()
    }

    /// Everything there is to tell.
    pub fn all(&self) -> impl Iterator<Item = &Announcement> {
        self.own.iter().chain(self.others.values().filter_map(|other| other.newest.as_ref()))
    }

    fn holds(&self, key: &PublicKey, bytes: &[u8]) -> bool {
        let Some((unsigned, signature)) = bytes.split_last_chunk::<SIGNATURE_BYTES>() else { return false };
        key.verify(&self.signed_bytes(unsigned), signature)
    }

    fn signed_bytes(&self, unsigned: &[u8]) -> Vec<u8> {
        [TAG, self.cluster_id.as_slice(), unsigned].concat()
    }
}

/// The ed25519 key in a peer id.
fn key_of(peer: &PeerId) -> Option<PublicKey> {
    PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok().filter(|key| key.to_peer_id() == *peer)
}

fn encode(operator: OperatorIndex, time_ms: u64, addrs: &[Multiaddr]) -> BytesMut {
    let mut out = BytesMut::with_capacity(ANNOUNCEMENT_BYTES_MAX);
    out.put_u8(operator.0);
    out.put_u64_le(time_ms);
    out.put_u8(addrs.len() as u8);
    for addr in addrs {
        out.put_u16_le(addr.len() as u16);
        out.put_slice(addr.as_ref());
    }
    out
}

/// An IP address with a port of TCP or QUIC: nothing to resolve, nothing to relay.
pub(crate) fn is_plain(addr: &Multiaddr) -> bool {
    let mut parts = addr.iter();
    matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)))
        && matches!(
            (parts.next(), parts.next(), parts.next()),
            (Some(Protocol::Tcp(_)), None, None) | (Some(Protocol::Udp(_)), Some(Protocol::QuicV1), None)
        )
}

fn decode(body: &Bytes) -> Option<Announcement> {
    if body.len() > ANNOUNCEMENT_BYTES_MAX {
        return None;
    }
    let mut rest = &body[..];
    let (operator, time_ms) = (OperatorIndex(rest.try_get_u8().ok()?), rest.try_get_u64_le().ok()?);
    let count = usize::from(rest.try_get_u8().ok()?);
    if count > ADDRS_MAX {
        return None;
    }
    let mut addrs = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::from(rest.try_get_u16_le().ok()?);
        let (addr, after) = rest.split_at_checked(length)?;
        addrs.push(Multiaddr::try_from(addr.to_vec()).ok().filter(is_plain)?);
        rest = after;
    }
    (rest.len() == SIGNATURE_BYTES).then(|| Announcement { operator, time_ms, addrs, bytes: body.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Member, peer_id_of};
    use std::time::Duration;

    fn book(me: u8) -> AddressBook {
        let member = |i: u8| Member {
            operator: OperatorIndex(i),
            peer_id: peer_id_of([i + 1; 32]),
            addrs: Vec::new(),
        };
        let config =
            Config::new(&[me + 1; 32], ClusterId::ZERO, OperatorIndex(me), (0..4).map(member).collect());
        AddressBook::new(&Checked::parse(&config).unwrap(), Instant::now())
    }

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn word(of: &mut AddressBook, port: u16) -> Bytes {
        of.announce(vec![addr(port)]).unwrap().bytes.clone()
    }

    #[test]
    fn what_a_member_says_of_itself_is_believed_whoever_carries_it_and_the_newest_stands() {
        let (mut reader, mut speaker, now) = (book(0), book(2), Instant::now());
        let (older, newer) = (word(&mut speaker, 1), word(&mut speaker, 2));
        assert_eq!(reader.hear(OperatorIndex(3), &newer, now), Heard::News(OperatorIndex(2)));
        assert_eq!(reader.hear(OperatorIndex(3), &older, now), Heard::Old);
        assert_eq!(reader.hear(OperatorIndex(3), &newer, now), Heard::Old);
        assert_eq!(reader.of(OperatorIndex(2)).unwrap().addrs, [addr(2)]);
        assert_eq!(reader.all().count(), 1);
    }

    #[test]
    fn nobody_speaks_for_another_or_from_another_cluster() {
        let (mut reader, now) = (book(0), Instant::now());
        let mut liar = book(1);
        liar.me = OperatorIndex(2);
        let forged = word(&mut liar, 1);
        assert_eq!(reader.hear(OperatorIndex(3), &forged, now), Heard::Bad(Deed::BadSignature));
        let mut elsewhere = book(2);
        elsewhere.cluster_id = ClusterId::repeat_byte(9);
        assert_eq!(
            reader.hear(OperatorIndex(3), &word(&mut elsewhere, 1), now),
            Heard::Bad(Deed::BadSignature)
        );
        liar.me = OperatorIndex(9);
        assert_eq!(
            reader.hear(OperatorIndex(3), &word(&mut liar, 1), now),
            Heard::Bad(Deed::Malformed),
            "no member"
        );
        assert_eq!(reader.all().count(), 0);
        assert_eq!(reader.hear(OperatorIndex(3), &word(&mut book(2), 1), now), Heard::News(OperatorIndex(2)));
    }

    #[test]
    fn an_announcement_is_small_and_names_only_what_can_be_dialled() {
        let (mut reader, mut speaker, now) = (book(0), book(1), Instant::now());
        let mut hear = |addrs: Vec<Multiaddr>| {
            let bytes = speaker.announce(addrs).unwrap().bytes.clone();
            reader.hear(OperatorIndex(3), &bytes, now)
        };
        let news = Heard::News(OperatorIndex(1));
        let bad = Heard::Bad(Deed::Malformed);
        assert_eq!(hear((0..ADDRS_MAX as u16).map(addr).collect()), news);
        assert_eq!(hear((0..=ADDRS_MAX as u16).map(addr).collect()), bad);
        assert_eq!(hear(vec!["/ip6/::1/udp/1/quic-v1".parse().unwrap()]), news);
        for text in ["/dns4/a.example/tcp/1", "/ip4/10.0.0.1/udp/1", "/ip4/10.0.0.1/tcp/1/ws"] {
            assert_eq!(hear(vec![text.parse().unwrap()]), bad, "{text}");
        }
        let whole = word(&mut book(1), 1);
        for cut in 0..whole.len() {
            assert_eq!(reader.hear(OperatorIndex(3), &whole.slice(..cut), now), bad);
        }
    }

    #[test]
    fn forged_words_of_a_member_do_not_hold_up_its_own() {
        let (mut reader, now) = (book(0), Instant::now());
        let mut liar = book(1);
        (liar.me, liar.own_time_ms) = (OperatorIndex(2), u64::MAX / 2);
        let bad = Heard::Bad(Deed::BadSignature);
        let forged =
            (0..1000).filter(|_| reader.hear(OperatorIndex(1), &word(&mut liar, 1), now) == bad).count();
        assert_eq!(forged, CHECKS_BURST as usize, "beyond that they are not even checked");
        let own = word(&mut book(2), 1);
        assert_eq!(reader.hear(OperatorIndex(3), &own, now), Heard::News(OperatorIndex(2)));
    }

    #[test]
    fn one_member_cannot_keep_the_others_busy_with_its_news() {
        let (mut reader, mut speaker, now) = (book(0), book(1), Instant::now());
        let mut heard = |now| {
            (0..100)
                .filter(|_| reader.hear(OperatorIndex(3), &word(&mut speaker, 1), now) != Heard::Old)
                .count()
        };
        assert_eq!(heard(now), NEWS_BURST as usize);
        assert_eq!(heard(now + Duration::from_secs(5)), 1);
    }

    #[test]
    fn a_member_whose_clock_was_put_back_speaks_after_its_earlier_life() {
        let (mut reader, now) = (book(0), Instant::now());
        let mut ahead = book(1);
        ahead.own_time_ms = u64::MAX / 2;
        let early = word(&mut ahead, 1);
        reader.hear(OperatorIndex(3), &early, now);
        let mut again = book(1);
        assert_eq!(reader.hear(OperatorIndex(3), &word(&mut again, 2), now), Heard::Old);
        assert_eq!(
            again.hear(OperatorIndex(3), &early, now),
            Heard::News(OperatorIndex(1)),
            "told by whoever it connects to"
        );
        assert_eq!(reader.hear(OperatorIndex(3), &word(&mut again, 2), now), Heard::News(OperatorIndex(1)));
        let mut other = book(1);
        assert_eq!(other.hear(OperatorIndex(3), &word(&mut again, 2), now), Heard::News(OperatorIndex(1)));
    }
}
