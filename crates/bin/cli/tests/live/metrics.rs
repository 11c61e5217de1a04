//! After a run in which everything happened once, every family that exists has moved.

use crate::harness::{Cluster, Shape, Verdict, Wallet, envelope, until};

/// Series that must be there and above 0 on the node asked, after what the test has done.
const MOVED: [&str; 55] = [
    "dvt_up",
    "api_requests_total{code=\"200\",route=\"/health\"}",
    "api_requests_total{code=\"202\",route=\"/v1/duty\"}",
    "api_requests_total{code=\"202\",route=\"/v1/tx\"}",
    "api_requests_total{code=\"404\",route=\"proxy\"}",
    "api_latency_ms_count{route=\"/health\"}",
    "service_op_ms_count{op=\"start\",service=\"api\"}",
    "service_op_ms_count{op=\"start\",service=\"monitoring\"}",
    "service_op_ms_count{op=\"start\",service=\"p2p\"}",
    "consensus_events_total{kind=\"consensus\"}",
    "consensus_events_total{kind=\"duty\"}",
    "consensus_proc_ms_count{kind=\"consensus\"}",
    "consensus_proc_ms_count{kind=\"duty\"}",
    "consensus_broadcast_total{result=\"ok\",type=\"prepare\"}",
    "consensus_broadcast_total{result=\"ok\",type=\"commit\"}",
    "qbft_msg_verified_total{type=\"preprepare\"}",
    "qbft_msg_verified_total{type=\"prepare\"}",
    "qbft_msg_verified_total{type=\"commit\"}",
    "qbft_msg_total{type=\"commit\"}",
    "qbft_state_transitions_total{type=\"commit\"}",
    "qbft_qc_built_total{kind=\"prepare\"}",
    "qbft_qc_built_total{kind=\"commit\"}",
    "qbft_wal_appends_total",
    "qbft_wal_recover_total{result=\"ok\"}",
    "qbft_verify_results_total{result=\"ok\",type=\"commit\"}",
    "state_persist_ms_count",
    "state_recovery_total{result=\"ok\"}",
    "state_sync_verified_total{result=\"ok\"}",
    "block_sign_total{result=\"ok\"}",
    "block_value_bids_count",
    "block_value_fees_count",
    "builder_policy_total{result=\"default\"}",
    "builder_selected_total{type=\"plaintext_v1\"}",
    "mempool_in_total{result=\"ok\"}",
    "mempool_in_total{result=\"invalid\"}",
    "mempool_removed_total{reason=\"included\",type=\"plaintext_v1\"}",
    "p2p_config_checks_total{result=\"ok\"}",
    "p2p_dkg_cluster_checks_total{result=\"ok\"}",
    "p2p_conn_attempts_total{result=\"allowed\"}",
    "p2p_conn_open_total",
    "p2p_conns_open",
    "p2p_peers_added_total",
    "p2p_peers_joined_total",
    "p2p_gate_decisions_total{gate=\"allowlist\",result=\"allowed\"}",
    "p2p_messages_total{kind=\"broadcast\"}",
    "p2p_broadcast_ms_count{kind=\"broadcast\"}",
    "tss_sessions_total{result=\"ok\"}",
    "tss_round_ms_count{round=\"init\"}",
    "tss_round_ms_count{round=\"gather\"}",
    "tss_round_ms_count{round=\"combine\"}",
    "tss_recovery_total{result=\"ok\"}",
    "service_op_ms_count{op=\"start\",service=\"tss\"}",
    "duty_results_total{duty=\"sync\",result=\"signed\"}",
    "swarm_blockchain_height",
    "state_root_compare_total{result=\"agree\"}",
];

