use super::*;
use crate::score::Deed;
use std::time::Duration;

const MAX_CONNS: usize = 12;

struct Scene {
    gates: Gates,
    peers: Arc<Mutex<PeerTable>>,
    members: Vec<PeerId>,
    friend: PeerId,
    now: Instant,
    next_id: usize,
}

impl Scene {
    fn new(rate: f64, change: impl FnOnce(&mut Rules)) -> Self {
        let now = Instant::now();
        let members: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
        let friend = PeerId::random();
        let mut rules = Rules {
            members: members.iter().copied().collect(),
            allow: HashSet::from([friend]),
            member_addresses: Arc::default(),
            max_conns: MAX_CONNS,
            score_threshold: None,
            dkg_required: false,
        };
        let home = [caller(ip(1), 1)];
        members.iter().for_each(|member| rules.member_addresses.set(*member, &home));
        change(&mut rules);
        let peers = Arc::new(Mutex::new(PeerTable::new(members.iter().copied(), rate, now)));
        Self { gates: Gates::new(rules, peers.clone()), peers, members, friend, now, next_id: 0 }
    }

    fn attempt(&mut self, peer: PeerId) -> Result<Admission, Gate> {
        self.gates.admit_peer(&peer, Some(ip(9)), self.now, |_, _| {})
    }

    /// A further handshake of an address.
    fn call(&mut self, from: IpAddr) -> Result<Option<Multiaddr>, Gate> {
        let id = self.id();
        self.gates.admit_handshake(id, &caller(from, self.next_id), self.now)
    }

    fn id(&mut self) -> ConnectionId {
        self.next_id += 1;
        ConnectionId::new_unchecked(self.next_id)
    }

    fn open(&mut self, peer: PeerId) -> Result<ConnectionId, Gate> {
        let admission = self.attempt(peer)?;
        if let Some((_, old)) = admission.evict {
            self.gates.closed(old);
        }
        let id = self.id();
        self.gates.opened(id, peer, Some(ip(9)));
        Ok(id)
    }
}

