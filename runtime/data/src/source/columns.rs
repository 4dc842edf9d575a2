//! The columns of an Arrow batch, and the records in them.

use std::path::Path;

use serde_json::{Map, Number, Value};

use super::MOST_BYTES;
use super::flat::array;
use super::schema::{Field, Kind, Schema};
use crate::error::DataError;

/// What a value takes in memory beside its text.
const VALUE_BYTES: usize = 32;

/// Rows of a batch that are worth no byte, such as those of a column that is empty everywhere.
const MOST_EMPTY: usize = 1 << 16;

/// Where something lies in a batch's body.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    length: usize,
}

/// A column of a batch.
pub(super) struct Column {
    name: String,
    kind: Kind,
    length: usize,
    /// A bit for each value that is there; empty: all are.
    there: Span,
    places: Span,
    data: Span,
    children: Vec<Column>,
}

/// A batch of rows.
pub(super) struct Batch {
    rows: usize,
    columns: Vec<Column>,
    body: Vec<u8>,
}

/// Why a record cannot be read.
pub(super) enum Fault {
    Damaged,
    NotText(String),
    TooLarge,
}

impl Fault {
    pub(super) fn at(self, path: &Path, record: usize) -> DataError {
        match self {
            Self::Damaged => DataError::Arrow {
                path: path.to_owned(),
                reason: format!("record {record}: it is damaged"),
            },
            Self::NotText(column) => DataError::Shape {
                path: path.to_owned(),
                place: format!("record {record}, column {column}"),
                expected: "UTF-8 text, numbers, lists or groups".to_owned(),
                found: "bytes".to_owned(),
            },
            Self::TooLarge => DataError::RecordTooLarge {
                path: path.to_owned(),
                record,
                most: MOST_BYTES >> 20,
            },
        }
    }
}

/// What is left of a batch's description while its columns are read.
struct Rest<'a> {
    nodes: std::slice::Iter<'a, (i64, i64)>,
    buffers: std::slice::Iter<'a, (i64, i64)>,
    body: usize,
}

impl Rest<'_> {
    /// The next buffer, which must lie in the body and have `least` bytes.
    fn buffer(&mut self, least: usize) -> Option<Span> {
        let (start, length) = self.buffers.next()?;
        let (start, length) = (
            usize::try_from(*start).ok()?,
            usize::try_from(*length).ok()?,
        );
        let inside = start.checked_add(length)? <= self.body;
        (inside && length >= least).then_some(Span { start, length })
    }
}

impl Column {
    /// The columns of a batch; none: they are not all there.
    pub(super) fn read_all(
        schema: &Schema,
        nodes: &[(i64, i64)],
        buffers: &[(i64, i64)],
        body: &[u8],
        rows: usize,
    ) -> Option<Vec<Self>> {
        let mut rest = Rest {
            nodes: nodes.iter(),
            buffers: buffers.iter(),
            body: body.len(),
        };
        if schema.0.is_empty() && rows > MOST_EMPTY {
            return None;
        }
        let each = schema.0.iter().map(|field| {
            let column = Self::read(field, &mut rest)?;
            (column.length == rows).then_some(column)
        });
        each.collect()
    }

    fn read(field: &Field, rest: &mut Rest<'_>) -> Option<Self> {
        let (length, absent) = rest.nodes.next()?;
        let length = usize::try_from(*length).ok()?;
        // A value takes a bit at least, but for those that are nowhere there.
        if length > (rest.body * 8).max(MOST_EMPTY) {
            return None;
        }
        let mut column = Self {
            name: field.name.clone(),
            kind: field.kind,
            length,
            there: Span::default(),
            places: Span::default(),
            data: Span::default(),
            children: Vec::new(),
        };
        if field.kind == Kind::Null {
            return Some(column);
        }
        column.there = rest.buffer(0)?;
        let bits = length.div_ceil(8);
        if *absent != 0 && column.there.length < bits {
            return None;
        }
        if column.there.length < bits {
            column.there = Span::default();
        }
        // A list without values may have no places at all.
        let places = |wide: bool| match length {
            0 => Some(0),
            _ => (length + 1).checked_mul(if wide { 8 } else { 4 }),
        };
        match field.kind {
            Kind::Null | Kind::Group | Kind::FixedList(_) => {}
            Kind::Whole(width, _) | Kind::Real(width) => {
                column.data = rest.buffer(length.checked_mul(width)?)?;
            }
            Kind::Truth => column.data = rest.buffer(bits)?,
            Kind::Text(wide) => {
                column.places = rest.buffer(places(wide)?)?;
                column.data = rest.buffer(0)?;
            }
            Kind::List(wide) => column.places = rest.buffer(places(wide)?)?,
            Kind::Map => column.places = rest.buffer(places(false)?)?,
            Kind::Other(buffers) => {
                for _ in 0..buffers {
                    rest.buffer(0)?;
                }
            }
        }
        for child in &field.children {
            column.children.push(Self::read(child, rest)?);
        }
        let enough = match field.kind {
            Kind::Group => column.children.iter().all(|child| child.length >= length),
            Kind::FixedList(size) => column.children[0].length >= length.checked_mul(size)?,
            Kind::Map => {
                let entries = &column.children[0];
                entries.kind == Kind::Group && entries.children.len() == 2
            }
            _ => true,
        };
        enough.then_some(column)
    }

    /// Whether a value is there.
    fn is_there(&self, body: &[u8], at: usize) -> bool {
        self.kind != Kind::Null && (self.there.length == 0 || bit(body, self.there, at))
    }

