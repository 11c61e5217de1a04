//! Follows the chain of a cluster over the API of its nodes: one that answers is enough.

use crate::client::NodeClient;
use aequa_types::CertifiedBlock;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Wait before asking another node.
const RETRY: Duration = Duration::from_millis(200);
/// Wait for a word of the tip before asking anyway.
const ASK_ANYWAY_AFTER: Duration = Duration::from_secs(2);
/// Blocks read ahead of whoever counts them.
const QUEUE: usize = 64;

/// A certified block with the time it became known here.
#[derive(Debug)]
pub struct Seen {
    /// The block.
    pub block: CertifiedBlock,
    /// When a node first said it exists.
    pub at: Instant,
}

/// Sends every block from `from` on, in order, until the receiver is dropped.
pub fn follow(nodes: Vec<NodeClient>, from: u64) -> mpsc::Receiver<Seen> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (tip, tips) = watch::channel((0u64, Instant::now()));
    tokio::spawn(watch_tip(nodes.clone(), tip));
    tokio::spawn(fetch(nodes, from, tips, sender));
    receiver
}

/// Listens to the events of one node at a time. Ends when nobody asks for the tip any more.
async fn watch_tip(nodes: Vec<NodeClient>, tip: watch::Sender<(u64, Instant)>) {
    for node in nodes.iter().cycle() {
        if let Ok(mut events) = node.block_events().await {
            loop {
                let height = tokio::select! {
                    height = events.next_height() => height,
                    () = tip.closed() => return,
                };
                let Some(height) = height else { break };
                tip.send_if_modified(|known| {
                    let newer = height > known.0;
                    if newer {
                        *known = (height, Instant::now());
                    }
                    newer
                });
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = tip.closed() => return,
        }
    }
}

async fn fetch(
    nodes: Vec<NodeClient>,
    from: u64,
    mut tips: watch::Receiver<(u64, Instant)>,
    sender: mpsc::Sender<Seen>,
) {
    let mut height = from;
    let mut turn = 0usize;
    while !sender.is_closed() {
        if tips.borrow_and_update().0 < height {
            // Nothing heard: wait, but ask now and then in case the event stream is down.
            let _ = tokio::time::timeout(ASK_ANYWAY_AFTER, tips.changed()).await;
        }
        let node = &nodes[turn % nodes.len()];
        match node.certified_block(height).await {
            Ok(Some(block)) => {
                let (tip, since) = *tips.borrow();
                // Blocks below the tip are late already: count the wait, do not guess it away.
                let at = if tip == height { since } else { Instant::now() };
                if sender.send(Seen { block, at }).await.is_err() {
                    return;
                }
                height += 1;
            }
            Ok(None) if tips.borrow().0 < height => {}
            // Somebody has it, this one not yet.
            Ok(None) | Err(_) => {
                turn += 1;
                tokio::time::sleep(RETRY / 10).await;
            }
        }
    }
}