fn caller(from: IpAddr, port: usize) -> Multiaddr {
    Multiaddr::from(from).with(libp2p::multiaddr::Protocol::Tcp(port as u16))
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

#[test]
fn a_stranger_is_refused_by_the_allow_list() {
    let mut scene = Scene::new(0.0, |_| {});
    assert_eq!(scene.attempt(PeerId::random()), Err(Gate::Allowlist));
    assert_eq!(Gate::Allowlist.refusal(), Attempt::Denied);
    let (member, friend) = (scene.members[0], scene.friend);
    assert!(scene.attempt(member).is_ok());
    assert!(scene.attempt(friend).is_ok());
}

#[test]
fn the_rate_gate_opens_again_after_a_second() {
    let mut scene = Scene::new(1.0, |_| {});
    let friend = scene.friend;
    assert!(scene.attempt(friend).is_ok());
    assert!(scene.attempt(friend).is_ok());
    assert_eq!(scene.attempt(friend), Err(Gate::Rate));
    scene.now += Duration::from_secs(1);
    assert!(scene.attempt(friend).is_ok());
    assert_eq!(Gate::Rate.refusal(), Attempt::Limited);
}

#[test]
fn a_low_score_shuts_out_strangers_only_and_an_unknown_peer_is_not_low() {
    let mut scene = Scene::new(0.0, |rules| rules.score_threshold = Some(-40.0));
    let (member, friend) = (scene.members[0], scene.friend);
    assert!(scene.attempt(friend).is_ok());
    for peer in [member, friend] {
        scene.peers.lock().record(&peer, Deed::Malformed, scene.now);
    }
    assert_eq!(scene.attempt(friend), Err(Gate::Score));
    assert!(scene.attempt(member).is_ok());
    assert_eq!(scene.gates.admit_dial(&friend, scene.now), Err(Gate::Score));
}

#[test]
fn a_ban_ends() {
    let mut scene = Scene::new(0.0, |_| {});
    let friend = scene.friend;
    for _ in 0..2 {
        scene.peers.lock().record(&friend, Deed::WrongCluster, scene.now);
    }
    assert_eq!(scene.attempt(friend), Err(Gate::Score));
    scene.now += crate::score::BAN;
    assert!(scene.attempt(friend).is_ok());
}

#[test]
fn a_required_lock_turns_away_whom_it_does_not_name() {
    let mut scene = Scene::new(0.0, |rules| rules.dkg_required = true);
    let (member, friend) = (scene.members[0], scene.friend);
    assert_eq!(scene.attempt(friend), Err(Gate::Lock));
    assert_eq!(Gate::Lock.refusal(), Attempt::DkgDenied);
    assert!(scene.attempt(member).is_ok());
}

#[test]
fn strangers_cannot_use_up_the_room_of_members() {
    let friends: Vec<_> = (0..20).map(|_| PeerId::random()).collect();
    let mut scene = Scene::new(0.0, |rules| rules.allow.extend(&friends));
    let let_in = friends.iter().filter(|friend| scene.open(**friend).is_ok()).count();
    assert_eq!(let_in, MAX_CONNS - CONNS_PER_PEER_MAX * 3);
    for member in scene.members.clone() {
        for _ in 0..CONNS_PER_PEER_MAX {
            assert_eq!(scene.attempt(member), Ok(Admission { evict: None }));
            scene.open(member).unwrap();
        }
    }
    assert_eq!(scene.gates.open.len(), MAX_CONNS);
}

#[test]
fn one_address_holds_few_connections_of_strangers() {
    let friends: Vec<_> = (0..20).map(|_| PeerId::random()).collect();
    let mut scene = Scene::new(0.0, |rules| {
        rules.allow.extend(&friends);
        rules.max_conns = 100;
    });
    let let_in = friends.iter().filter(|friend| scene.open(**friend).is_ok()).count();
    assert_eq!(let_in, CONNS_PER_ADDRESS_MAX);
}

#[test]
fn a_third_connection_of_a_member_replaces_its_oldest() {
    let mut scene = Scene::new(0.0, |_| {});
    let member = scene.members[0];
    let first = scene.open(member).unwrap();
    scene.open(member).unwrap();
    assert_eq!(scene.attempt(member), Ok(Admission { evict: Some((member, first)) }));
}

#[test]
fn with_the_least_room_every_member_still_gets_one_connection() {
    let mut scene = Scene::new(0.0, |rules| rules.max_conns = 3);
    let members = scene.members.clone();
    let first = scene.open(members[0]).unwrap();
    scene.open(members[0]).unwrap();
    scene.open(members[1]).unwrap();
    assert_eq!(scene.attempt(members[2]), Ok(Admission { evict: Some((members[0], first)) }));
}

#[test]
fn handshakes_of_one_address_are_limited_and_members_sharing_one_have_more() {
    let mut scene = Scene::new(0.0, |_| {});
    let mut granted = |from: u8| {
        (0..100)
            .filter(|_| {
                let id = scene.id();
                let result = scene.gates.admit_handshake(id, &caller(ip(from), 1), scene.now);
                scene.gates.handshake_ended(id);
                result.is_ok()
            })
            .count()
    };
    assert_eq!(granted(7), HANDSHAKE_BURST as usize);
    assert_eq!(granted(1), 3 * HANDSHAKE_BURST as usize);
}

#[test]
fn of_too_many_silent_strangers_the_oldest_goes_and_members_stay() {
    let mut scene = Scene::new(0.0, |_| {});
    let stranger = |i: usize| IpAddr::from([11, 0, (i / 250) as u8, (i % 250) as u8]);
    assert_eq!(scene.call(ip(1)), Ok(None), "a member's, the oldest of all");
    for i in 0..HANDSHAKES_PENDING_MAX {
        assert_eq!(scene.call(stranger(i)), Ok(None));
    }
    for newcomer in 0..2 * HANDSHAKES_PENDING_MAX {
        // The member has port 1, the first stranger port 2.
        let oldest = scene.gates.pending.values().nth(1).cloned().unwrap();
        assert_eq!(scene.call(stranger(1000 + newcomer)), Ok(Some(oldest.caller)));
    }
    assert_eq!(scene.gates.pending.len(), 1 + HANDSHAKES_PENDING_MAX);
    assert_eq!(scene.gates.pending.values().next().unwrap().from, ip(1));
    assert_eq!(scene.call(ip(1)), Ok(None), "nor does a member wait or push anybody out");
}

#[test]
fn one_address_has_few_handshakes_under_way_and_costs_no_other_its_place() {
    let mut scene = Scene::new(0.0, |_| {});
    let (greedy, other) = (ip(7), ip(8));
    assert_eq!(scene.call(other), Ok(None));
    for _ in 0..HANDSHAKES_PER_ADDRESS_MAX {
        assert_eq!(scene.call(greedy), Ok(None));
    }
    let first = caller(greedy, 2);
    assert_eq!(scene.call(greedy), Ok(Some(first)), "its own oldest");
    assert_eq!(scene.gates.pending.values().filter(|pending| pending.from == other).count(), 1);
}

#[test]
fn an_announced_address_is_a_members() {
    let mut scene = Scene::new(0.0, |_| {});
    let (member, moved) = (scene.members[0], ip(9));
    let granted = |scene: &mut Scene| {
        (0..100).filter(|_| scene.call(moved).is_ok_and(|turned_away| turned_away.is_none())).count()
    };
    scene.gates.rules.member_addresses.set(member, &[caller(moved, 1)]);
    assert_eq!(granted(&mut scene), HANDSHAKE_BURST as usize, "as many as its bucket holds");
}

#[test]
fn the_address_table_is_bounded() {
    let mut scene = Scene::new(0.0, |_| {});
    for i in 0..(ADDRESSES_MAX + 100) as u32 {
        let id = scene.id();
        let _ = scene.gates.admit_handshake(id, &caller(IpAddr::from(i.to_be_bytes()), 1), scene.now);
        scene.gates.handshake_ended(id);
        assert!(scene.gates.addresses.len() <= ADDRESSES_MAX);
    }
}

#[test]
fn hosts_of_one_ipv6_network_count_as_one_and_mapped_ipv4_as_ipv4() {
    let parse = |text: &str| network_of(text.parse().unwrap());
    assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:ffff::9"));
    assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
    assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
}
