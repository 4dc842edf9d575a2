//! What columns an Arrow file says it has.

use super::flat::Table;

/// Columns, those within others included.
const MOST_COLUMNS: usize = 1000;

/// Columns within columns; a conversation has three.
const MOST_DEPTH: usize = 32;

/// The columns that a file says it has.
pub(super) struct Schema(pub(super) Vec<Field>);

/// A column.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) children: Vec<Field>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Null,
    /// Bytes of a number, and whether it may be negative.
    Whole(usize, bool),
    /// Bytes of a number.
    Real(usize),
    Truth,
    /// Whether places take eight bytes.
    Text(bool),
    List(bool),
    FixedList(usize),
    Group,
    Map,
    /// What no record of text needs: its buffers beside that of what is there, so that it can be passed over.
    Other(usize),
}

impl Schema {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, String> {
        if table.short(0) != 0 {
            return Err("its numbers are in the order of another kind of machine".to_owned());
        }
        let mut count = 0;
        let fields = table.tables(1).ok_or("its columns are damaged")?;
        let fields = fields.iter().map(|field| Field::read(field, 0, &mut count));
        Ok(Self(fields.collect::<Result<_, _>>()?))
    }
}

impl Field {
    fn read(table: &Table<'_>, depth: usize, count: &mut usize) -> Result<Self, String> {
        *count += 1;
        if *count > MOST_COLUMNS || depth > MOST_DEPTH {
            return Err(format!(
                "it has more than {MOST_COLUMNS} columns, or more than {MOST_DEPTH} within each other"
            ));
        }
        let name = table.text(0).unwrap_or("").to_owned();
        let refused = |what: &str| format!("the column `{name}` is {what}");
        if table.table(4).is_some() {
            return Err(refused("a dictionary"));
        }
        let more = table.table(3);
        let whole = |field| more.map_or(0, |more| more.whole(field));
        let kind = match table.byte(2) {
            1 => Kind::Null,
            2 => match (whole(0), more.map_or(0, |more| more.byte(1))) {
                (bits @ (8 | 16 | 32 | 64), signed) => Kind::Whole(bits as usize / 8, signed != 0),
                _ => return Err("its columns are damaged".to_owned()),
            },
            3 => match more.map_or(0, |more| more.short(0)) {
                0 => Kind::Real(2),
                1 => Kind::Real(4),
                2 => Kind::Real(8),
                _ => return Err("its columns are damaged".to_owned()),
            },
            5 => Kind::Text(false),
            20 => Kind::Text(true),
            6 => Kind::Truth,
            // Bytes, decimals, days and times.
            4 | 19 => Kind::Other(2),
            7..=11 | 15 | 18 => Kind::Other(1),
            12 => Kind::List(false),
            21 => Kind::List(true),
            13 => Kind::Group,
            16 => match usize::try_from(whole(0)) {
                Ok(size) => Kind::FixedList(size),
                Err(_) => return Err("its columns are damaged".to_owned()),
            },
            17 => Kind::Map,
            _ => return Err(refused("of a kind that is not read")),
        };
        let children = table.tables(5).ok_or("its columns are damaged")?;
        let children = children
            .iter()
            .map(|child| Self::read(child, depth + 1, count));
        let children: Vec<Self> = children.collect::<Result<_, _>>()?;
        let wanted = match kind {
            Kind::List(_) | Kind::FixedList(_) | Kind::Map => children.len() == 1,
            Kind::Group => true,
            _ => children.is_empty(),
        };
        let pair = kind != Kind::Map || children.first().is_some_and(|c| c.children.len() == 2);
        if !wanted || !pair {
            return Err("its columns are damaged".to_owned());
        }
        Ok(Self {
            name,
            kind,
            children,
        })
    }
}
