//! One node of the probe, height after height.

use super::disk::Log;
use super::keys::{Keys, Shares, seal_aside};
use super::links::{Heard, Links};
use super::wire::{Hop, Message, SHARE_BYTES};
use super::{Failure, ProbeArgs, Scheme};
use crate::figures::{WARM_UP, quantile_of};
use aequa_node::console;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Least bytes of a value: the height and the leader, so that none is like another.
const VALUE_BYTES_MIN: usize = 16;

/// Takes part until it is killed, and says what it measured when the time is over: who left then would be
/// missed by those that still measure.
pub fn run(args: &ProbeArgs) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut node = Node::open(args)?;
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        node.decide()?;
    }
    let (began, first, sent) = (Instant::now(), node.height, node.links.sent);
    let mut led = Vec::new();
    while began.elapsed() < Duration::from_secs(args.seconds) {
        let (leads, since) = (node.leads(), Instant::now());
        node.decide()?;
        if leads {
            led.push(since.elapsed().as_secs_f64() * 1e3);
        }
    }
    let (blocks, seconds) = ((node.height - first) as f64, began.elapsed().as_secs_f64());
    console::line(format!(
        "blocks/s={:.1} p50={:.3} p99={:.3} sent/block={:.0}",
        blocks / seconds,
        quantile_of(&mut led, 0.5).unwrap_or_default(),
        quantile_of(&mut led, 0.99).unwrap_or_default(),
        (node.links.sent - sent) as f64 / blocks.max(1.0),
    ));
    loop {
        node.decide()?;
    }
}

struct Node {
    me: usize,
    nodes: usize,
    value_bytes: usize,
    keys: Keys,
    log: Log,
    links: Links,
    seals: Option<mpsc::Sender<Shares>>,
    height: u64,
    /// Messages of heights above the current one.
    early: BTreeMap<u64, Vec<Heard>>,
}

/// Where a height stands.
#[derive(Default)]
struct Progress {
    digest: Option<[u8; 32]>,
    prepares: usize,
    shares: Vec<(usize, [u8; SHARE_BYTES])>,
}

impl Node {
    fn open(args: &ProbeArgs) -> Result<Self, Failure> {
        let (me, nodes) = (usize::from(args.me), usize::from(args.nodes));
        Ok(Self {
            me,
            nodes,
            value_bytes: args.bytes.max(VALUE_BYTES_MIN),
            keys: Keys::new(args.scheme, me, nodes)?,
            log: Log::create(&args.dir.join(format!("log.{me}")))?,
            seals: (args.scheme == Scheme::Sealed).then(|| seal_aside(nodes)).transpose()?,
            links: Links::open(args)?,
            height: 0,
            early: BTreeMap::new(),
        })
    }

    fn leads(&self) -> bool {
        self.leader() == self.me
    }

    fn leader(&self) -> usize {
        usize::try_from(self.height % self.nodes as u64).unwrap_or(0)
    }

    fn quorum(&self) -> usize {
        (2 * self.nodes).div_ceil(3)
    }

    /// One height, from the value to the quorum of COMMITs.
    fn decide(&mut self) -> Result<(), Failure> {
        let mut progress = Progress::default();
        if self.leads() {
            let value = self.value();
            let digest = Sha256::digest(&value).into();
            self.say(Hop::Preprepare, digest, value)?;
            self.prepare(digest, &mut progress)?;
        }
        let mut waiting = self.early.remove(&self.height).unwrap_or_default();
        loop {
            if let Some(digest) = progress.digest {
                self.commit(digest, &mut progress)?;
                if progress.shares.len() >= self.quorum() && progress.has_committed(self.me) {
                    self.seal(digest, progress.shares)?;
                    self.height += 1;
                    return Ok(());
                }
            }
            let (from, message) = match waiting.pop() {
                Some(heard) => heard,
                None => self.links.next()?,
            };
            self.take(from, message, &mut progress)?;
        }
    }

    fn take(&mut self, from: usize, message: Message, progress: &mut Progress) -> Result<(), Failure> {
        if message.height > self.height {
            self.early.entry(message.height).or_default().push((from, message));
            return Ok(());
        }
        let quorum = self.quorum();
        let is_wanted = message.height == self.height
            && match message.hop {
                Hop::Preprepare => progress.digest.is_none() && from == self.leader(),
                Hop::Prepare => progress.prepares < quorum,
                Hop::Commit => progress.shares.len() < quorum,
            };
        // What a quorum has already said is not checked again.
        if !is_wanted || !self.keys.holds(from, &message) {
            return Ok(());
        }
        match message.hop {
            Hop::Preprepare if Sha256::digest(&message.value)[..] == message.digest => {
                self.prepare(message.digest, progress)?;
            }
            Hop::Preprepare => return Err(Failure::from("the leader's digest is not that of its value")),
            Hop::Prepare => progress.prepares += 1,
            Hop::Commit => progress.shares.push((from, message.share)),
        }
        Ok(())
    }

    fn prepare(&mut self, digest: [u8; 32], progress: &mut Progress) -> Result<(), Failure> {
        progress.digest = Some(digest);
        progress.prepares += 1;
        self.say(Hop::Prepare, digest, Vec::new()).map(drop)
    }

    /// When a quorum is prepared, once.
    fn commit(&mut self, digest: [u8; 32], progress: &mut Progress) -> Result<(), Failure> {
        if progress.prepares >= self.quorum() && !progress.has_committed(self.me) {
            let share = self.say(Hop::Commit, digest, Vec::new())?;
            progress.shares.push((self.me, share));
        }
        Ok(())
    }

    fn seal(&self, digest: [u8; 32], of: Vec<(usize, [u8; SHARE_BYTES])>) -> Result<(), Failure> {
        match &self.seals {
            Some(seals) => seals.send(Shares { of, digest }).map_err(|_| Failure::from("no seals are made")),
            None => Ok(()),
        }
    }

    /// Signs it, makes it durable, and says it to everybody; the share that went with it.
    fn say(&mut self, hop: Hop, digest: [u8; 32], value: Vec<u8>) -> Result<[u8; SHARE_BYTES], Failure> {
        let signature = self.keys.sign(hop, self.height, &digest);
        let share = match hop {
            Hop::Commit => self.keys.share(&digest),
            Hop::Preprepare | Hop::Prepare => [0; SHARE_BYTES],
        };
        let bytes = Message { hop, height: self.height, digest, signature, share, value }.to_bytes();
        self.log.append(&bytes)?;
        self.links.broadcast(&bytes);
        Ok(share)
    }

    fn value(&self) -> Vec<u8> {
        let mut value = vec![0xae; self.value_bytes];
        value[..8].copy_from_slice(&self.height.to_le_bytes());
        value[8..16].copy_from_slice(&(self.me as u64).to_le_bytes());
        value
    }
}

impl Progress {
    fn has_committed(&self, me: usize) -> bool {
        self.shares.iter().any(|(from, _)| *from == me)
    }
}
