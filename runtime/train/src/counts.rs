//! How many numbers a model consists of, and how many of them a way of tuning trains.

use crate::job::{FineTuning, FreezeSettings};
use crate::shape::{ModelShape, ShapeError};

impl ModelShape {
    /// The matrices of attention: name, inputs, outputs, and how many of them a layer has.
    fn attention(&self) -> Vec<Matrix> {
        let matrix = |name, inputs, outputs| Matrix {
            name,
            inputs,
            outputs,
            count: 1,
        };
        vec![
            matrix("q_proj", self.hidden, self.queries),
            matrix("k_proj", self.hidden, self.keys),
            matrix("v_proj", self.hidden, self.keys),
            matrix("o_proj", self.queries, self.hidden),
        ]
    }

    /// Those of the feed-forward half of layer `number`.
    fn feed(&self, number: u64) -> Vec<Matrix> {
        let hidden = self.hidden;
        let three = |width, count| {
            [
                ("gate_proj", hidden, width),
                ("up_proj", hidden, width),
                ("down_proj", width, hidden),
            ]
            .map(|(name, inputs, outputs)| Matrix {
                name,
                inputs,
                outputs,
                count,
            })
        };
        match &self.mixture {
            Some(mixture) if self.has_experts(number) => {
                let mut all = vec![Matrix {
                    name: "gate",
                    inputs: hidden,
                    outputs: mixture.experts,
                    count: 1,
                }];
                all.extend(three(mixture.feed_forward, mixture.experts));
                all
            }
            _ => three(self.feed_forward, 1).into(),
        }
    }

    /// Numbers of the matrices of layer `number`.
    fn layer(&self, number: u64) -> u64 {
        let all = self.attention().into_iter().chain(self.feed(number));
        sum(all.map(|matrix| matrix.numbers()))
    }

    /// Numbers of the matrices that can be held in four bits, and of the largest of them. Routers stay as they are.
    pub(crate) fn packed(&self) -> (u64, u64) {
        let (mut all, mut largest) = (0_u64, 0);
        for number in 0..self.layers {
            for matrix in self.attention().into_iter().chain(self.feed(number)) {
                if matrix.name != "gate" {
                    all = all.saturating_add(matrix.numbers());
                    largest = largest.max(matrix.inputs.saturating_mul(matrix.outputs));
                }
            }
        }
        (all, largest)
    }

    /// Numbers that the gradients of the whole model take in a step of so many tokens and labels, where that of a matrix is
    /// kept as the two sides that it is the product of, if they are smaller.
    pub(crate) fn sides(&self, tokens: u64, labels: u64) -> u64 {
        let of_layer = |number: u64| {
            let all = self.attention().into_iter().chain(self.feed(number));
            let all = all.map(|matrix| {
                let sides = matrix.inputs.saturating_add(matrix.outputs);
                let sides = sides.saturating_mul(tokens).saturating_mul(matrix.count);
                matrix.numbers().min(sides)
            });
            sum(all.chain([self.small]))
        };
        let table = self.vocabulary.saturating_mul(self.hidden);
        let embedding = tokens.saturating_mul(self.hidden);
        let output = labels.saturating_mul(self.vocabulary.saturating_add(self.hidden));
        let tables = if self.tied {
            table.min(embedding.saturating_add(output))
        } else {
            table.min(embedding).saturating_add(table.min(output))
        };
        sum((0..self.layers).map(of_layer).chain([tables, self.hidden]))
    }

    /// Numbers that the model consists of.
    pub fn parameters(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        let table = self.vocabulary.saturating_mul(self.hidden);
        let layers = (0..self.layers).map(|number| self.layer(number).saturating_add(self.small));
        sum(layers.chain([table.saturating_mul(tables), self.hidden]))
    }

