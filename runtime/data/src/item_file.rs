//! Examples as a file.
//!
//! ```text
//! FERRYTOK  version, one byte  digest of what they are made of, 32 bytes
//! count, items to train on      count, items to evaluate on
//! count, parts: length, name, count                       of the datasets that are evaluated by themselves
//! length, JSON                  records left out
//! SHA-256 of all before, 32 bytes
//!
//! item      0 row | 1 row row | 2 row row 0/1             single, pair, judged
//! row       count, ids of 4 bytes each, runs of labels: ignored, learnt, ignored, …  0 | 1 segments positions
//! ```
//!
//! Counts and lengths are numbers in seven bits a byte, least first. A label is its id or ignored, so only the lengths of
//! the runs are there.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::batch::IGNORED;
use crate::dropped::{Dropped, Fault, Origin};
use crate::example::{Example, Item, Packed};
use crate::prepare::Prepared;

const MAGIC: &[u8; 8] = b"FERRYTOK";

/// Raised whenever the form changes.
const VERSION: u8 = 1;

/// A record left out.
#[derive(Deserialize, Serialize)]
struct Left {
    path: PathBuf,
    record: usize,
    fault: Fault,
}

/// Writes `prepared` with the digest of what it is made of.
pub(crate) fn write(file: impl Write, key: &[u8; 32], prepared: &Prepared) -> io::Result<()> {
    let mut out = Out {
        inner: BufWriter::with_capacity(1 << 20, file),
        hash: Sha256::new(),
    };
    out.bytes(MAGIC)?;
    out.bytes(&[VERSION])?;
    out.bytes(key)?;
    for items in [&prepared.items, &prepared.eval_items] {
        out.count(items.len())?;
        for item in items {
            out.item(item)?;
        }
    }
    out.count(prepared.eval_parts.len())?;
    for (name, count) in &prepared.eval_parts {
        out.count(name.len())?;
        out.bytes(name.as_bytes())?;
        out.count(*count)?;
    }
    let left = prepared.dropped.iter().map(|dropped| Left {
        path: dropped.origin.path.to_path_buf(),
        record: dropped.origin.record,
        fault: dropped.fault.clone(),
    });
    let left = serde_json::to_vec(&left.collect::<Vec<_>>())?;
    out.count(left.len())?;
    out.bytes(&left)?;
    let digest = out.hash.finalize();
    out.inner.write_all(&digest)?;
    out.inner.flush()
}

struct Out<W: Write> {
    inner: BufWriter<W>,
    hash: Sha256,
}

impl<W: Write> Out<W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }

    fn count(&mut self, number: usize) -> io::Result<()> {
        let (mut rest, mut bytes) = (number as u64, Vec::with_capacity(10));
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        self.bytes(&bytes)
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Single(example) => {
                self.bytes(&[0])?;
                self.row(example)
            }
            Item::Pair { chosen, rejected } => {
                self.bytes(&[1])?;
                self.row(chosen)?;
                self.row(rejected)
            }
            Item::Judged {
                example,
                mismatched,
                desirable,
            } => {
                self.bytes(&[2])?;
                self.row(example)?;
                self.row(mismatched)?;
                self.bytes(&[u8::from(*desirable)])
            }
        }
    }

    fn row(&mut self, row: &Example) -> io::Result<()> {
        self.count(row.input_ids.len())?;
        let ids: Vec<u8> = row
            .input_ids
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect();
        self.bytes(&ids)?;
        let (mut run, mut learnt) = (0, false);
        for (id, label) in row.input_ids.iter().zip(&row.labels) {
            if *label != IGNORED && *label != i64::from(*id) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if (*label != IGNORED) != learnt {
                self.count(run)?;
                (run, learnt) = (0, !learnt);
            }
            run += 1;
        }
        self.count(run)?;
        let Some(packed) = &row.packed else {
            return self.bytes(&[0]);
        };
        self.bytes(&[1])?;
        for number in packed.segments.iter().chain(&packed.positions) {
            self.count(*number as usize)?;
        }
        Ok(())
    }
}