/// Further series above 0, on nodes that have seen what these count.
const MOVED_IN_TROUBLE: [&str; 12] = [
    "p2p_msgs_total{direction=\"rx\",result=\"ok\",topic=\"aequa/qbft/v1\"}",
    "p2p_bytes_total{direction=\"tx\",topic=\"aequa/qbft/v1\"}",
    "p2p_conn_close_total",
    "p2p_peers_removed_total",
    "p2p_peers_left_total",
    "qbft_timeouts_total{phase=\"idle\"}",
    "qbft_view_changes_total",
    "consensus_view_changes_total",
    "swarm_consensus_faults_total",
    "swarm_blockchain_blocks_total{mode=\"live\"}",
    "swarm_consensus_round_duration_seconds_count",
    "consensus_broadcast_total{result=\"ok\",type=\"view_change\"}",
];

#[test]
fn every_family_of_what_exists_has_moved() {
    let mut cluster = Cluster::start(Shape { round_timeout_ms: 500, ..Shape::default() });
    cluster.until_all_at(3);
    // A node that was away fetches what it missed; the others change rounds without it.
    // It says goodbye: a peer that is killed on QUIC and comes back soon was never missed.
    assert!(cluster.nodes[1].stop().status.success());
    let dead_at = cluster.tip();
    until("ten blocks without node 1", || (cluster.tip() >= dead_at + 10).then_some(()));
    cluster.nodes[1].start();
    cluster.until_all_at(dead_at + 12);
    until("node 1 fetched blocks", || {
        cluster.nodes[1]
            .metric("swarm_blockchain_blocks_total{mode=\"batch\"}")
            .filter(|fetched| *fetched > 0.0)
    });
    let wallet = Wallet::new();
    let node = &cluster.nodes[1];
    let mut nonces = 0..;
    until("node 1 proposes a transaction", || {
        let transaction = wallet.plain(nonces.next()?, 7);
        assert!(Verdict::of(node, &envelope(&transaction)).is_accepted());
        node.metric("builder_selected_total{type=\"plaintext_v1\"}")
    });
    assert_eq!(Verdict::of(node, &envelope(&wallet.plain_for(9, nonces.next().unwrap(), 1))).status, 400);
    let duty = br#"{"type":"sync","height":9,"payload":"x"}"#;
    cluster.nodes.iter().for_each(|node| assert_eq!(node.post("/v1/duty", duty).status, 202));
    assert_eq!(node.get("/no/route").status, 404);
    moved(&cluster, 1, &MOVED);
    moved(&cluster, 0, &MOVED_IN_TROUBLE);
    let quiet = [
        "state_persist_errors_total",
        "swarm_consensus_byzantine_detected_total",
        "block_store_conflicts_total",
    ];
    for (node, series) in cluster.nodes.iter().flat_map(|node| quiet.map(|series| (node, series))) {
        assert_eq!(node.metric(series), None, "{series} of {}", node.dir.display());
    }
}

#[test]
fn a_limit_of_one_signing_session_is_kept_to_and_no_block_stays_without_a_seal() {
    let flags = ["--tss.max-sessions", "1"].map(String::from).to_vec();
    let cluster = Cluster::start(Shape { block_interval_ms: 0, flags, ..Shape::default() });
    for node in &cluster.nodes {
        until("sessions waited for a place, and were signed all the same", || {
            assert!(node.metric("tss_sessions_open") <= Some(1.0));
            let limited = node.metric("tss_rate_limited_total{kind=\"tss_session\"}")?;
            let signed = node.metric("tss_sessions_total{result=\"ok\"}")?;
            (limited > 0.0 && signed > 100.0).then_some(())
        });
        assert_eq!(node.metric("tss_sessions_total{result=\"timeout\"}"), None);
        assert_eq!(node.metric("tss_sessions_total{result=\"failed\"}"), None);
    }
}

/// All of `series` above 0 at a node; waits, since work goes on.
fn moved(cluster: &Cluster, node: usize, series: &[&str]) {
    let node = &cluster.nodes[node];
    for series in series {
        until(&format!("{series} above 0 at {}", node.dir.display()), || {
            node.metric(series).filter(|value| *value > 0.0)
        });
    }
}
