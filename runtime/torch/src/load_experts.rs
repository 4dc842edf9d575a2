//! Experts, read from a model's files.
//!
//! ```text
//! on the Hub         mlp.experts.7.gate_proj.weight, .up_proj.weight, .down_proj.weight     one of each an expert
//! newer transformers mlp.experts.gate_up_proj [experts, 2 * feed, hidden], mlp.experts.down_proj [experts, hidden, feed]
//! ```
//!
//! Either way each expert becomes three linear layers under the Hub's names.

use tch::Tensor;

use crate::BackendError;
use crate::experts::Experts;
use crate::feed::Gated;
use crate::load::Reader;
use crate::mixture::Mixture;
use crate::settings::Quantization;
use crate::weight::Weight;

impl Reader<'_> {
    /// The experts of a layer, each in tensors of its own as on the Hub, or all in one as newer transformers writes them.
    pub(crate) fn experts(
        &mut self,
        at: &str,
        hidden: i64,
        mixture: &Mixture,
    ) -> Result<Experts, BackendError> {
        // Small, and what it decides must not be rounded: it is never packed.
        let router = format!("{at}.gate");
        let weight = self.tensor(&format!("{router}.weight"), &[mixture.experts, hidden])?;
        let router = self.counted(router, Weight::Numbers(weight), None);
        let at = format!("{at}.experts");
        let fused = self.files.has(&format!("{at}.gate_up_proj"));
        let each = if fused {
            self.fused_experts(&at, hidden, mixture)?
        } else {
            let names = (0..mixture.experts).map(|number| format!("{at}.{number}"));
            names
                .map(|at| self.gated(&at, hidden, mixture.feed_forward))
                .collect::<Result<_, _>>()?
        };
        Ok(Experts {
            router,
            each,
            chosen: mixture.chosen,
            normed: mixture.normed,
        })
    }

    /// Experts that share two tensors: gate above up, `[experts, 2 * feed, hidden]`, and down, `[experts, hidden, feed]`.
    fn fused_experts(
        &mut self,
        at: &str,
        hidden: i64,
        mixture: &Mixture,
    ) -> Result<Vec<Gated>, BackendError> {
        let (count, feed) = (mixture.experts, mixture.feed_forward);
        let mut upper = Stack::new(format!("{at}.gate_up_proj"), [count, 2 * feed, hidden]);
        let mut lower = Stack::new(format!("{at}.down_proj"), [count, hidden, feed]);
        let mut experts = Vec::new();
        for number in 0..count {
            let (both, down) = (upper.matrix(self, number)?, lower.matrix(self, number)?);
            let gate = self.packed(&upper.name, &both.f_narrow(0, 0, feed)?)?;
            let up = self.packed(&upper.name, &both.f_narrow(0, feed, feed)?)?;
            let down = self.packed(&lower.name, &down)?;
            let name = |part: &str| format!("{at}.{number}.{part}");
            experts.push(Gated {
                gate: self.counted(name("gate_proj"), gate, None),
                up: self.counted(name("up_proj"), up, None),
                down: self.counted(name("down_proj"), down, None),
            });
        }
        Ok(experts)
    }
}

/// Matrices in one tensor, read one by one.
struct Stack {
    name: String,
    shape: [i64; 3],
    /// All of them, where they are used as they lie in the file.
    whole: Option<Tensor>,
}

impl Stack {
    fn new(name: String, shape: [i64; 3]) -> Self {
        Self {
            name,
            shape,
            whole: None,
        }
    }

    /// A part of the whole tensor; to be packed, one matrix in memory of its own.
    fn matrix(&mut self, reader: &mut Reader<'_>, number: i64) -> Result<Tensor, BackendError> {
        if reader.holding.quantization != Quantization::None {
            let kind = reader.kind();
            return reader
                .files
                .read_slice(&self.name, &self.shape, number, kind);
        }
        let whole = match self.whole.take() {
            Some(whole) => whole,
            None => reader.matrix(&self.name, &self.shape)?,
        };
        let part = whole.f_select(0, number)?;
        self.whole = Some(whole);
        Ok(part)
    }
}
