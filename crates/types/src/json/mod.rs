//! JSON forms of transactions, blocks and certificates.
