//! The messages of a replication stream: the envelope of the streaming replication protocol and, within it, the
//! `pgoutput` plugin's messages (PostgreSQL documentation, 55.4 "Streaming Replication Protocol" and 55.9 "Logical
//! Replication Message Formats", protocol version 1).
//!
//! Any bytes decode to a message or to a [`Malformed`], never to a panic.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_postgres::types::PgLsn;

/// Bytes that are no message of the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} message: {reason}")]
pub(super) struct Malformed {
    what: String,
    reason: String,
}

/// What the server sends in a CopyData message of a replication stream.
#[derive(Debug)]
pub(super) enum Envelope {
    /// One message of the output plugin.
    Data(Bytes),
    /// How far the server has decoded, sent now and then.
    Keepalive {
        wal_end: PgLsn,
        reply_requested: bool,
    },
}

/// One message of the output plugin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Begin {
        final_lsn: PgLsn,
    },
    Commit {
        end_lsn: PgLsn,
    },
    Relation(Relation),
    Insert {
        relation_id: u32,
        new: Tuple,
    },
    Update {
        relation_id: u32,
        old: Option<OldTuple>,
        new: Tuple,
    },
    Delete {
        relation_id: u32,
        old: OldTuple,
    },
    Truncate {
        relation_ids: Vec<u32>,
    },
    /// A message that changes no row (type, origin, logical message).
    Other,
}

/// The shape of a table, sent before its first change and after each change of the shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) id: u32,
    pub(super) schema: String,
    pub(super) table: String,
    /// `d`efault, `n`othing, `f`ull or `i`ndex.
    pub(super) replica_identity: u8,
    pub(super) columns: Vec<RelationColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelationColumn {
    pub(super) is_key: bool,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) type_modifier: i32,
}

/// One value a column, in the order of [`Relation::columns`].
pub(super) type Tuple = Vec<Cell>;

/// What the server says about the row before a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OldTuple {
    /// Only the columns of the replica identity are filled.
    Key(Tuple),
    /// All columns are filled.
    Full(Tuple),
}

impl OldTuple {
    pub(super) fn tuple(&self) -> &Tuple {
        let (OldTuple::Key(tuple) | OldTuple::Full(tuple)) = self;
        tuple
    }
}

/// One value of a tuple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    /// A value stored out of line that the change left as it was; the server does not send it.
    Unchanged,
    Text(Bytes),
    Binary(Bytes),
}

impl Envelope {
    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new("replication", bytes);
        match reader.u8()? {
            b'w' => {
                // Start and end of the WAL that the message stems from, and the server's clock; with pgoutput the
                // positions in the message itself say more.
                reader.skip(24)?;
                Ok(Envelope::Data(reader.rest()))
            }
            b'k' => {
                let wal_end = reader.lsn()?;
                reader.skip(8)?;
                let reply_requested = reader.u8()? != 0;
                Ok(Envelope::Keepalive {
                    wal_end,
                    reply_requested,
                })
            }
            other => Err(reader.fail(format!("unknown kind {}", printable(other)))),
        }
    }
}

/// Encodes a standby status update: everything up to `received` was read, up to `durable` is safe and may be forgotten.
pub(super) fn encode_status_update(
    received: PgLsn,
    durable: PgLsn,
    clock_us: i64,
    request_reply: bool,
) -> Bytes {
    let mut body = BytesMut::with_capacity(34);
    body.put_u8(b'r');
    body.put_u64(received.into());
    body.put_u64(durable.into());
    body.put_u64(durable.into());
    body.put_i64(clock_us);
    body.put_u8(u8::from(request_reply));
    body.freeze()
}

impl Change {
    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new("pgoutput", bytes);
        let kind = reader.u8()?;
        reader.what = format!("pgoutput {}", printable(kind));
        let change = match kind {
            b'B' => {
                let final_lsn = reader.lsn()?;
                reader.skip(12)?;
                Change::Begin { final_lsn }
            }
            b'C' => {
                reader.skip(9)?;
                let end_lsn = reader.lsn()?;
                reader.skip(8)?;
                Change::Commit { end_lsn }
            }
            b'R' => Change::Relation(reader.relation()?),
            b'I' => {
                let relation_id = reader.u32()?;
                reader.expect(b'N')?;
                Change::Insert {
                    relation_id,
                    new: reader.tuple()?,
                }
            }
            b'U' => reader.update()?,
            b'D' => reader.delete()?,
            b'T' => {
                let count = reader.u32()?;
                reader.skip(1)?;
                let relation_ids = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
                Change::Truncate { relation_ids }
            }
            b'Y' | b'O' | b'M' => return Ok(Change::Other),
            _ => return Err(reader.fail("unknown kind".into())),
        };
        reader.finish()?;
        Ok(change)
    }
}

