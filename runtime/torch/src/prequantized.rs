//! Four-bit matrices as bitsandbytes keeps them in safetensors, written and read.
//!
//! ```text
//! X.weight                                      u8, [bytes, 1]: two numbers each
//! X.weight.absmax                               the scales: f32, or u8 where they are doubly quantised
//! X.weight.quant_map                            f32, 16: what each number stands for
//! X.weight.nested_absmax, .nested_quant_map     the scales' scales, f32, and what their numbers stand for, 256
//! X.weight.quant_state.bitsandbytes__nf4        u8: JSON with the matrix's shape and blocks (or `__fp4`)
//! ```
//!
//! Both maps are always the published ones; a file with others is refused, since its numbers would mean something else.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::BackendError;
use crate::files::{Head, TensorFiles};
use crate::four_bit::{BLOCK, Packed, SCALE_VALUES, SCALES, Scales};
use crate::settings::{FourBitCode, Quantization};
use crate::weight::Compact as _;

/// Room for the JSON, filled up with spaces: its length is written before its numbers are known.
const STATE: usize = 256;

/// The name that bitsandbytes has for a code.
fn name_of(code: FourBitCode) -> &'static str {
    match code {
        FourBitCode::Nf4 => "nf4",
        FourBitCode::Fp4 => "fp4",
    }
}

/// What `config.json` says of weights packed so; `numbers` is the format of the rest and of the computation.
pub(crate) fn config(quantization: Quantization, numbers: &str) -> Option<Value> {
    let Quantization::FourBit { code, double } = quantization else {
        return None;
    };
    Some(json!({
        "quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false,
        "bnb_4bit_quant_type": name_of(code), "bnb_4bit_use_double_quant": double,
        "bnb_4bit_compute_dtype": numbers, "bnb_4bit_quant_storage": "uint8",
        "llm_int8_skip_modules": null, "llm_int8_threshold": 6.0, "llm_int8_has_fp16_weight": false,
        "llm_int8_enable_fp32_cpu_offload": false,
    }))
}

/// The tensors that the matrix `name` is kept as.
pub(crate) fn heads(
    name: &str,
    (rows, columns): (i64, i64),
    code: FourBitCode,
    double: bool,
) -> Vec<Head> {
    let numbers = rows * columns;
    let scales = (numbers as usize).div_ceil(BLOCK);
    let part = |rest: &str, shape: Vec<i64>, kind| Head {
        name: format!("{name}{rest}"),
        shape,
        kind,
    };
    let plain = if double { Kind::Uint8 } else { Kind::Float };
    let mut heads = vec![
        part("", vec![(numbers + 1) / 2, 1], Kind::Uint8),
        part(".absmax", vec![scales as i64], plain),
        part(".quant_map", vec![16], Kind::Float),
    ];
    if double {
        let nested = scales.div_ceil(SCALES) as i64;
        heads.push(part(".nested_absmax", vec![nested], Kind::Float));
        heads.push(part(".nested_quant_map", vec![256], Kind::Float));
    }
    let state = format!(".quant_state.bitsandbytes__{}", name_of(code));
    heads.push(part(&state, vec![STATE as i64], Kind::Uint8));
    heads
}

/// Their values, in the same order. `numbers` is the number format that the matrix had.
pub(crate) fn values(packed: &Packed, numbers: &str) -> Result<Vec<Tensor>, BackendError> {
    let (rows, columns) = packed.size();
    let mut state = json!({
        "quant_type": name_of(packed.code), "blocksize": BLOCK, "dtype": numbers, "shape": [rows, columns],
    });
    let map = Tensor::f_from_slice(&packed.code.values())?;
    let mut all = vec![Tensor::f_from_slice(&packed.bytes)?.f_view([-1, 1])?];
    match &packed.scales {
        Scales::Plain(scales) => all.extend([Tensor::f_from_slice(scales)?, map]),
        Scales::Double {
            numbers,
            scales,
            offset,
        } => {
            state["nested_blocksize"] = SCALES.into();
            state["nested_dtype"] = "float32".into();
            state["nested_offset"] = f64::from(*offset).into();
            all.extend([
                Tensor::f_from_slice(numbers)?,
                map,
                Tensor::f_from_slice(scales)?,
                Tensor::f_from_slice(&SCALE_VALUES)?,
            ]);
        }
    }
    let mut text = state.to_string().into_bytes();
    text.resize(STATE.max(text.len()), b' ');
    all.push(Tensor::f_from_slice(&text)?);
    Ok(all)
}

