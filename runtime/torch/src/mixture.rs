//! The mixture of experts in `config.json`: which layers have one, and how tokens find their experts.

use serde_json::Value;

use crate::BackendError;
use crate::config::Fields;

/// A mixture of experts, as Qwen3-MoE has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Experts of a layer.
    pub experts: i64,
    /// Experts that each token is sent to.
    pub chosen: i64,
    /// Width inside an expert.
    pub feed_forward: i64,
    /// The shares of the chosen experts are scaled to add up to one.
    pub normed: bool,
    /// For each layer, whether it has experts.
    pub layers: Vec<bool>,
    /// Weight of the loss that keeps experts equally busy; none: training has no such loss.
    pub balance: Option<f64>,
}

impl Mixture {
    /// Reads the fields of a model with `layers` layers. What a file leaves out is as transformers has it.
    pub(crate) fn read(fields: &Fields<'_>, layers: i64) -> Result<Self, BackendError> {
        let experts = match fields.optional_count("num_experts", 1 << 14)? {
            Some(experts) => experts,
            // Its name in other families, under which transformers keeps it.
            None => fields
                .optional_count("num_local_experts", 1 << 14)?
                .unwrap_or(128),
        };
        let chosen = fields
            .optional_count("num_experts_per_tok", 1 << 14)?
            .unwrap_or(8);
        if chosen > experts {
            return Err(fields.wrong(
                "num_experts_per_tok",
                "at most as many as there are experts",
            ));
        }
        let step = fields
            .optional_count("decoder_sparse_step", 1 << 12)?
            .unwrap_or(1);
        let dense = match &fields.value["mlp_only_layers"] {
            Value::Null => Vec::new(),
            Value::Array(list) => {
                let numbers = list.iter().map(Value::as_i64);
                let numbers: Option<Vec<i64>> = numbers.collect();
                numbers.ok_or_else(|| fields.wrong("mlp_only_layers", "a list of layers"))?
            }
            _ => return Err(fields.wrong("mlp_only_layers", "a list of layers")),
        };
        let weight = match &fields.value["router_aux_loss_coef"] {
            Value::Null => 0.001,
            number => number
                .as_f64()
                .filter(|weight| (0.0..=1e3).contains(weight))
                .ok_or_else(|| fields.wrong("router_aux_loss_coef", "a number from 0 to 1000"))?,
        };
        let sparse = |layer: i64| (layer + 1) % step == 0 && !dense.contains(&layer);
        Ok(Self {
            experts,
            chosen,
            feed_forward: fields
                .optional_count("moe_intermediate_size", 1 << 22)?
                .unwrap_or(768),
            normed: fields.value["norm_topk_prob"] == true,
            layers: (0..layers).map(sparse).collect(),
            balance: (fields.value["output_router_logits"] == true).then_some(weight),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn read(more: &Value) -> Result<Mixture, BackendError> {
        let value = more;
        let path = Path::new("config.json");
        Mixture::read(&Fields { path, value }, 6)
    }

    #[test]
    fn layers_with_experts_are_those_of_the_original() {
        for (more, expected) in [
            (json!({}), [true; 6]),
            (
                json!({"decoder_sparse_step": 2}),
                [false, true, false, true, false, true],
            ),
            (
                json!({"decoder_sparse_step": 2, "mlp_only_layers": [3]}),
                [false, true, false, false, false, true],
            ),
            (json!({"decoder_sparse_step": 7}), [false; 6]),
        ] {
            assert_eq!(read(&more).unwrap().layers, expected, "{more}");
        }
        let usual = read(&json!({})).unwrap();
        assert_eq!(
            (usual.experts, usual.chosen, usual.feed_forward),
            (128, 8, 768)
        );
        assert_eq!((usual.normed, usual.balance), (false, None));
        let other =
            json!({"num_local_experts": 4, "num_experts_per_tok": 2, "output_router_logits": true});
        let other = read(&other).unwrap();
        assert_eq!((other.experts, other.balance), (4, Some(0.001)));
    }

    #[test]
    fn absurd_numbers_are_refused_by_name() {
        for (name, value) in [
            ("num_experts", json!(0)),
            ("num_experts", json!(1_u64 << 60)),
            ("num_experts_per_tok", json!(200)),
            ("decoder_sparse_step", json!(0)),
            ("mlp_only_layers", json!("3")),
            ("mlp_only_layers", json!([1.5])),
            ("moe_intermediate_size", json!(-1)),
            ("router_aux_loss_coef", json!("much")),
        ] {
            let mut config = json!({});
            config[name] = value;
            let error = read(&config).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