/// Reads what [`write`] wrote: the digest of what it is made of, and the examples; none: it is damaged or of another version.
pub(crate) fn read(bytes: &[u8]) -> Option<([u8; 32], Prepared)> {
    let (content, digest) = bytes.split_last_chunk::<32>()?;
    let rest = content.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
    if Sha256::digest(content).as_slice() != digest.as_slice() {
        return None;
    }
    let (key, rest) = rest.split_first_chunk::<32>()?;
    let mut from = In { rest };
    let mut prepared = Prepared {
        items: from.items()?,
        eval_items: from.items()?,
        ..Prepared::default()
    };
    for _ in 0..from.count()? {
        let length = from.count()?;
        let name = String::from_utf8(from.bytes(length)?.to_vec()).ok()?;
        prepared.eval_parts.push((name, from.count()?));
    }
    let length = from.count()?;
    let left: Vec<Left> = serde_json::from_slice(from.bytes(length)?).ok()?;
    let dropped = left.into_iter().map(|left| Dropped {
        origin: Origin {
            path: left.path.into(),
            record: left.record,
        },
        fault: left.fault,
    });
    prepared.dropped = dropped.collect();
    from.rest.is_empty().then_some((*key, prepared))
}

struct In<'a> {
    rest: &'a [u8],
}

impl<'a> In<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn count(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(number).ok();
            }
        }
        None
    }

    fn items(&mut self) -> Option<Vec<Item>> {
        let count = self.count()?;
        // An item takes three bytes at least.
        let mut items = Vec::with_capacity(count.min(self.rest.len() / 3));
        for _ in 0..count {
            items.push(match self.byte()? {
                0 => Item::Single(self.row()?),
                1 => Item::Pair {
                    chosen: self.row()?,
                    rejected: self.row()?,
                },
                2 => Item::Judged {
                    example: self.row()?,
                    mismatched: self.row()?,
                    desirable: self.byte()? == 1,
                },
                _ => return None,
            });
        }
        Some(items)
    }

    fn row(&mut self) -> Option<Example> {
        let count = self.count()?;
        let ids = self.bytes(count.checked_mul(4)?)?.chunks_exact(4);
        let ids: Vec<u32> = ids
            .filter_map(|id| Some(u32::from_le_bytes(id.try_into().ok()?)))
            .collect();
        let mut labels = Vec::with_capacity(count);
        let mut learnt = false;
        loop {
            let run = self.count()?;
            let run = ids.get(labels.len()..labels.len().checked_add(run)?)?;
            labels.extend(
                run.iter()
                    .map(|id| if learnt { i64::from(*id) } else { IGNORED }),
            );
            if labels.len() == count {
                break;
            }
            learnt = !learnt;
        }
        let packed = match self.byte()? {
            0 => None,
            1 => Some(Packed {
                segments: self.numbers(count)?,
                positions: self.numbers(count)?,
            }),
            _ => return None,
        };
        Some(Example {
            input_ids: ids,
            labels,
            packed,
        })
    }

    fn numbers(&mut self, count: usize) -> Option<Vec<i64>> {
        (0..count)
            .map(|_| i64::try_from(self.count()?).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = Example> {
        let tokens = prop::collection::vec((any::<u32>(), any::<bool>()), 0..20);
        (tokens, any::<bool>()).prop_map(|(tokens, packed)| Example {
            input_ids: tokens.iter().map(|(id, _)| *id).collect(),
            labels: tokens
                .iter()
                .map(|(id, learnt)| if *learnt { i64::from(*id) } else { IGNORED })
                .collect(),
            packed: packed.then(|| Packed {
                segments: vec![3; tokens.len()],
                positions: (0..tokens.len() as i64).map(|at| at * 1000).collect(),
            }),
        })
    }

    fn item() -> impl Strategy<Value = Item> {
        prop_oneof![
            row().prop_map(Item::Single),
            (row(), row()).prop_map(|(chosen, rejected)| Item::Pair { chosen, rejected }),
            (row(), row(), any::<bool>()).prop_map(|(example, mismatched, desirable)| {
                Item::Judged {
                    example,
                    mismatched,
                    desirable,
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(items in prop::collection::vec(item(), 0..8), eval in prop::collection::vec(item(), 0..3)) {
            let prepared = Prepared {
                eval_parts: vec![("一".to_owned(), eval.len())],
                dropped: vec![Dropped {
                    origin: Origin { path: Path::new("a/d.json").into(), record: 3 },
                    fault: Fault::TooLong { tokens: 9, limit: 8 },
                }],
                items,
                eval_items: eval,
            };
            let mut bytes = Vec::new();
            write(&mut bytes, &[5; 32], &prepared).unwrap();
            prop_assert_eq!(read(&bytes), Some(([5; 32], prepared)));
        }

        #[test]
        fn foreign_bytes_are_no_examples(content in prop::collection::vec(any::<u8>(), 0..200)) {
            // With a digest that fits, so that all of it is looked at.
            let mut bytes = [&MAGIC[..], &[VERSION], &[5; 32], &content].concat();
            bytes.extend(Sha256::digest(&bytes));
            let _judged = read(&bytes);
        }
    }
}
