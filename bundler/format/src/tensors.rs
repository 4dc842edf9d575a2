//! Which bytes of a safetensors file are numbers of a kind that planes make smaller.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::planes::Numbers;

/// Kinds of numbers that are stored in planes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Squeeze {
    /// 16-bit brain floats.
    pub bf16: bool,
    /// 16-bit floats.
    pub fp16: bool,
    /// 32-bit floats.
    pub fp32: bool,
}

impl Squeeze {
    /// All kinds.
    pub const ALL: Self = Self {
        bf16: true,
        fp16: true,
        fp32: true,
    };

    /// Whether any kind is stored in planes.
    pub fn any(self) -> bool {
        self.bf16 || self.fp16 || self.fp32
    }

    fn width(self, kind: &str) -> Option<u8> {
        match kind {
            "BF16" if self.bf16 => Some(2),
            "F16" if self.fp16 => Some(2),
            "F32" if self.fp32 => Some(4),
            _ => None,
        }
    }
}

/// Longest header that is read. That of the largest models has some 10 MB.
const LONGEST_HEADER: u64 = 32 << 20;

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Tensor {
        dtype: String,
        data_offsets: (u64, u64),
    },
    Metadata(IgnoredAny),
}

/// Where a file has numbers of the kinds in `squeeze`, in the order of the file. Empty for anything else than a sound
/// safetensors file: whatever this says, a blob comes out as it went in.
pub(crate) fn numbers_of(file: &File, size: u64, squeeze: Squeeze) -> Vec<Numbers> {
    let mut length = [0; 8];
    if file.read_exact_at(&mut length, 0).is_err() {
        return Vec::new();
    }
    let length = u64::from_le_bytes(length);
    let data = length.saturating_add(8);
    if length > LONGEST_HEADER || data > size {
        return Vec::new();
    }
    let mut header = vec![0; length as usize];
    if file.read_exact_at(&mut header, 8).is_err() {
        return Vec::new();
    }
    let Ok(entries) = serde_json::from_slice::<BTreeMap<String, Entry>>(&header) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.into_values() {
        let Entry::Tensor {
            dtype,
            data_offsets: (start, end),
        } = entry
        else {
            continue;
        };
        let place = (data.checked_add(start), data.checked_add(end));
        let (Some(start), Some(end)) = place else {
            return Vec::new();
        };
        if start > end || end > size {
            return Vec::new();
        }
        if let Some(width) = squeeze.width(&dtype).filter(|_| end > start) {
            found.push(Numbers { start, end, width });
        }
    }
    found.sort_by_key(|numbers| numbers.start);
    if found.windows(2).any(|pair| pair[1].start < pair[0].end) {
        return Vec::new();
    }
    found.dedup_by(|next, last| {
        let joined = next.width == last.width
            && next.start == last.end
            && (last.end - last.start) % u64::from(last.width) == 0;
        if joined {
            last.end = next.end;
        }
        joined
    });
    found
}
