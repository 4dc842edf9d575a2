//! A model's tensors: read from its files, and listed under the names they have there.

use tch::{Kind, Tensor};

use crate::block::Block;
use crate::config::ModelConfig;
use crate::feed::{Feed, Gated};
use crate::files::TensorFiles;
use crate::four_bit::Packed;
use crate::lora::Linear;
use crate::model::Model;
use crate::norm::Norm;
use crate::settings::{Holding, Precision, Quantization};
use crate::weight::Weight;
use crate::{BackendError, gptq, prequantized};

/// Names in the files.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm";
pub(crate) const OUTPUT: &str = "lm_head.weight";

/// Reads tensors in the number format that a model is held in.
pub(crate) struct Reader<'a> {
    pub(crate) files: &'a mut TensorFiles,
    pub(crate) holding: Holding,
    /// Tensors stay in the number format of the files, so that all of them are mapped.
    stored: bool,
    epsilon: f64,
    /// How matrices on grids are kept, where the model has such.
    grids: Option<gptq::Header>,
    linears: u64,
}

impl Reader<'_> {
    pub(crate) fn kind(&self) -> Kind {
        match self.holding.precision {
            Precision::Float32 => Kind::Float,
            Precision::Bfloat16 | Precision::PureBfloat16 => Kind::BFloat16,
            Precision::Float16 => Kind::Half,
        }
    }

    pub(crate) fn tensor(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, BackendError> {
        let kind = if self.stored {
            self.files.kind(name)?
        } else {
            self.kind()
        };
        let tensor = self.files.mapped(name, shape, kind)?;
        Ok(self.holding.place.put(&tensor)?)
    }

    /// Whether the files have both tensors, and not the same in both. As in transformers 5 that counts more than what
    /// `config.json` says.
    fn differ(&mut self, one: &str, other: &str, shape: &[i64]) -> Result<bool, BackendError> {
        if !self.files.has(other) {
            return Ok(false);
        }
        let kinds = (self.files.kind(one)?, self.files.kind(other)?);
        let one = self.files.mapped(one, shape, kinds.0)?;
        let other = self.files.mapped(other, shape, kinds.1)?;
        Ok(kinds.0 != kinds.1 || !one.f_equal(&other)?)
    }

    /// The same of a matrix, or of several in one tensor.
    pub(crate) fn matrix(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, BackendError> {
        if self.holding.narrow {
            let stored = self.files.kind(name)?;
            if matches!(stored, Kind::BFloat16 | Kind::Half) {
                return self.files.mapped(name, shape, stored);
            }
        }
        self.tensor(name, shape)
    }

    fn norm(&mut self, name: String, width: i64) -> Result<Norm, BackendError> {
        Ok(Norm {
            weight: self.tensor(&format!("{name}.weight"), &[width])?,
            epsilon: self.epsilon,
            name,
        })
    }

    fn linear(
        &mut self,
        name: String,
        rows: i64,
        columns: i64,
        bias: bool,
    ) -> Result<Linear, BackendError> {
        let (weight, shape) = (format!("{name}.weight"), [rows, columns]);
        let grid = self
            .grids
            .map(|header| gptq::read(self.files, &name, (rows, columns), header));
        let weight = if let Some(grid) = grid.transpose()?.flatten() {
            Weight::of_grid(grid, self.holding.place)?
        } else if let Some(packed) = prequantized::read(self.files, &weight, (rows, columns))? {
            Weight::of_packed(packed, self.holding.place)?
        } else if self.holding.quantization == Quantization::None {
            Weight::Numbers(self.matrix(&weight, &shape)?)
        } else {
            // One matrix at a time is in memory as numbers.
            let numbers = self.files.read_as(&weight, &shape, self.kind())?;
            self.packed(&weight, &numbers)?
        };
        let bias = bias.then(|| self.tensor(&format!("{name}.bias"), &[rows]));
        let bias = bias.transpose()?;
        Ok(self.counted(name, weight, bias))
    }

    /// A matrix of the tensor `name` as it is held.
    pub(crate) fn packed(&self, name: &str, numbers: &Tensor) -> Result<Weight, BackendError> {
        let Quantization::FourBit { code, double } = self.holding.quantization else {
            return Ok(Weight::Numbers(self.holding.place.put(numbers)?));
        };
        // What is no number has no nearest value: packed, it would be taken for one.
        if !is_finite(numbers)? {
            return Err(BackendError::BrokenWeight {
                tensor: name.to_owned(),
            });
        }
        Weight::of_packed(Packed::of(numbers, code, double)?, self.holding.place)
    }

    pub(crate) fn counted(&mut self, name: String, weight: Weight, bias: Option<Tensor>) -> Linear {
        self.linears += 1;
        Linear {
            number: self.linears,
            weight,
            bias,
            name,
            correction: None,
            owed: None,
        }
    }

    pub(crate) fn gated(
        &mut self,
        at: &str,
        hidden: i64,
        feed: i64,
    ) -> Result<Gated, BackendError> {
        let part = |name: &str| format!("{at}.{name}");
        Ok(Gated {
            gate: self.linear(part("gate_proj"), feed, hidden, false)?,
            up: self.linear(part("up_proj"), feed, hidden, false)?,
            down: self.linear(part("down_proj"), hidden, feed, false)?,
        })
    }

    fn block(&mut self, number: i64, config: &ModelConfig) -> Result<Block, BackendError> {
        let at = |rest: &str| format!("model.layers.{number}.{rest}");
        let (hidden, feed, width) = (config.hidden, config.feed_forward, config.head_width);
        let (queries, keys) = (config.heads * width, config.key_heads * width);
        let bias = config.qkv_bias;
        Ok(Block {
            attention_norm: self.norm(at("input_layernorm"), hidden)?,
            query: self.linear(at("self_attn.q_proj"), queries, hidden, bias)?,
            key: self.linear(at("self_attn.k_proj"), keys, hidden, bias)?,
            value: self.linear(at("self_attn.v_proj"), keys, hidden, bias)?,
            head_norms: if config.head_norms {
                let query = self.norm(at("self_attn.q_norm"), width)?;
                Some((query, self.norm(at("self_attn.k_norm"), width)?))
            } else {
                None
            },
            output: self.linear(at("self_attn.o_proj"), hidden, queries, config.output_bias)?,
            feed_norm: self.norm(at("post_attention_layernorm"), hidden)?,
            feed: match &config.mixture {
                Some(mixture) if mixture.layers.get(number as usize) == Some(&true) => {
                    Feed::Experts(Box::new(self.experts(&at("mlp"), hidden, mixture)?))
                }
                _ => Feed::Dense(Box::new(self.gated(&at("mlp"), hidden, feed)?)),
            },
            window: config.windows.get(number as usize).copied().flatten(),
            width,
        })
    }
}

impl Model {
    /// Reads the weights that `config` describes.
    pub(crate) fn load(
        config: ModelConfig,
        files: &mut TensorFiles,
        holding: Holding,
    ) -> Result<Self, BackendError> {
        Self::read(config, files, holding, false)
    }

    /// The same with every tensor as it is stored: to write it anew, not to compute with.
    pub(crate) fn load_stored(
        config: ModelConfig,
        files: &mut TensorFiles,
    ) -> Result<Self, BackendError> {
        Self::read(config, files, Holding::default(), true)
    }

    fn read(
        config: ModelConfig,
        files: &mut TensorFiles,
        holding: Holding,
        stored: bool,
    ) -> Result<Self, BackendError> {
        let mut reader = Reader {
            files,
            holding,
            stored,
            epsilon: config.norm_epsilon,
            grids: config.grids,
            linears: 0,
        };
        let table = [config.vocabulary, config.hidden];
        let embedding = reader.matrix(EMBEDDING, &table)?;
        let blocks = (0..config.layers)
            .map(|number| reader.block(number, &config))
            .collect::<Result<Vec<_>, _>>()?;
        let norm = reader.norm(FINAL_NORM.to_owned(), config.hidden)?;
        let output = if config.tied && !reader.differ(EMBEDDING, OUTPUT, &table)? {
            None
        } else {
            Some(reader.matrix(OUTPUT, &table)?)
        };
        Ok(Self::of_parts(
            config, holding, embedding, blocks, norm, output,
        ))
    }

    /// The model's own tensors under their names in the files; packed matrices are left out.
    pub(crate) fn own_tensors(&self) -> Vec<(String, &Tensor)> {
        let mut all = vec![(EMBEDDING.to_owned(), &self.embedding)];
        for block in &self.blocks {
            for layer in block.linears() {
                let weight = layer.weight.numbers();
                all.extend(weight.map(|weight| (format!("{}.weight", layer.name), weight)));
                let bias = layer.bias.as_ref();
                all.extend(bias.map(|bias| (format!("{}.bias", layer.name), bias)));
            }
            for norm in block.norms() {
                all.push((format!("{}.weight", norm.name), &norm.weight));
            }
        }
        all.push((format!("{}.weight", self.norm.name), &self.norm.weight));
        all.extend(self.output.iter().map(|w| (OUTPUT.to_owned(), w)));
        all
    }

    /// The first tensor of the model or its adapter that holds infinite numbers or none.
    pub(crate) fn broken_weight(&self) -> Result<Option<String>, BackendError> {
        for (name, tensor) in self.own_tensors().into_iter().chain(self.adapter_tensors()) {
            if !is_finite(tensor)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Why the model makes no numbers: the weight that is broken, if one is.
    pub(crate) fn no_number(&self) -> BackendError {
        match self.broken_weight() {
            Ok(Some(tensor)) => BackendError::BrokenWeight { tensor },
            Ok(None) => BackendError::NoNumber,
            Err(error) => error,
        }
    }

    /// Shows the same to `visit`, to change them.
    pub(crate) fn visit_own(
        &mut self,
        visit: &mut dyn FnMut(&str, &mut Tensor) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        visit(EMBEDDING, &mut self.embedding)?;
        for block in &mut self.blocks {
            for layer in block.linears_mut() {
                if let Weight::Numbers(weight) = &mut layer.weight {
                    visit(&format!("{}.weight", layer.name), weight)?;
                }
                if let Some(bias) = &mut layer.bias {
                    visit(&format!("{}.bias", layer.name), bias)?;
                }
            }
            for norm in block.norms_mut() {
                visit(&format!("{}.weight", norm.name), &mut norm.weight)?;
            }
        }
        visit(&format!("{}.weight", self.norm.name), &mut self.norm.weight)?;
        match &mut self.output {
            Some(output) => visit(OUTPUT, output),
            None => Ok(()),
        }
    }
}

/// Whether every number of a tensor is one. The ends of their range tell, without a tensor of as many truths beside it:
/// what is no number is both ends.
pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool, BackendError> {
    if tensor.numel() == 0 {
        return Ok(true);
    }
    let (least, most) = tensor.f_detach()?.f_aminmax(None, false)?;
    Ok(least.f_double_value(&[])?.is_finite() && most.f_double_value(&[])?.is_finite())
}
