//! Bytes and numbers that look random and are always the same.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context, Result};

/// Marsaglia's xorshift with a multiplication at its end: xorshift64* (Vigna 2016).
pub(super) struct Noise(u64);

impl Noise {
    /// `seed` is not zero.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Evenly distributed in 0..1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Two normally distributed numbers of a standard deviation of `scale`, by Box and Muller, as bf16.
    pub(super) fn normal_bf16(&mut self, scale: f64) -> [[u8; 2]; 2] {
        let radius = scale * (-2.0 * self.uniform().max(f64::MIN_POSITIVE).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        [radius * sin, radius * cos].map(|number| {
            let [low, high, ..] = (((number as f32).to_bits() + 0x8000) >> 16).to_le_bytes();
            [low, high]
        })
    }

    /// Writes `size` bytes that do not compress.
    pub(super) fn write(&mut self, path: &Path, size: u64) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let made = File::create(path);
        let made = made.with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(made);
        for _ in 0..size / 8 {
            file.write_all(&self.next().to_le_bytes())?;
        }
        file.into_inner()?.sync_all()?;
        Ok(())
    }
}
