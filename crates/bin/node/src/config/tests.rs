use super::*;
use aequa_types::{ConsensusParams, Quorum};

fn flags(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    for (name, value) in pairs {
        settings.set(keys::find(name).unwrap(), vec![(*value).to_owned()], Source::Flag).unwrap();
    }
    settings
}

fn resolve(pairs: &[(&str, &str)], env: &[(&str, &str)]) -> Result<RunConfig, ExitError> {
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    RunConfig::resolve(flags(pairs), env)
}

fn source(config: &RunConfig, key: keys::Key) -> (&str, Source) {
    let found = config.report.iter().find(|setting| setting.key == key.name).unwrap();
    (&found.value, found.source)
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, "[mempool]\nmax = 1\nper-sender = 2\nmax-bytes = 70000\n").unwrap();
    let path = file.to_str().unwrap();
    let env = [("AEQUA_MEMPOOL_MAX", "10"), ("AEQUA_MEMPOOL_PER_SENDER", "20")];
    let config = resolve(&[("config", path), ("mempool.max", "100")], &env).unwrap();
    assert_eq!(config.mempool, MempoolConfig { max: 100, max_bytes: 70_000, per_sender: 20 });
    assert_eq!(source(&config, keys::MEMPOOL_MAX), ("100", Source::Flag));
    assert_eq!(source(&config, keys::MEMPOOL_PER_SENDER), ("20", Source::Env));
    assert_eq!(source(&config, keys::MEMPOOL_MAX_BYTES), ("70000", Source::File));
    assert_eq!(source(&config, keys::MONITORING), ("127.0.0.1:4620", Source::Default));
}

#[test]
fn a_node_file_in_the_data_directory_is_read_without_asking() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(NODE_FILE), "enable-tss = true\n").unwrap();
    let config = resolve(&[("data-dir", dir.path().to_str().unwrap())], &[]).unwrap();
    assert!(config.enable_tss && config.seals());
    assert_eq!(config.cluster_lock, dir.path().join(LOCK_FILE));
    assert_eq!(config.keys_dir, dir.path().join("keys"));
}

#[test]
fn without_settings_the_defaults_are_the_originals() {
    let config = resolve(&[], &[]).unwrap();
    assert_eq!(config.validator_api.to_string(), "127.0.0.1:4600");
    assert_eq!(config.monitoring.to_string(), "127.0.0.1:4620");
    let on =
        [config.enable_tx_api, config.enable_builder, config.enable_tss, config.seals(), config.dkg_required];
    assert_eq!(on, [false; 5]);
    assert_eq!((config.p2p.enable, config.p2p.max_conns), (None, 128));
    assert_eq!(config.shared, SharedParams::default());
}

#[test]
fn files_with_unknown_keys_or_wrong_types_are_refused() {
    for (text, says) in [
        ("x = 1", "unknown key x"),
        ("[p2p]\nmax = 1", "unknown key p2p.max"),
        ("[nothing]\nx = 1", "unknown key nothing"),
        ("config = \"x\"", "unknown key config"),
        ("enable-tss = \"true\"", "enable-tss: wrong type"),
        ("enable-tss = 1", "wrong type"),
        ("[p2p]\nmax-conns = \"5\"", "wrong type"),
        ("[p2p]\nmax-conns = 0", "not between 1 and"),
        ("validator-api = \"\"", "is empty"),
        ("p2p.listen = [1]", "wrong type"),
        ("enable-tss = ", ""),
    ] {
        let error = Settings::default().add_toml(text).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains(says), "{text}: {error}");
    }
    let mut good = Settings::default();
    good.add_toml("upstream = \"\"\np2p.listen = [\"/ip4/1.2.3.4/tcp/1\"]\n\"p2p.max-conns\" = 7\n").unwrap();
    assert_eq!(good.number(keys::P2P_MAX_CONNS), 7);
}

#[test]
fn environment_switches_have_four_spellings_each_and_nothing_else() {
    for (text, expected) in
        [("1", true), ("TRUE", true), ("yes", true), ("on", true), ("0", false), ("Off", false), ("", false)]
    {
        assert_eq!(resolve(&[], &[("AEQUA_ENABLE_TSS", text)]).unwrap().enable_tss, expected, "{text}");
    }
    assert_eq!(resolve(&[], &[("AEQUA_ENABLE_TSS", "maybe")]).unwrap_err().code, 2);
    assert_eq!(resolve(&[], &[("AEQUA_P2P_MAX_CONNS", "many")]).unwrap_err().code, 2);
}

