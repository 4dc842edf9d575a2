//! Matrices on grids as `AutoGPTQ`, gptqmodel and vLLM keep them in safetensors, written and read.
//!
//! ```text
//! X.qweight   i32, [columns * bits / 32, rows]: the numbers of a column of words belong to a row, the lowest bits first
//! X.qzeros    i32, [groups, rows * bits / 32]: zeros of a group likewise; in version 1 each is one less (and 0 the highest)
//! X.scales    f16, [groups, rows]
//! X.g_idx     i32, [columns]: the group of each column
//! X.bias      as it is, where there is one
//! ```
//!
//! `quantization_config` in `config.json` says how many bits, and which version.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::gram::DAMPS;
use super::grid::{Grid, packed, unpacked, width};
use super::{GROUP, WORD};
use crate::BackendError;
use crate::files::{Head, TensorFiles};

/// What `quantization_config` says of a model's matrices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    bits: u32,
    /// Columns of a group, where no `g_idx` says which belong together; none: all of them.
    group: Option<usize>,
    /// Zeros are kept as they are.
    second: bool,
}

impl Header {
    /// Reads `quantization_config`. None: it is not of this kind, or of one that is not known.
    pub(crate) fn of(said: &Value) -> Option<Self> {
        let version = ["checkpoint_format", "format"].map(|name| &said[name]);
        let version = version.into_iter().find(|version| !version.is_null());
        let second = match version.map(|version| version.as_str().unwrap_or_default()) {
            None | Some("gptq") => false,
            Some("gptq_v2") => true,
            Some(_) => return None,
        };
        let bits = said["bits"]
            .as_u64()
            .filter(|bits| matches!(bits, 2 | 3 | 4 | 8))?;
        let group = match said["group_size"].as_i64()? {
            -1 => None,
            size => Some(usize::try_from(size).ok().filter(|size| *size > 0)?),
        };
        let words = &said["pack_dtype"];
        let known = said["quant_method"] == "gptq" && (words.is_null() || words == "int32");
        known.then_some(Self {
            bits: bits as u32,
            group,
            second,
        })
    }
}

/// What `config.json` says of a model whose matrices have `bits`.
pub(crate) fn config(bits: u32) -> Value {
    json!({
        "quant_method": "gptq", "bits": bits, "group_size": GROUP, "sym": true, "desc_act": false,
        "act_group_aware": true, "true_sequential": true, "damp_percent": DAMPS[0], "lm_head": false,
        "checkpoint_format": "gptq", "pack_dtype": "int32",
        "meta": {"quantizer": [concat!("ferry-runtime:", env!("CARGO_PKG_VERSION"))]},
    })
}

/// The tensors that the matrix `name` of the given size is kept as.
pub(crate) fn heads(name: &str, (rows, columns): (i64, i64), bits: u32) -> Vec<Head> {
    let groups = columns.unsigned_abs().div_ceil(GROUP as u64) as i64;
    let words = |count: i64| width(count as usize, bits) as i64;
    let parts = [
        ("qweight", vec![words(columns), rows], Kind::Int),
        ("qzeros", vec![groups, words(rows)], Kind::Int),
        ("scales", vec![groups, rows], Kind::Half),
        ("g_idx", vec![columns], Kind::Int),
    ];
    let heads = parts.into_iter().map(|(part, shape, kind)| Head {
        name: format!("{name}.{part}"),
        shape,
        kind,
    });
    heads.collect()
}

/// Their values, in the same order.
pub(crate) fn values(grid: &Grid) -> Result<Vec<Tensor>, BackendError> {
    let (rows, groups) = (grid.rows as i64, grid.count());
    let signed = |words: &[u32]| -> Vec<i32> { words.iter().map(|word| *word as i32).collect() };
    let upright = |tensor: Tensor| -> Result<Tensor, BackendError> {
        Ok(tensor
            .f_view([rows, -1])?
            .f_transpose(0, 1)?
            .f_contiguous()?)
    };
    let top = u8::MAX >> (8 - grid.bits);
    let zeros = (0..groups).flat_map(|group| {
        let of_rows = grid.zeros.chunks(groups).map(|row| row[group]);
        let less: Vec<u8> = of_rows.map(|zero| zero.wrapping_sub(1) & top).collect();
        packed(&less, grid.bits)
    });
    let zeros: Vec<u32> = zeros.collect();
    let columns: Vec<i32> = grid.groups.iter().map(|group| *group as i32).collect();
    Ok(vec![
        upright(Tensor::f_from_slice(&signed(&grid.words))?)?,
        Tensor::f_from_slice(&signed(&zeros))?.f_view([groups as i64, -1])?,
        upright(Tensor::f_from_slice(&grid.scales)?)?.f_to_kind(Kind::Half)?,
        Tensor::f_from_slice(&columns)?,
    ])
}

