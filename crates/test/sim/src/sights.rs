//! What a campaign must have seen at least once. A campaign that never reaches one of these tests
//! less than it says.

use std::collections::BTreeMap;

/// How often something happened, by name.
pub type Counts = BTreeMap<&'static str, u64>;

macro_rules! sights {
    ($($name:ident = $text:literal,)*) => {
        $(pub(crate) const $name: &str = $text;)*
        /// Every situation a campaign counts.
        pub const SIGHTS: &[&str] = &[$($text),*];
    };
}

sights! {
    ROUND_CHANGE_PREPARED = "round change with a prepared value",
    PREPARED_REPROPOSED = "prepared value proposed again",
    WEAK_QUORUM_JUMP = "round entered because f+1 were ahead",
    PROPOSAL_JUMP = "round entered through a justified proposal",
    NEXT_MOMENT = "block that carries the millisecond after its parent",
    LATE_ROUND = "block decided in round 2 or later",
    DECIDED_CATCH_UP = "decision taken over from a DECIDED",
    REPAIRED = "operator whose block store was set aside took part again",
    STATE_TAKEN = "state taken over as a whole",
    FETCH_CATCH_UP = "block fetched from a peer",
    COMMIT_AFTER_DECISION = "commit sent for its seal after the decision",
    VALUE_ASKED = "value asked for by digest",
    VALUE_GIVEN = "value handed to a peer",
    TOGETHER = "votes taken together when they make a quorum",
    ALONE = "vote taken alone when it was overdue",
    ASIDE_NEEDED = "vote set aside and needed all the same",
    ASIDE_UNNEEDED = "vote set aside and never checked",
    TORN_TAIL = "torn end of the vote log cut off",
    TORN_MARK = "torn slot of the signing database passed over",
    MARK_ALONE = "vote known by the signing database alone",
    GATE_REFUSED = "signature refused where something was signed before",
    LOG_PRUNED = "segment of the vote log dropped",
    ABSTAINED = "operator without memory asked, abstained and took part again",
    TWIN_RETURNED = "restarted twin asked and took part again",
    COPY_NOTICED = "old copy of a directory noticed through a member's answer",
    FENCED = "wrong state noticed and set aside",
    QUORUM_ALONE = "progress of a bare quorum with all others frozen",
    TORN_LOST = "unsynced records lost in a crash",
    TORN_KEPT = "part of the unsynced records kept in a crash",
    STORE_LOST = "unflushed blocks lost in a crash",
    FINISHED_AFTER_RESTART = "decision of the log executed after a restart",
    PROPOSAL_RESENT = "own proposal sent again after a restart",
    VOTE_RESENT = "own vote sent again after a restart",
    SEALED = "group seal made",
    SHARE_BLAMED = "seal share blamed",
    SESSION_WAITED = "signing session waited for a place",
    CONTRADICTION = "contradiction of a traitor noticed",
    EVIDENCE_COMMITTED = "evidence committed",
    TX_REPLACED = "transaction replaced by a better one",
    TX_PROMOTED = "future transaction became pending",
    TX_INCLUDED = "transaction included in a block",
    ROUND_PASSED = "round that its leader let pass, its clock being wrong",
    DUTY_DECIDED = "duty decided",
    DUTY_SEALED = "seal of a decided duty stored",
    DUTY_RECALLED = "closed duty shown to a straggler",
    BATCHED = "several inputs taken in one turn",
}

/// Kinds of fault, as counted in reports.
pub(crate) mod fault {
    pub(crate) const DROPPED: &str = "message dropped";
    pub(crate) const DUPLICATED: &str = "message duplicated";
    pub(crate) const BLOCKED: &str = "message into a partition";
    pub(crate) const CLOCKS_STEPPED: &str = "clocks set";
    pub(crate) const PARTITION: &str = "partition";
    pub(crate) const ONE_WAY: &str = "one-way partition";
    pub(crate) const CRASH_IDLE: &str = "crash between turns";
    pub(crate) const SLOW: &str = "message slowed down";
    pub(crate) const REPLAYED: &str = "old message comes again";
    pub(crate) const KILLED: &str = "process killed";
    pub(crate) const POWER_CUT: &str = "power cut";
    pub(crate) const CRASH_IN_DISK: &str = "crash in or between calls to the disk";
    pub(crate) const CRASH_RECOVERING: &str = "crash while recovering";
    pub(crate) const DISK_ERROR: &str = "call to the disk failed";
    pub(crate) const DIRECTORY_LOST: &str = "log and signing database lost";
    pub(crate) const STORE_DAMAGED: &str = "block store set aside";
    pub(crate) const LOG_ROTTEN: &str = "end of the log rotten";
    pub(crate) const STATE_SPOILED: &str = "stored state changed";
    pub(crate) const CRASH_MANY: &str = "many nodes taken down at once";
    pub(crate) const COPY_RESTORED: &str = "old copy of a directory restored";
    pub(crate) const FROZEN: &str = "node frozen for good";
    pub(crate) const CRASH_TORN: &str = "crash before the sync";
    pub(crate) const CRASH_READING: &str = "read of the state that fails";
    pub(crate) const CRASH_SYNCED: &str = "crash between sync and sends";
    pub(crate) const CRASH_SENDING: &str = "crash while sending";
    pub(crate) const CRASH_STORING: &str = "crash while storing";
    pub(crate) const FETCH_FAILED: &str = "fetch failed";
    pub(crate) const TWINS: &str = "twins";
    pub(crate) const EQUIVOCATION: &str = "traitor: two proposals";
    pub(crate) const DOUBLE_VOTE: &str = "traitor: two votes";
    pub(crate) const USURPATION: &str = "traitor: proposal without right or justification";
    pub(crate) const MUTANT: &str = "traitor: message altered and signed again";
    pub(crate) const AMNESIA: &str = "traitor: restart without memory";
    pub(crate) const WITHHELD: &str = "traitor: message withheld";
    pub(crate) const LIE: &str = "traitor: lie about prepared rounds";
    pub(crate) const BAD_SEAL: &str = "traitor: bad seal share";
    pub(crate) const PREMATURE: &str = "traitor: commit without prepares";
    pub(crate) const REPLAY: &str = "traitor: old message replayed";
    pub(crate) const FALSE_TESTIMONY: &str = "traitor: testimony withheld";
    pub(crate) const FALSE_HEIGHT: &str = "traitor: false height";
    pub(crate) const REFUSED: &str = "message refused by the verifier";
}