#[test]
fn unknown_aequa_variables_are_warned_about() {
    let env = [("AEQUA_NO_SUCH", "1"), ("AEQUA_TSS_ZEROIZE", "1"), ("PATH", "x"), ("AEQUA_MEMPOOL_MAX", "5")];
    let warnings = resolve(&[], &env).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("AEQUA_NO_SUCH"));
}

#[test]
fn features_of_later_versions_are_refused_but_may_be_off() {
    for (name, value) in [
        ("enable-beast", "true"),
        ("eth.enable", "true"),
        ("grpc.listen", "127.0.0.1:1"),
        ("tls.cert", "x"),
        ("leader", "vrf"),
        ("builder.use-dfba", "true"),
        ("builder.batch-ticks-ms", "5"),
        ("p2p.nat", "true"),
        ("state.auto-reconcile", "true"),
    ] {
        let error = resolve(&[(name, value)], &[]).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains("not part of this version"), "{name}: {error}");
    }
    assert!(
        resolve(&[("enable-beast", "false"), ("leader", "round_robin"), ("p2p.nat", "false")], &[]).is_ok()
    );
    assert_eq!(resolve(&[], &[("AEQUA_ENABLE_BEAST", "1")]).unwrap_err().code, 2);
}

#[test]
fn shared_parameters_must_equal_the_lock() {
    let lock = ConsensusParams::default();
    for (name, same, other) in [
        ("block-interval-ms", "1000", "999"),
        ("round-timeout-ms", "1000", "500"),
        ("round-timeout-cap-ms", "60000", "1000"),
        ("checkpoint-interval", "100", "50"),
        ("empty-blocks", "true", "false"),
        ("builder.max-n", "0", "7"),
        ("builder.window", "1024", "7"),
        ("builder.min-fee", "0", "7"),
        ("builder.min-bid", "0", "7"),
        ("builder.max-bytes", "1048576", "70000"),
    ] {
        check_against_lock(&resolve(&[(name, same)], &[]).unwrap(), &lock).unwrap();
        let error = check_against_lock(&resolve(&[(name, other)], &[]).unwrap(), &lock).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains(other) && error.message.contains(name), "{error}");
    }
    check_against_lock(&resolve(&[], &[]).unwrap(), &lock).unwrap();
}

#[test]
fn k3_a_threshold_that_liars_can_reach_or_nobody_is_refused() {
    let check = |operators, members: &str| {
        let config = resolve(&[("state.divergence-threshold", members)], &[]).unwrap();
        check_threshold(&config, Quorum::of(operators).unwrap())
    };
    for (operators, members) in [(4, "0"), (4, "2"), (4, "3"), (7, "3"), (7, "6"), (2, "1"), (1, "0")] {
        check(operators, members).unwrap();
    }
    for (operators, members) in [(4, "1"), (4, "4"), (7, "2"), (7, "7"), (1, "1")] {
        let error = check(operators, members).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains(&format!("state.divergence-threshold is {members}")), "{error}");
    }
}

#[test]
fn addresses_and_urls_are_checked_before_the_start() {
    assert_eq!(
        resolve(&[("validator-api", ":4600")], &[]).unwrap().validator_api.to_string(),
        "0.0.0.0:4600"
    );
    assert!(resolve(&[("validator-api", "localhost:1")], &[]).unwrap().validator_api.ip().is_loopback());
    for (name, value) in [
        ("validator-api", "4600"),
        ("monitoring", "127.0.0.1:99999"),
        ("upstream", "ftp://x"),
        ("upstream", "nowhere"),
        ("p2p.listen", "127.0.0.1:31000"),
        ("p2p.bootnodes", "no-such-file"),
    ] {
        assert_eq!(resolve(&[(name, value)], &[]).unwrap_err().code, 2, "{name} {value}");
    }
}

