//! Tables as `FlatBuffers` lay them out, read where they lie. Nothing of what a table says is trusted: what points outside of
//! the bytes is not there.
//!
//! ```text
//! table:   i32 how far before it its fields' places stand;  places: u16 their bytes, u16 the table's, u16 each (0: not there)
//! text, list, table in a field: u32 how far behind the field;  list: u32 count, elements;  text: a list of bytes
//! ```

/// A table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    /// The outermost table.
    pub(super) fn root(bytes: &'a [u8]) -> Option<Self> {
        let at = u32::from_le_bytes(array(bytes, 0)?) as usize;
        (at + 4 <= bytes.len()).then_some(Self { bytes, at })
    }

    /// Where a field lies.
    fn place(&self, field: usize) -> Option<usize> {
        let back = i64::from(i32::from_le_bytes(array(self.bytes, self.at)?));
        let places = usize::try_from(i64::try_from(self.at).ok()? - back).ok()?;
        let length = usize::from(u16::from_le_bytes(array(self.bytes, places)?));
        let entry = 4 + 2 * field;
        if entry + 2 > length {
            return None;
        }
        match u16::from_le_bytes(array(self.bytes, places.checked_add(entry)?)?) {
            0 => None,
            place => Some(self.at + usize::from(place)),
        }
    }

    /// A number of one byte; zero where it is not there.
    pub(super) fn byte(&self, field: usize) -> u8 {
        let place = self.place(field);
        place
            .and_then(|at| self.bytes.get(at))
            .copied()
            .unwrap_or(0)
    }

    /// A number of two bytes.
    pub(super) fn short(&self, field: usize) -> i16 {
        let bytes = self.place(field).and_then(|at| array(self.bytes, at));
        bytes.map_or(0, i16::from_le_bytes)
    }

    /// A number of four bytes.
    pub(super) fn whole(&self, field: usize) -> i32 {
        let bytes = self.place(field).and_then(|at| array(self.bytes, at));
        bytes.map_or(0, i32::from_le_bytes)
    }

    /// A number of eight bytes.
    pub(super) fn long(&self, field: usize) -> i64 {
        let bytes = self.place(field).and_then(|at| array(self.bytes, at));
        bytes.map_or(0, i64::from_le_bytes)
    }

    fn follow(&self, at: usize) -> Option<usize> {
        let forth = u32::from_le_bytes(array(self.bytes, at)?) as usize;
        at.checked_add(forth)
    }

    /// A table in a field.
    pub(super) fn table(&self, field: usize) -> Option<Self> {
        let at = self.follow(self.place(field)?)?;
        (at + 4 <= self.bytes.len()).then_some(Self { at, ..*self })
    }

    /// A list's elements of `width` bytes each.
    fn list(&self, field: usize, width: usize) -> Option<(usize, &'a [u8])> {
        let at = self.follow(self.place(field)?)?;
        let count = u32::from_le_bytes(array(self.bytes, at)?) as usize;
        let end = (at + 4).checked_add(count.checked_mul(width)?)?;
        Some((at + 4, self.bytes.get(at + 4..end)?))
    }

    /// A text.
    pub(super) fn text(&self, field: usize) -> Option<&'a str> {
        let (_, bytes) = self.list(field, 1)?;
        std::str::from_utf8(bytes).ok()
    }

    /// A list of tables; none where one of them is not there.
    pub(super) fn tables(&self, field: usize) -> Option<Vec<Self>> {
        if self.place(field).is_none() {
            return Some(Vec::new());
        }
        let (start, bytes) = self.list(field, 4)?;
        let each = (0..bytes.len() / 4).map(|index| {
            let at = self.follow(start + 4 * index)?;
            (at + 4 <= self.bytes.len()).then_some(Self { at, ..*self })
        });
        each.collect()
    }

    /// A list of pairs of numbers of eight bytes.
    pub(super) fn pairs(&self, field: usize) -> Option<Vec<(i64, i64)>> {
        if self.place(field).is_none() {
            return Some(Vec::new());
        }
        let (_, bytes) = self.list(field, 16)?;
        let pairs = bytes.chunks_exact(16).map(|pair| {
            let number = |at| array(pair, at).map_or(0, i64::from_le_bytes);
            (number(0), number(8))
        });
        Some(pairs.collect())
    }
}

/// Some bytes at a place.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_points_outside_is_not_there() {
        assert!(Table::root(&[]).is_none());
        assert!(Table::root(&[9, 0, 0, 0, 0, 0, 0, 0]).is_none());
        // A table at 8 whose fields' places stand at 4: one field of four bytes at its place 4.
        let bytes = [8, 0, 0, 0, 6, 0, 8, 0, 4, 0, 0, 0, 7, 0, 0, 0];
        let table = Table::root(&bytes).unwrap();
        assert_eq!((table.whole(0), table.long(1)), (7, 0));
        for at in 0..bytes.len() {
            let mut lying = bytes;
            lying[at] = 0xff;
            if let Some(table) = Table::root(&lying) {
                let _ = (
                    table.whole(0),
                    table.long(3),
                    table.text(0),
                    table.tables(0),
                );
                let _ = (
                    table.table(0).is_some(),
                    table.pairs(0),
                    table.byte(1),
                    table.short(0),
                );
            }
        }
    }
}
