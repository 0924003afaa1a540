//! The DeltaCache: what is known of the log's deltas without reading it.
//!
//! Every live key has an entry in the [`shard`] of its table that its hash selects: its newest version, older versions
//! that a snapshot may still see, and the placement that an export gave it. A version points into a delta's record;
//! [`record_store`] holds the records' images while they are warm and reads them back from the log when they are not.
//! [`pins`] knows which commit sequences readers hold, and with that which older versions can go.

pub(crate) mod pins;
pub(crate) mod record_store;
pub(crate) mod shard;
pub(crate) mod table;
