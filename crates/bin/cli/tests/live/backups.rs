//! A backup that is older than the epoch of its cluster.

use crate::ceremony::{Member, Operators, report};
use crate::harness::{Node, output, throughout, until};
use std::path::Path;
use std::time::Duration;

const VICTIM: usize = 3;
/// Heights between the beginning of a resharing and the change, at ten a second.
const AHEAD: u64 = 150;
/// Longer than members need to tell under which lock they are.
const SEVERAL_QUESTIONS: Duration = Duration::from_secs(5);

fn done(line: &[&str]) {
    let output = output(line);
    assert!(output.status.success(), "{line:?}: {output:?}");
}

fn started(operators: &Operators) -> Vec<Node> {
    let mut nodes: Vec<Node> = (0..4).map(|node| operators.node(node)).collect();
    nodes.iter_mut().for_each(Node::spawn);
    nodes.iter_mut().for_each(Node::await_up);
    nodes
}

fn epoch(operators: &Operators, node: usize) -> u64 {
    aequa_crypto::lock::load(&operators.lock(node).unwrap()).unwrap().lock().epoch
}

fn written(path: &Path, content: &[u8]) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, content).unwrap();
}

/// Everybody's ceremony to its end.
fn hold(mut members: Vec<Member>, operators: &Operators) {
    for (node, member) in members.iter_mut().enumerate() {
        assert!(member.wait().unwrap().success(), "{}", report(&operators.folder(node)));
    }
}

#[test]
fn a_backup_of_an_earlier_epoch_signs_nothing_until_it_has_lock_and_transcript_of_the_next() {
    let operators = Operators::new(1);
    hold((0..4).map(|node| operators.take_part(node)).collect(), &operators);
    let mut nodes = started(&operators);
    until("blocks", || nodes[VICTIM].height().filter(|height| *height > 3));

    let scratch = operators.scratch();
    let [password, backup, reshare] =
        ["password", "backup", "reshare.json"].map(|name| scratch.join(name).to_string_lossy().into_owned());
    let folder = |node: usize| operators.folder(node).to_string_lossy().into_owned();
    written(Path::new(&password), b"correct horse battery");
    let of_victim = folder(VICTIM);
    done(&["backup", "--data-dir", &of_victim, "--password-file", &password, "--out", &backup]);

    let activation = nodes[0].height().unwrap() + AHEAD;
    let (lock, height) = (format!("{}/cluster-lock.json", folder(0)), activation.to_string());
    done(&["dkg", "reshare", "--lock", &lock, "--activation-height", &height, "--out", &reshare]);
    hold((0..4).map(|node| operators.take_part_in(node, Path::new(&reshare), None)).collect(), &operators);
    until("the next epoch", || {
        let has_changed =
            |node: &usize| epoch(&operators, *node) == 1 && nodes[*node].height() > Some(activation);
        (0..4).all(|node| has_changed(&node)).then_some(())
    });
    let shown = output(&["audit", "show", "--kind", "key", "--data-dir", &of_victim]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let events: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    let ceremony = ["lock_signed", "shares_made"];
    assert_eq!(events, [&ceremony[..], &["backup", "promise"], &ceremony, &["activated"]].concat());

    nodes[VICTIM].kill();
    std::fs::remove_dir_all(operators.folder(VICTIM)).unwrap();
    done(&["restore", "--from", &backup, "--data-dir", &of_victim, "--password-file", &password]);
    assert_eq!(epoch(&operators, VICTIM), 0);
    nodes[VICTIM].start();
    let said = |node: &Node, text: &str| node.log().iter().any(|line| line.to_string().contains(text));
    until("it hears that others are further", || {
        said(&nodes[VICTIM], "runs under another cluster lock").then_some(())
    });
    throughout(SEVERAL_QUESTIONS, "it has signed", || {
        nodes[VICTIM].metric("qbft_wal_appends_total").unwrap_or_default() == 0.0
    });
    assert_eq!(nodes[VICTIM].metric("block_sign_total{result=\"ok\"}"), None);

    // What any of the others has is enough to find its share and to follow.
    let next = operators.folder(VICTIM).join("next");
    for dir in [&next, &operators.folder(VICTIM).join("dkg")] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::copy(&lock, next.join("cluster-lock.json")).unwrap();
    let transcripts = std::fs::read_dir(operators.folder(0).join("dkg")).unwrap().flatten();
    for transcript in transcripts.filter(|entry| entry.path().extension().is_some_and(|end| end == "dat")) {
        written(
            &operators.folder(VICTIM).join("dkg").join(transcript.file_name()),
            &std::fs::read(transcript.path()).unwrap(),
        );
    }
    let status = operators.take_part_in(VICTIM, Path::new(&reshare), None).wait().unwrap();
    assert!(status.success(), "{}", report(&operators.folder(VICTIM)));
    until("its node changes by itself", || (epoch(&operators, VICTIM) == 1).then_some(()));
    nodes[VICTIM].await_up();
    until("it signs blocks of the next epoch", || {
        nodes[VICTIM].metric("block_sign_total{result=\"ok\"}").filter(|signed| *signed > 0.0)
    });
    operators.agree(&[0, 1, 2, 3]);
}
