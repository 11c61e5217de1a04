//! Sockets of a node of the probe: one to everybody for what it says, one from everybody for what it hears.

use super::wire::Message;
use super::{Failure, ProbeArgs};
use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

/// Bytes a reader takes from its socket at once.
const READ_BYTES: usize = 64 << 10;
/// Pause before somebody who does not listen yet is called again.
const RETRY: Duration = Duration::from_millis(20);
/// Longest wait for a message: a cluster that says nothing for so long stands still.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A message, and the number of who said it.
pub(super) type Heard = (usize, Message);

/// The sockets.
pub(super) struct Links {
    to: Vec<TcpStream>,
    heard: mpsc::Receiver<Heard>,
    /// Bytes said so far, to all.
    pub sent: u64,
}

impl Links {
    /// Listens, calls everybody, and waits until everybody has called.
    pub fn open(args: &ProbeArgs) -> Result<Self, Failure> {
        let others = usize::from(args.nodes) - 1;
        let listener = TcpListener::bind(("127.0.0.1", args.port + u16::from(args.me)))?;
        let (sender, heard) = mpsc::channel();
        let accepting = std::thread::spawn(move || accept(&listener, others, &sender));
        let everybody = (0..args.nodes).filter(|node| *node != args.me);
        let to = everybody.map(|node| call(args.me, args.dial_port + u16::from(node))).collect();
        accepting.join().map_err(|_| Failure::from("the listener ended"))??;
        Ok(Self { to, heard, sent: 0 })
    }

    /// Says it to everybody. Who has gone is not missed as long as a quorum is there.
    pub fn broadcast(&mut self, bytes: &[u8]) {
        for link in &mut self.to {
            if link.write_all(bytes).is_ok() {
                self.sent += bytes.len() as u64;
            }
        }
    }

    /// The next message.
    pub fn next(&self) -> Result<Heard, Failure> {
        self.heard.recv_timeout(SILENCE_MAX).map_err(|_| Failure::from("nobody says anything any more"))
    }
}

fn call(me: u8, port: u16) -> TcpStream {
    loop {
        let introduced = TcpStream::connect(("127.0.0.1", port)).and_then(|mut link| {
            link.set_nodelay(true)?;
            link.write_all(&[me])?;
            Ok(link)
        });
        match introduced {
            Ok(link) => return link,
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

fn accept(listener: &TcpListener, others: usize, sender: &mpsc::Sender<Heard>) -> Result<(), Failure> {
    for _ in 0..others {
        let (link, _) = listener.accept()?;
        link.set_nodelay(true)?;
        let mut input = BufReader::with_capacity(READ_BYTES, link);
        let mut from = [0];
        input.read_exact(&mut from)?;
        let (sender, from) = (sender.clone(), usize::from(from[0]));
        std::thread::spawn(move || {
            while let Ok(message) = Message::read(&mut input) {
                if sender.send((from, message)).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