    /// From where to where in the data or the child a value reaches.
    fn range(&self, body: &[u8], at: usize, wide: bool, end: usize) -> Option<(usize, usize)> {
        let place = |at: usize| -> Option<usize> {
            if wide {
                let start = self.places.start + at * 8;
                usize::try_from(i64::from_le_bytes(array(body, start)?)).ok()
            } else {
                let start = self.places.start + at * 4;
                usize::try_from(i32::from_le_bytes(array(body, start)?)).ok()
            }
        };
        let (from, to) = (place(at)?, place(at + 1)?);
        (from <= to && to <= end).then_some((from, to))
    }

    /// A value as JSON; none: it is of a kind that is passed over.
    fn value(&self, body: &[u8], at: usize, left: &mut usize) -> Result<Option<Value>, Fault> {
        spend(left, VALUE_BYTES)?;
        if let Kind::Other(_) = self.kind {
            return Ok(None);
        }
        if !self.is_there(body, at) {
            return Ok(Some(Value::Null));
        }
        let value = match self.kind {
            Kind::Null | Kind::Other(_) => Value::Null,
            Kind::Truth => Value::Bool(bit(body, self.data, at)),
            Kind::Whole(width, signed) => self.whole(body, at, width, signed)?,
            Kind::Real(width) => self.real(body, at, width)?,
            Kind::Text(wide) => {
                let range = self.range(body, at, wide, self.data.length);
                let (from, to) = range.ok_or(Fault::Damaged)?;
                spend(left, to - from)?;
                let bytes = &body[self.data.start + from..self.data.start + to];
                let text = std::str::from_utf8(bytes);
                Value::String(
                    text.map_err(|_| Fault::NotText(self.name.clone()))?
                        .to_owned(),
                )
            }
            Kind::List(wide) => {
                let range = self.range(body, at, wide, self.children[0].length);
                self.items(body, range.ok_or(Fault::Damaged)?, left)?
            }
            Kind::FixedList(size) => self.items(body, (at * size, (at + 1) * size), left)?,
            Kind::Group => Value::Object(group(&self.children, body, at, left)?),
            Kind::Map => {
                let entries = &self.children[0];
                let range = self.range(body, at, false, entries.length);
                let (from, to) = range.ok_or(Fault::Damaged)?;
                let mut object = Map::new();
                for entry in from..to {
                    let key = entries.children[0].value(body, entry, left)?;
                    let key = match key.unwrap_or_default() {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    let item = entries.children[1].value(body, entry, left)?;
                    object.insert(key, item.unwrap_or_default());
                }
                Value::Object(object)
            }
        };
        Ok(Some(value))
    }

    fn items(
        &self,
        body: &[u8],
        (from, to): (usize, usize),
        left: &mut usize,
    ) -> Result<Value, Fault> {
        let items = (from..to).map(|at| self.children[0].value(body, at, left));
        let items: Vec<Option<Value>> = items.collect::<Result<_, _>>()?;
        Ok(Value::Array(items.into_iter().flatten().collect()))
    }

    fn whole(&self, body: &[u8], at: usize, width: usize, signed: bool) -> Result<Value, Fault> {
        let mut bytes = [0; 8];
        let start = self.data.start + at * width;
        let found = body.get(start..start + width).ok_or(Fault::Damaged)?;
        bytes[..width].copy_from_slice(found);
        let number = u64::from_le_bytes(bytes);
        if !signed {
            return Ok(number.into());
        }
        let shift = 64 - 8 * width as u32;
        let number = (number << shift) as i64;
        Ok((number >> shift).into())
    }

    fn real(&self, body: &[u8], at: usize, width: usize) -> Result<Value, Fault> {
        let start = self.data.start + at * width;
        let number = match width {
            2 => array(body, start).map(|bytes| half(u16::from_le_bytes(bytes))),
            4 => array(body, start).map(|bytes| f64::from(f32::from_le_bytes(bytes))),
            _ => array(body, start).map(f64::from_le_bytes),
        };
        let number = number.ok_or(Fault::Damaged)?;
        // Writers put NaN where nothing is known, which JSON calls null.
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }
}

impl Batch {
    pub(super) fn new(rows: usize, columns: Vec<Column>, body: Vec<u8>) -> Self {
        Self {
            rows,
            columns,
            body,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// A row as an object.
    pub(super) fn record(&self, row: usize) -> Result<Value, Fault> {
        let mut left = MOST_BYTES;
        let record = group(&self.columns, &self.body, row, &mut left);
        record.map(Value::Object)
    }
}

fn group(
    columns: &[Column],
    body: &[u8],
    at: usize,
    left: &mut usize,
) -> Result<Map<String, Value>, Fault> {
    let mut object = Map::new();
    for column in columns {
        if let Some(value) = column.value(body, at, left)? {
            object.insert(column.name.clone(), value);
        }
    }
    Ok(object)
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), Fault> {
    *left = left.checked_sub(bytes).ok_or(Fault::TooLarge)?;
    Ok(())
}

fn bit(body: &[u8], bits: Span, at: usize) -> bool {
    let byte = body.get(bits.start + at / 8).copied().unwrap_or(0);
    (byte >> (at % 8)) & 1 == 1
}

/// A floating point number of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from((bits >> 10) & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2.0_f64.powi(-24),
        31 if fraction > 0.0 => f64::NAN,
        31 => f64::INFINITY,
        _ => (1.0 + fraction / 1024.0) * 2.0_f64.powi(exponent - 15),
    }
}