/// Takes fields off the front of a message.
struct Reader {
    what: String,
    bytes: Bytes,
}

impl Reader {
    fn new(what: &str, bytes: Bytes) -> Self {
        Self {
            what: what.to_owned(),
            bytes,
        }
    }

    fn fail(&self, reason: String) -> Malformed {
        Malformed {
            what: self.what.clone(),
            reason,
        }
    }

    fn short(&self) -> Malformed {
        self.fail("it ends too early".into())
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.bytes.try_get_u8().map_err(|_| self.short())
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.bytes.try_get_u16().map_err(|_| self.short())
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.bytes.try_get_u32().map_err(|_| self.short())
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.bytes.try_get_i32().map_err(|_| self.short())
    }

    fn lsn(&mut self) -> Result<PgLsn, Malformed> {
        self.bytes
            .try_get_u64()
            .map(PgLsn::from)
            .map_err(|_| self.short())
    }

    fn skip(&mut self, size_bytes: usize) -> Result<(), Malformed> {
        self.take(size_bytes).map(drop)
    }

    fn take(&mut self, size_bytes: usize) -> Result<Bytes, Malformed> {
        if self.bytes.len() < size_bytes {
            return Err(self.short());
        }
        Ok(self.bytes.split_to(size_bytes))
    }

    fn rest(self) -> Bytes {
        self.bytes
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let size_bytes = self
            .bytes
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(|| self.short())?;
        let text = self.take(size_bytes)?;
        self.skip(1)?;
        String::from_utf8(text.into()).map_err(|_| self.fail("a name is not UTF-8".into()))
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Malformed> {
        let marker = self.u8()?;
        self.expect_marker(marker, wanted)
    }

    fn expect_marker(&self, marker: u8, wanted: u8) -> Result<(), Malformed> {
        if marker == wanted {
            return Ok(());
        }
        Err(self.fail(format!(
            "{} where {} belongs",
            printable(marker),
            printable(wanted)
        )))
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let id = self.u32()?;
        let schema = self.text()?;
        let table = self.text()?;
        let replica_identity = self.u8()?;
        let count = self.u16()?;
        let columns = (0..count)
            .map(|_| {
                Ok(RelationColumn {
                    is_key: self.u8()? & 1 != 0,
                    name: self.text()?,
                    type_oid: self.u32()?,
                    type_modifier: self.i32()?,
                })
            })
            .collect::<Result<_, Malformed>>()?;
        Ok(Relation {
            id,
            schema,
            table,
            replica_identity,
            columns,
        })
    }

    fn update(&mut self) -> Result<Change, Malformed> {
        let relation_id = self.u32()?;
        let (old, marker) = match self.u8()? {
            b'K' => (Some(OldTuple::Key(self.tuple()?)), self.u8()?),
            b'O' => (Some(OldTuple::Full(self.tuple()?)), self.u8()?),
            marker => (None, marker),
        };
        self.expect_marker(marker, b'N')?;
        Ok(Change::Update {
            relation_id,
            old,
            new: self.tuple()?,
        })
    }

    fn delete(&mut self) -> Result<Change, Malformed> {
        let relation_id = self.u32()?;
        let old = match self.u8()? {
            b'K' => OldTuple::Key(self.tuple()?),
            b'O' => OldTuple::Full(self.tuple()?),
            other => return Err(self.fail(format!("unknown tuple kind {}", printable(other)))),
        };
        Ok(Change::Delete { relation_id, old })
    }

    fn tuple(&mut self) -> Result<Tuple, Malformed> {
        let count = self.u16()?;
        (0..count).map(|_| self.cell()).collect()
    }

    fn cell(&mut self) -> Result<Cell, Malformed> {
        Ok(match self.u8()? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b't' => Cell::Text(self.sized()?),
            b'b' => Cell::Binary(self.sized()?),
            other => return Err(self.fail(format!("unknown kind of value {}", printable(other)))),
        })
    }

    fn sized(&mut self) -> Result<Bytes, Malformed> {
        let size_bytes = self.u32()?;
        let size_bytes = usize::try_from(size_bytes).map_err(|_| self.short())?;
        self.take(size_bytes)
    }

    fn finish(&self) -> Result<(), Malformed> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(self.fail(format!("{} bytes too many", self.bytes.len())))
    }
}

fn printable(byte: u8) -> String {
    format!("'{}'", byte.escape_ascii())
}

#[cfg(test)]
mod tests;