/// Reads the matrix `name` of the given size, if the files keep it so.
pub(crate) fn read(
    files: &mut TensorFiles,
    name: &str,
    (rows, columns): (i64, i64),
    header: Header,
) -> Result<Option<Grid>, BackendError> {
    let part = |part: &str| format!("{name}.{part}");
    if !files.has(&part("qweight")) {
        return Ok(None);
    }
    let bits = header.bits;
    if rows % WORD != 0 || columns % WORD != 0 {
        return Err(BackendError::Unpackable {
            layer: name.to_owned(),
            rows,
            columns,
        });
    }
    let words = |count: i64| width(count as usize, bits) as i64;
    let numbers = files.read_ints(&part("qweight"), &[words(columns), rows])?;
    let groups = match files.shape(&part("scales"))? {
        [groups, _] if (1..=columns).contains(groups) => *groups,
        other => {
            let found = format!("`{}` of {other:?}", part("scales"));
            let expected = format!("{rows} scales in each of at most {columns} groups");
            return Err(BackendError::malformed(files.path(), found, expected));
        }
    };
    let scales = files.read_finite(&part("scales"), &[groups, rows])?;
    let zeros = files.read_ints(&part("qzeros"), &[groups, words(rows)])?;
    let top = u8::MAX >> (8 - bits);
    let more = u8::from(!header.second);
    let zeros: Vec<u8> = zeros
        .chunks((zeros.len() / groups as usize).max(1))
        .flat_map(|group| {
            let words: Vec<u32> = group.iter().map(|word| *word as u32).collect();
            let zeros = unpacked(&words, bits).map(|zero| zero.wrapping_add(more) & top);
            zeros.collect::<Vec<_>>()
        })
        .collect();
    let lying = |numbers: &[u8]| -> Result<Vec<u8>, BackendError> {
        let tensor = Tensor::f_from_slice(numbers)?.f_view([groups, rows])?;
        bytes(&tensor.f_transpose(0, 1)?)
    };
    Ok(Some(Grid {
        rows: rows as usize,
        columns: columns as usize,
        bits,
        words: turned(&numbers, rows)?,
        groups: groups_of(files, &part("g_idx"), columns, groups, header)?,
        scales: floats(&scales.f_transpose(0, 1)?)?,
        zeros: lying(&zeros)?,
    }))
}

/// Words that stand in columns, row by row.
fn turned(words: &[i32], rows: i64) -> Result<Vec<u32>, BackendError> {
    let tensor = Tensor::f_from_slice(words)?.f_view([-1, rows])?;
    let lying = tensor.f_transpose(0, 1)?.f_contiguous()?.f_view([-1])?;
    let mut words = vec![0_i32; lying.numel()];
    lying.f_copy_data(&mut words, lying.numel())?;
    Ok(words.into_iter().map(|word| word as u32).collect())
}

/// The group of each column.
fn groups_of(
    files: &mut TensorFiles,
    name: &str,
    columns: i64,
    groups: i64,
    header: Header,
) -> Result<Vec<u32>, BackendError> {
    let all = if files.has(name) {
        files.read_ints(name, &[columns])?
    } else {
        let size = header.group.unwrap_or(columns as usize);
        (0..columns as usize)
            .map(|column| (column / size) as i32)
            .collect()
    };
    match all
        .iter()
        .find(|group| !(0..groups).contains(&i64::from(**group)))
    {
        None => Ok(all.into_iter().map(|group| group as u32).collect()),
        Some(group) => Err(BackendError::malformed(
            files.path(),
            format!("group {group} in `{name}`"),
            format!("groups from 0 to {}", groups - 1),
        )),
    }
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, BackendError> {
    let flat = tensor.f_contiguous()?.f_view([-1])?;
    let mut values = vec![0.0; flat.numel()];
    flat.f_copy_data(&mut values, flat.numel())?;
    Ok(values)
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>, BackendError> {
    let flat = tensor.f_contiguous()?.f_view([-1])?;
    let mut values = vec![0; flat.numel()];
    flat.f_copy_data(&mut values, flat.numel())?;
    Ok(values)
}