/// Reads the matrix `name` of the given shape, if the files keep it so.
pub(crate) fn read(
    files: &mut TensorFiles,
    name: &str,
    (rows, columns): (i64, i64),
) -> Result<Option<Packed>, BackendError> {
    let state = |code| format!("{name}.quant_state.bitsandbytes__{}", name_of(code));
    let codes = [FourBitCode::Nf4, FourBitCode::Fp4];
    let Some(code) = codes.into_iter().find(|code| files.has(&state(*code))) else {
        return Ok(None);
    };
    let path = files.path().to_owned();
    let wrong = |found: String, expected: &str| BackendError::malformed(&path, found, expected);
    let text = files.read_bytes(&state(code), LONGEST_STATE)?;
    let said: Value = serde_json::from_slice(&text)
        .map_err(|e| wrong(format!("`{}`: {e}", state(code)), "JSON"))?;
    let double = !said["nested_blocksize"].is_null();
    let blocks = said["blocksize"] == BLOCK && (!double || said["nested_blocksize"] == SCALES);
    let shape = json!([rows, columns]);
    if !blocks || said["shape"] != shape {
        return Err(wrong(
            format!(
                "`{name}` of {} in blocks of {}",
                said["shape"], said["blocksize"]
            ),
            &format!("{shape} in blocks of {BLOCK}"),
        ));
    }
    let count = (rows * columns) as usize;
    let scales = count.div_ceil(BLOCK);
    let part = |rest: &str| format!("{name}.{rest}");
    check_map(files, &part("quant_map"), &code.values())?;
    let scales = if double {
        check_map(files, &part("nested_quant_map"), &SCALE_VALUES)?;
        let nested = [scales.div_ceil(SCALES) as i64];
        let offset = said["nested_offset"].as_f64().filter(|n| n.is_finite());
        Scales::Double {
            numbers: exactly(files, &part("absmax"), scales)?,
            scales: floats(&files.read_finite(&part("nested_absmax"), &nested)?)?,
            offset: offset.ok_or_else(|| wrong(format!("`{name}` without an offset"), "one"))?
                as f32,
        }
    } else {
        Scales::Plain(floats(
            &files.read_finite(&part("absmax"), &[scales as i64])?,
        )?)
    };
    Ok(Some(Packed {
        rows,
        columns,
        code,
        bytes: exactly(files, name, count.div_ceil(2))?,
        scales,
    }))
}

/// The JSON has a few numbers; more is not it.
const LONGEST_STATE: u64 = 1 << 16;

/// The bytes of a tensor that must have so many.
fn exactly(files: &mut TensorFiles, name: &str, count: usize) -> Result<Vec<u8>, BackendError> {
    let bytes = files.read_bytes(name, count as u64)?;
    if bytes.len() == count {
        return Ok(bytes);
    }
    let found = format!("{} bytes of `{name}`", bytes.len());
    Err(BackendError::malformed(
        files.path(),
        found,
        format!("{count}"),
    ))
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, BackendError> {
    let mut values = vec![0.0; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}

/// Refuses a map that is not the published one.
fn check_map(files: &mut TensorFiles, name: &str, known: &[f32]) -> Result<(), BackendError> {
    let found = floats(&files.read_finite(name, &[known.len() as i64])?)?;
    let mut pairs = found.iter().zip(known);
    if pairs.all(|(found, known)| (found - known).abs() < 1e-5) {
        return Ok(());
    }
    Err(BackendError::UnsupportedSetting {
        path: files.path().to_owned(),
        name: name.to_owned(),
        value: "other values than bitsandbytes publishes".to_owned(),
    })
}
