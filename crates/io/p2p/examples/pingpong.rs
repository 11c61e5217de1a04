//! Round trips of small frames between two members on loopback: `cargo run --example pingpong`.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use aequa_p2p::*;
use aequa_types::{ClusterId, OperatorIndex};
use futures::future::BoxFuture;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const RUN: Duration = Duration::from_secs(3);

struct Player {
    frames: mpsc::UnboundedSender<Message>,
    network: OnceLock<Network>,
    echoes: bool,
}

impl Handler for Player {
    fn frame(&self, from: OperatorIndex, topic: Topic, message: Message) -> BoxFuture<'_, Verdict> {
        match self.network.get() {
            Some(network) if self.echoes => network.send(from, topic, &message),
            _ => drop(self.frames.send(message)),
        }
        Box::pin(async { Verdict::Accept })
    }
    fn gossip(&self, _: OperatorIndex, _: Topic, _: Message) -> BoxFuture<'_, GossipVerdict> {
        Box::pin(async { GossipVerdict::Ignore })
    }
    fn request(&self, _: OperatorIndex, _: Message) -> BoxFuture<'_, Option<Message>> {
        Box::pin(async { None })
    }
    fn connected(&self, _: OperatorIndex) {
        drop(self.frames.send(Message::default()));
    }
    fn disconnected(&self, _: OperatorIndex) {}
}

#[tokio::main]
async fn main() {
    for (name, listen) in [("tcp", "/ip4/127.0.0.1/tcp/0"), ("quic", "/ip4/127.0.0.1/udp/0/quic-v1")] {
        play(name, listen).await;
    }
}

async fn play(name: &str, listen: &str) {
    let member = |i: u8, addrs| Member { operator: OperatorIndex(i), peer_id: peer_id_of([i; 32]), addrs };
    let config = |i: u8, addrs| {
        let members = vec![member(1, addrs), member(2, vec![])];
        let mut config = Config::new(&[i; 32], ClusterId::ZERO, OperatorIndex(i), members);
        config.listen = vec![listen.to_owned()];
        config
    };
    let (server, _server_frames) = player(config(1, vec![]), true);
    let (client, mut frames) = player(config(2, server.listen_addrs()), false);
    frames.recv().await.unwrap();

    let vote = Message::new(1, vec![0; 200]);
    for in_flight in [1, 64] {
        let (start, mut trips) = (Instant::now(), 0u64);
        for _ in 0..in_flight {
            client.send(OperatorIndex(1), Topic::Qbft, &vote);
        }
        while start.elapsed() < RUN {
            frames.recv().await.unwrap();
            client.send(OperatorIndex(1), Topic::Qbft, &vote);
            trips += 1;
        }
        for _ in 0..in_flight {
            frames.recv().await.unwrap();
        }
        println!("{name}, {in_flight} in flight: {:.0} round trips/s", trips as f64 / RUN.as_secs_f64());
    }
    client.shutdown().await;
    server.shutdown().await;
}

fn player(config: Config, echoes: bool) -> (Network, mpsc::UnboundedReceiver<Message>) {
    let (sender, frames) = mpsc::unbounded_channel();
    let player = Arc::new(Player { frames: sender, network: OnceLock::new(), echoes });
    let network = start(config, player.clone(), Arc::new(Unobserved)).unwrap();
    let _ = player.network.set(network.clone());
    (network, frames)
}
