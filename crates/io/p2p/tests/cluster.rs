//! Honest nodes among themselves.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_p2p::*;
use bytes::Bytes;
use common::*;
use std::sync::atomic::Ordering::SeqCst;

async fn exchange_in_order(nodes: &[Node]) {
    const ROUNDS: usize = 200;
    for round in 0..ROUNDS {
        for (i, node) in nodes.iter().enumerate() {
            node.network.broadcast(Topic::Qbft, &msg(&format!("{i}:{round}")));
        }
    }
    for (i, node) in nodes.iter().enumerate() {
        for from in (0..nodes.len()).filter(|from| *from != i) {
            let last = Bytes::from(format!("{from}:{}", ROUNDS - 1));
            node.until("all frames", |node| node.log.bodies_from(op(from)).contains(&last)).await;
            let expected: Vec<_> = (0..ROUNDS).map(|round| Bytes::from(format!("{from}:{round}"))).collect();
            assert!(node.log.bodies_from(op(from)) == expected, "from {from} to {i}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_members_exchange_frames_in_order() {
    let nodes = start_all(cluster(4, Net::Tcp)).await;
    exchange_in_order(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_only_speak_quic_exchange_frames() {
    let nodes = start_all(cluster(3, Net::Quic)).await;
    exchange_in_order(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attempt_and_connection_is_counted_once_and_reversed_at_the_end() {
    let nodes = start_all(cluster(4, Net::Tcp)).await;
    for node in &nodes {
        let settled = |node: &Node| {
            node.log.attempts(Attempt::Allowed) == node.log.opened.load(SeqCst)
                && node.log.joined.load(SeqCst) == 3
        };
        node.until("each attempt allowed is a connection opened", settled).await;
    }
    for Node { network, log } in nodes {
        network.shutdown().await;
        assert_eq!(log.opened.load(SeqCst), log.closed.load(SeqCst));
        assert_eq!(log.joined.load(SeqCst), log.left.load(SeqCst));
        assert_eq!(log.ups.load(SeqCst), log.downs.load(SeqCst));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_member_is_back_on_its_own_port() {
    let configs = cluster(2, Net::Tcp);
    let mut nodes = start_all(configs.clone()).await;
    for i in [0, 1] {
        let stopped = nodes.remove(i);
        stopped.network.shutdown().await;
        let other = &nodes[0];
        other.until("the member is gone", |node| node.network.connected().is_empty()).await;
        let again = Node::start(configs[i].clone());
        again.until_connected(1).await;
        other.until_connected(1).await;
        other.network.send(op(i), Topic::Qbft, &msg("welcome"));
        again.until("frame after restart", |node| node.log.bodies() == ["welcome"]).await;
        nodes.insert(i, again);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_at_shutdown_is_still_delivered() {
    let mut nodes = start_all(cluster(2, Net::Tcp)).await;
    let leaver = nodes.remove(1);
    for i in 0..100 {
        leaver.network.send(op(0), Topic::Qbft, &msg(&format!("{i}")));
    }
    leaver.network.shutdown().await;
    nodes[0].until("the last words", |node| node.log.bodies().len() == 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_slows_its_peer_and_loses_none_of_its_frames() {
    // Below what a queue holds in frames, far above what buffers on the way hold in bytes.
    const FRAMES: usize = 1000;
    let nodes = start_all(cluster(2, Net::Tcp)).await;
    nodes[1].log.stalled.send_replace(true);
    let body = |i: usize| Bytes::from([&i.to_be_bytes()[..], &[0; 8 << 10]].concat());
    for i in 0..FRAMES {
        nodes[0].network.send(op(1), Topic::Qbft, &Message::new(1, body(i)));
    }
    nodes[1].until("one frame in its handler", |node| node.log.handling.load(SeqCst) == 1).await;
    assert_eq!(nodes[1].log.bodies().len(), 0);
    nodes[1].log.stalled.send_replace(false);
    nodes[1].until("all frames", |node| node.log.bodies().len() == FRAMES).await;
    assert!(nodes[1].log.bodies() == (0..FRAMES).map(body).collect::<Vec<_>>());
    // A frame is counted when its handler has ended.
    let counted = |node: &Node| node.log.messages(Topic::Qbft, Direction::Rx, Outcome::Ok) == FRAMES;
    nodes[1].until("all counted", counted).await;
    assert_eq!(nodes[0].log.messages(Topic::Qbft, Direction::Tx, Outcome::Error), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_sees_one_frame_of_a_stream_at_a_time_and_large_ones_too() {
    let nodes = start_all(cluster(2, Net::Tcp)).await;
    let large = vec![5; Topic::Qbft.frame_bytes_max() - OVERHEAD_BYTES_MAX];
    nodes[0].network.send(op(1), Topic::Qbft, &Message::new(2, large.clone()).traced("trace"));
    for i in 0..50 {
        nodes[0].network.send(op(1), Topic::Qbft, &msg(&format!("{i}")));
    }
    let judged = |node: &Node| node.log.messages(Topic::Qbft, Direction::Rx, Outcome::Ok) == 51;
    nodes[1].until("all frames", judged).await;
    assert_eq!(nodes[1].log.handling_most.load(SeqCst), 1);
    let first = nodes[1].log.frames.lock().unwrap()[0].clone();
    assert_eq!(first, (op(0), Topic::Qbft, Message::new(2, large).traced("trace")));
    assert_eq!(nodes[1].network.score(op(0)).round(), 51.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_have_streams_of_their_own_and_a_topic_that_is_off_is_ignored() {
    let mut configs = cluster(2, Net::Tcp);
    for config in &mut configs {
        config.topics = vec![Topic::State, Topic::TssShare, Topic::Dkg];
    }
    configs[1].topics.pop();
    let nodes = start_all(configs).await;
    nodes[0].network.send(op(1), Topic::Dkg, &msg("not spoken"));
    nodes[0].network.send(op(1), Topic::State, &msg("state"));
    nodes[0].network.send(op(1), Topic::TssShare, &msg("share"));
    nodes[1].until("both", |node| node.log.bodies().len() == 2).await;
    let mut seen: Vec<_> = nodes[1].log.frames.lock().unwrap().iter().map(|(_, topic, _)| *topic).collect();
    seen.sort();
    assert_eq!(seen, [Topic::TssShare, Topic::State]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered() {
    let nodes = start_all(cluster(2, Net::Tcp)).await;
    let answer = nodes[1].network.request(op(0), &msg("ab")).await.unwrap();
    assert_eq!((answer.kind, &answer.body[..]), (2, &b"abab"[..]));
    let refused = nodes[0].network.request(op(1), &msg("silence")).await.unwrap_err();
    assert!(matches!(refused, P2pError::Refused { .. }), "{refused}");
    let nobody = nodes[0].network.request(op(9), &msg("x")).await.unwrap_err();
    assert!(matches!(nobody, P2pError::NotMember { .. }), "{nobody}");
    let own = nodes[0].network.request(op(0), &msg("x")).await.unwrap_err();
    assert!(matches!(own, P2pError::NotMember { .. }), "{own}");
    let large = Message::new(1, vec![0; REQUEST_FRAME_BYTES_MAX]);
    let large = nodes[0].network.request(op(1), &large).await.unwrap_err();
    assert!(matches!(large, P2pError::TooLarge { .. }), "{large}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_questions_at_once_are_all_answered() {
    let nodes = start_all(cluster(2, Net::Tcp)).await;
    let ask = |i: usize| {
        let network = nodes[0].network.clone();
        async move { network.request(op(1), &msg(&format!("{i:03}"))).await.unwrap().body }
    };
    let answers = futures::future::join_all((0..100).map(ask)).await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, format!("{i:03}{i:03}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_to_a_member_that_is_away_fails_at_once_and_one_under_way_ends_with_the_network() {
    let mut nodes = start_all(cluster(2, Net::Tcp)).await;
    let asker = nodes[0].network.clone();
    let pending = tokio::spawn(async move { asker.request(op(1), &msg("never")).await });
    let asked = |node: &Node| node.log.messages(Topic::Sync, Direction::Rx, Outcome::Ok) == 1;
    nodes[1].until("the question arrived", asked).await;
    nodes.remove(1).network.shutdown().await;
    let broken = pending.await.unwrap().unwrap_err();
    assert!(matches!(broken, P2pError::Refused { .. } | P2pError::NotConnected { .. }), "{broken}");
    nodes[0].until("gone", |node| node.network.connected().is_empty()).await;
    let away = nodes[0].network.request(op(1), &msg("x")).await.unwrap_err();
    assert!(matches!(away, P2pError::NotConnected { .. }), "{away}");
    let network = nodes[0].network.clone();
    nodes.remove(0).network.shutdown().await;
    assert!(matches!(network.request(op(1), &msg("x")).await, Err(P2pError::Closed)));
}

/// Publishes until everybody has heard, which means that all know who subscribed.
async fn warm_up(from: &Node, hearers: &[&Node]) {
    for i in 0.. {
        let body = format!("warm-up {i} of {}", from.network.self_id());
        let failures = |node: &Node| node.log.messages(Topic::Evidence, Direction::Tx, Outcome::Error);
        let successes = |node: &Node| node.log.messages(Topic::Evidence, Direction::Tx, Outcome::Ok);
        let (failed, succeeded) = (failures(from), successes(from));
        from.network.gossip(Topic::Evidence, &msg(&body));
        from.until("published or not", |node| failures(node) > failed || successes(node) > succeeded).await;
        if successes(from) >= succeeded + hearers.len() {
            for node in hearers {
                node.until("warm-up", |node| node.log.gossiped(&body)).await;
            }
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_reaches_members_beyond_the_next_and_what_is_rejected_goes_no_further() {
    // 0 and 2 know only 1, and nobody can tell them where to find each other.
    let mut configs = cluster(3, Net::Tcp);
    for (i, hidden) in [(0, 2), (2, 0)] {
        configs[i].members[hidden].addrs.clear();
        configs[i].listen.clear();
    }
    let nodes: Vec<_> = configs.into_iter().map(Node::start).collect();
    nodes[1].until_connected(2).await;
    warm_up(&nodes[1], &[&nodes[0], &nodes[2]]).await;
    warm_up(&nodes[0], &[&nodes[1]]).await;
    nodes[0].network.gossip(Topic::Evidence, &msg("bad"));
    nodes[1].until("bad arrives", |node| node.log.gossiped("bad")).await;
    let refused = |node: &Node| node.log.messages(Topic::Evidence, Direction::Rx, Outcome::Error) == 1;
    nodes[1].until("bad is refused", refused).await;
    nodes[0].network.gossip(Topic::Evidence, &msg("good"));
    nodes[2].until("good arrives", |node| node.log.gossiped("good")).await;
    assert!(!nodes[2].log.gossiped("bad"));
    assert!(nodes[1].network.score(op(0)) < -40.0, "whoever forwards a bad message pays for it");
    assert_eq!(nodes[0].network.connected(), [op(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_port_is_an_error_of_start() {
    for net in [Net::Tcp, Net::Quic] {
        let configs = cluster(2, net);
        let _first = Node::start(configs[0].clone());
        let mut second = configs[1].clone();
        second.listen = configs[0].listen.clone();
        let error = Node::try_start(second).err().unwrap();
        assert!(matches!(error, P2pError::Listen { .. }), "{net:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_known_when_start_returns_and_can_be_dialled_as_bootnodes() {
    let mut configs = cluster(2, Net::Tcp);
    configs[0].listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let first = Node::start(configs[0].clone());
    let addrs = first.network.listen_addrs();
    assert_eq!(addrs.len(), 1);
    assert!(addrs[0].ends_with(&first.network.self_id()), "{addrs:?}");
    configs[1].members[0].addrs.clear();
    configs[1].bootnodes = addrs;
    let second = Node::start(configs[1].clone());
    second.until_connected(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_handle_ends_the_network() {
    let mut nodes = start_all(cluster(2, Net::Tcp)).await;
    drop(nodes.remove(1));
    nodes[0].until("the member is gone", |node| node.network.connected().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_that_moved_find_each_other_through_a_third() {
    let mut configs = cluster(3, Net::Tcp);
    for moved in [1, 2] {
        configs[moved].listen = vec![fresh_address(Net::Tcp)];
    }
    let nodes: Vec<_> = configs.iter().cloned().map(Node::start).collect();
    for node in &nodes {
        node.until_connected(2).await;
    }
    // What is known outlives the third, and reaches whoever comes later.
    let mut nodes = nodes.into_iter();
    nodes.next().unwrap().network.shutdown().await;
    let (one, other) = (nodes.next().unwrap(), nodes.next().unwrap());
    one.until_connected(1).await;
    one.network.send(op(2), Topic::Qbft, &msg("found"));
    other.until("a frame", |node| node.log.bodies() == ["found"]).await;
    let late = Node::start(configs[0].clone());
    late.until_connected(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_moves_while_it_is_away_is_linked_again_by_those_that_only_heard_of_it() {
    let mut configs = cluster(3, Net::Tcp);
    let nodes = start_all(configs.clone()).await;
    let mut nodes = nodes.into_iter();
    let (zero, one) = (nodes.next().unwrap(), nodes.next().unwrap());
    nodes.next().unwrap().network.shutdown().await;
    one.until_connected(1).await;
    // It comes back elsewhere and reaches only 0: 1 has to dial it.
    configs[2].listen = vec![fresh_address(Net::Tcp)];
    configs[2].members[1].addrs.clear();
    let moved = Node::start(configs[2].clone());
    moved.until_connected(2).await;
    zero.until_connected(2).await;
    one.until_connected(2).await;
}