#[test]
fn bootnodes_are_a_list_or_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nodes");
    std::fs::write(&file, "# ours\n/ip4/10.0.0.1/tcp/31000 # first\n\n/dns4/b/tcp/1\n").unwrap();
    let expected = ["/ip4/10.0.0.1/tcp/31000", "/dns4/b/tcp/1"];
    for text in [file.to_str().unwrap(), "/ip4/10.0.0.1/tcp/31000, /dns4/b/tcp/1"] {
        assert_eq!(resolve(&[("p2p.bootnodes", text)], &[]).unwrap().p2p.bootnodes, expected);
    }
}

#[test]
fn secrets_of_a_url_are_neither_reported_nor_told_in_errors() {
    let config = resolve(&[("upstream", "http://user:secret@host/x")], &[]).unwrap();
    assert_eq!(source(&config, keys::UPSTREAM).0, "http://***@host/***");
    assert_eq!(config.upstream.as_deref(), Some("http://user:secret@host/x"));
    for (key, value) in [
        ("upstream", "ftp://user:secret@host/secret"),
        ("upstream", "http://user:secret@:x"),
        ("upstream", "user:secret@host"),
        ("validator-api", "http://user:secret@host"),
        ("api.hosts", "http://user:secret@host"),
        ("fee-sink.webhook", "http://user:secret@host/secret"),
        ("eth.beacon-nodes", "http://user:secret@host/secret"),
        ("otlp.endpoint", "http://user:secret@host/secret"),
        ("p2p.bootnodes", "http://user:secret@host/secret"),
        ("p2p.listen", "http://user:secret@host/secret"),
    ] {
        let error = resolve(&[(key, value)], &[]).unwrap_err();
        assert!(!error.report().contains("secret"), "{key}: {}", error.report());
    }
    let broken = "enable-tss = true\nupstream = \"http://user:secret@host/secret";
    let error = Settings::default().add_toml(broken).unwrap_err();
    assert!(error.message.contains("line 2") && !error.message.contains("secret"), "{error}");
}

#[test]
fn a_listener_beyond_loopback_is_warned_about_and_refused_with_what_signs() {
    assert_eq!(resolve(&[], &[]).unwrap().warnings, [""; 0]);
    for key in ["validator-api", "monitoring"] {
        let warnings = resolve(&[(key, "0.0.0.0:1")], &[]).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains(&format!("--{key} listens on 0.0.0.0:1 without TLS")), "{warnings:?}");
        for (feature, on) in
            [("eth.enable", "true"), ("grpc.listen", "127.0.0.1:1"), ("remote-signer.listen", "127.0.0.1:2")]
        {
            let error = resolve(&[(key, "0.0.0.0:1"), (feature, on)], &[]).unwrap_err();
            assert_eq!(error.code, 2);
            assert!(error.message.contains(key) && error.message.contains(feature), "{error}");
        }
    }
    for feature in ["grpc.listen", "remote-signer.listen"] {
        let error = resolve(&[(feature, "0.0.0.0:1")], &[]).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains("without TLS"), "{error}");
    }
    assert!(resolve(&[("validator-api", "[::ffff:127.0.0.1]:1")], &[]).unwrap().warnings.is_empty());
}

#[test]
fn names_of_the_api_are_names() {
    let hosts = |text: &str| resolve(&[], &[("AEQUA_API_HOSTS", text)]).map(|config| config.api_hosts);
    assert_eq!(hosts("node.example, op-1_a").unwrap(), ["node.example", "op-1_a"]);
    for bad in ["http://a", "a:1", "a/b", "a@b", "a,,b"] {
        assert_eq!(hosts(bad).unwrap_err().code, 2, "{bad}");
    }
}

#[test]
fn trusted_proxies_are_addresses_or_networks() {
    let proxies = |text: &str| resolve(&[], &[("AEQUA_API_TRUSTED_PROXIES", text)]);
    assert_eq!(proxies("10.0.0.1, 172.16.0.0/12,::1").unwrap().api_trusted_proxies.len(), 3);
    for bad in ["proxy.example", "10.0.0.0/33", "10.0.0.1:80"] {
        let error = proxies(bad).unwrap_err();
        assert!(error.code == 2 && error.message.contains(bad), "{error}");
    }
}
