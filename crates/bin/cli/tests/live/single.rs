//! The cluster of one that a node makes for itself.

use crate::harness::{Node, Ports, output, until};

#[test]
fn without_a_lock_a_node_makes_a_cluster_of_one_and_decides_alone() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    let data = dir.path().join("data");
    let mut node = Node::new(data.clone(), ports.api(), ports.monitoring(), Vec::new());
    node.start();
    until("three blocks", || node.height().filter(|height| *height >= 3));
    assert_eq!(node.get("/readyz").status, 200);
    let before = node.digests(3);
    let lock = std::fs::read(data.join("cluster-lock.json")).unwrap();
    let told = node.log().iter().any(|line| {
        line["msg"] == "warning"
            && line["text"].as_str().is_some_and(|text| text.contains("cluster of one operator"))
    });
    assert!(told, "the log says that a cluster was made");

    let ended = node.stop();
    assert!(ended.status.success(), "{ended:?}");
    node.start();
    until("two blocks more", || node.height().filter(|height| *height >= 5));
    assert_eq!(node.digests(3), before);

    node.kill();
    node.start();
    until("two blocks more", || node.height().filter(|height| *height >= 7));
    assert_eq!(node.digests(3), before);
    assert_eq!(std::fs::read(data.join("cluster-lock.json")).unwrap(), lock, "the keys are still the same");
    let file = dir.path().join("block.json");
    std::fs::write(&file, node.get("/v1/blocks/5").body).unwrap();
    let (lock, file) = (data.join("cluster-lock.json"), file.to_string_lossy().into_owned());
    let checked = output(&["verify-block", "--lock", &lock.to_string_lossy(), "--block", &file]);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_lost_lock_is_not_replaced_by_a_new_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    let mut node = Node::new(dir.path().join("data"), ports.api(), ports.monitoring(), Vec::new());
    node.start();
    node.kill();
    std::fs::remove_file(node.dir.join("cluster-lock.json")).unwrap();
    let refused = output(&["--data-dir", &node.dir.to_string_lossy()]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is missing") && said.contains("hint: restore the lock"), "{said}");
}

#[test]
fn an_encrypted_block_store_is_opened_with_its_key_and_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    let key = dir.path().join("store.key");
    let write = |byte: &str| {
        std::fs::write(&key, byte.repeat(32)).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    write("5a");
    let flags =
        ["--storage.encrypt", "--storage.key-file", &key.to_string_lossy()].map(String::from).to_vec();
    let mut node = Node::new(dir.path().join("data"), ports.api(), ports.monitoring(), flags);
    node.start();
    until("three blocks", || node.height().filter(|height| *height >= 3));
    let before = node.digests(3);
    node.stop();
    let data = node.dir.to_string_lossy().into_owned();
    write("a5");
    let refused = [
        (output(&["--data-dir", &data]), "it is encrypted, and no key is given"),
        (output(&["--data-dir", &data, "--storage.encrypt"]), "there is no key"),
        (
            output(
                &[&["--data-dir", &data][..], &node.flags.iter().map(String::as_str).collect::<Vec<_>>()]
                    .concat(),
            ),
            "another key",
        ),
    ];
    for (refused, why) in refused {
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains(why), "{why}: {said}");
    }
    write("5a");
    node.start();
    until("two blocks more", || node.height().filter(|height| *height >= 5));
    assert_eq!(node.digests(3), before);
}
