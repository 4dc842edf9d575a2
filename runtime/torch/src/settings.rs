//! What is trained, and how the weights are kept meanwhile.

use std::path::PathBuf;

use torch_device::Place;

/// Which layers get a correction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Targets {
    /// Every linear layer but the output layer.
    All,
    /// The layers with these names, such as `q_proj`.
    Named(Vec<String>),
}

/// How a LoRA adapter is made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Rows of A, columns of B.
    pub rank: i64,
    /// Strength: the correction is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Share of inputs of A that training drops.
    pub dropout: f64,
    /// Which layers get one.
    pub targets: Targets,
    /// Rank-stabilised: the correction is multiplied by `alpha / sqrt(rank)`.
    pub rank_stabilised: bool,
    /// The corrected rows keep a length that is trained by itself (`DoRA`).
    pub dora: bool,
    /// A and B start as the strongest directions of the weight (`PiSSA`): by a full decomposition, or by an approximate
    /// one of so many rounds.
    pub pissa: Option<Option<u32>>,
    /// Modules that are trained whole and saved with the adapter, such as `embed_tokens`.
    pub whole_modules: Vec<String>,
}

impl LoraSettings {
    /// The usual strength for a rank: twice the rank.
    pub fn of_rank(rank: i64) -> Self {
        Self {
            rank,
            alpha: 2.0 * rank as f64,
            dropout: 0.0,
            targets: Targets::All,
            rank_stabilised: false,
            dora: false,
            pissa: None,
            whole_modules: Vec::new(),
        }
    }

    /// The factor on B A x.
    pub(crate) fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha
            / if self.rank_stabilised {
                rank.sqrt()
            } else {
                rank
            }
    }
}

/// What is trained, on a model held how.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// What is trained.
    pub method: Method,
    /// How the model is held in memory and computed.
    pub holding: Holding,
}

impl From<Method> for Tuning {
    fn from(method: Method) -> Self {
        Self {
            method,
            holding: Holding::default(),
        }
    }
}

/// What is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// A LoRA adapter.
    Lora {
        /// Its shape. Where an adapter is gone on with, its own rank, strength and targets win.
        settings: LoraSettings,
        /// Adapters that are added to the weights for good before training.
        merge_first: Vec<PathBuf>,
        /// An adapter to go on from.
        start_from: Option<PathBuf>,
    },
    /// Some layers, whole.
    Freeze(FreezeSettings),
    /// Every weight.
    Full,
}

/// Which layers are trained whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FreezeSettings {
    /// So many last layers; a negative number: first layers.
    pub layers: i64,
    /// Modules in them, such as `mlp` or `self_attn`; `all`: every one.
    pub modules: Vec<String>,
    /// Modules outside of the layers, such as `embed_tokens` or `norm`.
    pub extra_modules: Vec<String>,
}

/// In which number format the frozen weights are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Quantization {
    /// As numbers.
    #[default]
    None,
    /// Four bits a number.
    FourBit {
        /// Which sixteen values there are.
        code: FourBitCode,
        /// The scales are packed into eight bits.
        double: bool,
    },
}

/// The sixteen values of a four-bit format, as bitsandbytes has them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FourBitCode {
    /// Quantiles of the normal distribution.
    #[default]
    Nf4,
    /// Floating point with one sign, two exponent and one fraction bits.
    Fp4,
}

/// In which number format is computed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    Float32,
    /// Products in bfloat16; trained weights and their optimizer state in 32 bits.
    Bfloat16,
    /// Everything in bfloat16.
    PureBfloat16,
    /// Products in 16-bit floating point with a scaled loss; trained weights and their optimizer state in 32 bits.
    Float16,
}

/// How a model is held in memory and computed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Holding {
    /// Number format of the computation.
    pub precision: Precision,
    /// Number format of the frozen linear layers.
    pub quantization: Quantization,
    /// Matrices that the files hold in 16 bits stay so where they are computed with in 32, and are widened as they are
    /// used: the same numbers in half of the memory.
    pub narrow: bool,
    /// Activations are computed again in the backward pass instead of kept.
    pub recompute: bool,
    /// Where the weights are and all is computed.
    pub place: Place,
}