    /// Numbers that `tuning` trains.
    pub fn trainable(&self, tuning: &FineTuning) -> Result<u64, ShapeError> {
        let lora = match tuning {
            FineTuning::Full => return Ok(self.parameters()),
            FineTuning::Freeze(freeze) => return Ok(self.freed(freeze)),
            FineTuning::Lora(lora) => lora,
        };
        let layers = (0..self.layers).map(|number| (self.has_experts(number), self.feed(number)));
        let layers: Vec<(bool, Vec<Matrix>)> = layers.collect();
        let mut known: Vec<&str> = self.attention().iter().map(|matrix| matrix.name).collect();
        for matrix in layers.iter().flat_map(|(_, feed)| feed) {
            if !known.contains(&matrix.name) {
                known.push(matrix.name);
            }
        }
        for name in lora.targets.iter().flatten() {
            if !known.iter().any(|known| known == name) {
                return Err(ShapeError::NoSuchTarget {
                    name: name.clone(),
                    known: known.join(", "),
                });
            }
        }
        let rank = lora.rank as u64;
        let lengths = u64::from(lora.dora);
        let corrected = |matrix: &Matrix, routed: bool| {
            // `all` leaves experts and their routers alone.
            let meant = match &lora.targets {
                None => !routed,
                Some(names) => names.iter().any(|name| name == matrix.name),
            };
            let each = rank
                .saturating_mul(matrix.inputs.saturating_add(matrix.outputs))
                .saturating_add(lengths * matrix.outputs);
            if meant {
                each.saturating_mul(matrix.count)
            } else {
                0
            }
        };
        let attention = self.attention();
        let attention = sum(attention.iter().map(|matrix| corrected(matrix, false)));
        let feeds = layers.iter().map(|(routed, feed)| {
            let own = sum(feed.iter().map(|matrix| corrected(matrix, *routed)));
            own.saturating_add(attention)
        });
        let whole = lora.whole_modules.iter().map(|name| self.outside(name));
        Ok(sum(feeds.chain(whole)))
    }

    /// Numbers of the layers and modules that freeze tuning trains.
    fn freed(&self, freeze: &FreezeSettings) -> u64 {
        let attention = sum(self.attention().iter().map(Matrix::numbers));
        let count = freeze.layers.unsigned_abs().min(self.layers);
        let numbers = if freeze.layers > 0 {
            self.layers - count..self.layers
        } else {
            0..count
        };
        let layer = |number: u64| {
            let feed = sum(self.feed(number).iter().map(Matrix::numbers));
            let module = |name: &String| match name.as_str() {
                "all" => sum([attention, feed, self.small]),
                "self_attn" => attention.saturating_add(self.small - 2 * self.hidden),
                "mlp" => feed,
                _ => self.hidden,
            };
            sum(freeze.modules.iter().map(module))
        };
        let extra = freeze.extra_modules.iter().map(|name| self.outside(name));
        sum(numbers.map(layer).chain(extra))
    }

    /// Numbers of the modules whose names end with `name`: tables and norms.
    fn outside(&self, name: &str) -> u64 {
        let table = self.vocabulary.saturating_mul(self.hidden);
        let (norms, heads) = (self.layers * self.hidden, self.layers * self.head_norms / 2);
        let all = [
            ("embed_tokens", table),
            ("lm_head", table),
            ("norm", self.hidden),
            ("input_layernorm", norms),
            ("post_attention_layernorm", norms),
            ("q_norm", heads),
            ("k_norm", heads),
        ];
        let meant = all.into_iter().filter(|(known, _)| known.ends_with(name));
        sum(meant.map(|(_, numbers)| numbers))
    }
}

/// The matrices of one name in a layer.
struct Matrix {
    name: &'static str,
    inputs: u64,
    outputs: u64,
    /// One, or one an expert.
    count: u64,
}

impl Matrix {
    fn numbers(&self) -> u64 {
        let one = self.inputs.saturating_mul(self.outputs);
        one.saturating_mul(self.count)
    }
}

/// The sum, or the largest number where a configuration describes what no machine holds.
fn sum(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}
