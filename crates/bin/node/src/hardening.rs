//! What a process that holds keys does before anything else.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// No memory of this process is written to a disk when it crashes, and no other process of its user reads it.
/// Where the system refuses, it goes on: neither is ever needed to be safe from other users.
pub fn keep_memory_private() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Whatever this process makes from now on is its owner's alone, also where a library makes it.
pub fn keep_files_private() {
    umask(Mode::RWXG | Mode::RWXO);
}
