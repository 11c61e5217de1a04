//! Whole ceremonies under one die: a network that loses, repeats, delays and reorders, crashes at every write, and
//! operators that lie. Oracles are written anew, from what left the nodes and what they ended with.

mod byzantine;
mod oracles;
mod resharing;
mod scenarios;
mod transcripts;
mod world;
