//! A mixture of experts: each token goes through the few feed-forward blocks that a router finds likeliest for it.
//!
//! ```text
//! x -> router -> softmax -> the likeliest few, their shares
//! tokens, sorted by expert -> expert -> times share -> added up per token
//! ```
//!
//! Work grows with the experts that a token is sent to, not with those there are: tokens are sorted by expert, each
//! expert sees its own as one matrix, and one that nobody is sent to costs nothing. Names and numbers are those of
//! transformers' Qwen3-MoE.

use std::iter;

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::BackendError;
use crate::block::Around;
use crate::feed::{Gated, KeptGated, nothing};
use crate::lora::{Linear, Mode};

/// The experts of a layer and their router.
#[derive(Debug)]
pub(crate) struct Experts {
    pub(crate) router: Linear,
    pub(crate) each: Vec<Gated>,
    /// Experts that each token is sent to.
    pub(crate) chosen: i64,
    /// Their shares are scaled to add up to one.
    pub(crate) normed: bool,
}

/// What the experts keep for their backward pass.
#[derive(Debug)]
pub(crate) struct KeptExperts {
    routing: Routing,
    /// Of each expert that tokens were sent to.
    kept: Vec<KeptGated>,
}

/// Which token goes where.
#[derive(Debug)]
struct Routing {
    /// Each expert's probability, `[tokens, experts]`, `f32`.
    all: Tensor,
    /// The likeliest of each token, `[tokens, chosen]`.
    experts: Tensor,
    /// Their shares, of the same shape.
    shares: Tensor,
    /// What the probabilities were divided by to make shares, `[tokens, 1]`.
    sums: Option<Tensor>,
    /// Places in `shares`, counted row by row, in the order of the experts they belong to.
    order: Tensor,
    /// The token at each of these places.
    rows: Tensor,
    /// Tokens sent to each expert.
    counts: Vec<i64>,
}

/// The tokens of one expert: its number, and where they lie in the order.
struct Run {
    expert: usize,
    start: i64,
    count: i64,
}

impl Routing {
    /// The experts that tokens were sent to.
    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut start = 0;
        let all = self.counts.iter().enumerate().map(move |(expert, count)| {
            let run = Run {
                expert,
                start,
                count: *count,
            };
            start += count;
            run
        });
        all.filter(|run| run.count > 0)
    }

    /// The shares in that order, `[places, 1]`.
    fn sorted_shares(&self) -> Result<Tensor, BackendError> {
        let flat = self.shares.f_reshape([-1, 1])?;
        Ok(flat.f_index_select(0, &self.order)?)
    }
}

impl Experts {
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        iter::once(&self.router).chain(self.each.iter().flat_map(Gated::linears))
    }

    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        iter::once(&mut self.router).chain(self.each.iter_mut().flat_map(Gated::linears_mut))
    }

    fn route(&self, x: &Tensor, mode: Mode) -> Result<Routing, BackendError> {
        let logits = self.router.forward(x, mode)?;
        let all = logits.f_softmax(-1, Kind::Float)?;
        let (top, experts) = all.f_topk(self.chosen, -1, true, true)?;
        let sums = if self.normed {
            Some(top.f_sum_dim_intlist(-1, true, Kind::Float)?)
        } else {
            None
        };
        let shares = match &sums {
            Some(sums) => top.f_div(sums)?,
            None => top,
        };
        // Some numbers a token: sorting them here costs less than the many small operations that would.
        let flat = Place::PROCESSOR.put(&experts)?.f_reshape([-1])?;
        let mut places = vec![0_i64; flat.numel()];
        flat.f_copy_data(&mut places, flat.numel())?;
        let (counts, order) = sorted(&places, self.each.len());
        let rows: Vec<i64> = order.iter().map(|place| place / self.chosen).collect();
        let there = |list: &[i64]| Place::of(x).of_slice(list);
        Ok(Routing {
            shares: shares.f_to_kind(mode.kind)?,
            order: there(&order)?,
            rows: there(&rows)?,
            all,
            experts,
            sums,
            counts,
        })
    }

    /// Sends each row of `x` through its experts. Where `keep`, returns what [`Self::backward`] needs.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        around: &Around,
        keep: bool,
    ) -> Result<(Tensor, Option<KeptExperts>), BackendError> {
        let mode = around.mode;
        let routing = self.route(x, mode)?;
        if let Some(balance) = &around.balance {
            balance.gather(&routing.all, &routing.counts)?;
        }
        let shares = routing.sorted_shares()?;
        let mut result = Place::of(x).zeros(&x.size(), mode.kind)?;
        let mut all_kept = Vec::new();
        for Run {
            expert,
            start,
            count,
        } in routing.runs()
        {
            let rows = routing.rows.f_narrow(0, start, count)?;
            let own = x.f_index_select(0, &rows)?;
            let (out, kept) = self.each[expert].forward(own, mode)?;
            let out = out.f_mul(&shares.f_narrow(0, start, count)?)?;
            result = result.f_index_add_(0, &rows, &out)?;
            if keep {
                all_kept.push(kept);
            }
        }
        let kept = keep.then_some(KeptExperts {
            routing,
            kept: all_kept,
        });
        Ok((result, kept))
    }

    /// Adds to the gradients of what trains, given the input `x` and the gradient `out` of the result. Returns that of `x`.
    pub(crate) fn backward(
        &self,
        kept: KeptExperts,
        out: &Tensor,
        x: &Tensor,
        around: &Around,
    ) -> Result<Tensor, BackendError> {
        let mode = around.mode;
        let KeptExperts { routing, kept } = kept;
        let shares = routing.sorted_shares()?;
        let mut sum = Place::of(x).zeros(&x.size(), mode.kind)?;
        let mut for_shares = Vec::with_capacity(kept.len());
        for (run, kept) in routing.runs().zip(kept) {
            let rows = routing.rows.f_narrow(0, run.start, run.count)?;
            let own = out.f_index_select(0, &rows)?.f_to_kind(mode.kind)?;
            let share = shares.f_narrow(0, run.start, run.count)?;
            let input = || Ok(x.f_index_select(0, &rows)?);
            let expert = &self.each[run.expert];
            let (part, for_share) = expert.backward(kept, &own, &input, Some(&share), mode)?;
            sum = sum.f_index_add_(0, &rows, &part)?;
            for_shares.push(for_share.ok_or_else(nothing)?);
        }
        let logits = routing.backward(&Tensor::f_cat(&for_shares, 0)?, around)?;
        let sum = self.router.backward(x, &logits, Some(sum), true, mode)?;
        sum.ok_or_else(nothing)
    }
}

impl Routing {
    /// The gradient of the router's result from that of the shares, which come in the order of the experts.
    fn backward(&self, for_shares: &Tensor, around: &Around) -> Result<Tensor, BackendError> {
        let by_token = for_shares
            .f_zeros_like()?
            .f_index_copy(0, &self.order, for_shares)?
            .f_view_as(&self.shares)?;
        let for_top = match &self.sums {
            None => by_token,
            // share = p / sum: d p = (d share - sum over shares of (d share * share)) / sum
            Some(sums) => {
                let shares = self.shares.f_to_kind(Kind::Float)?;
                let along = by_token
                    .f_mul(&shares)?
                    .f_sum_dim_intlist(-1, true, Kind::Float)?;
                by_token.f_sub(&along)?.f_div(sums)?
            }
        };
        let mut for_all = self
            .all
            .f_zeros_like()?
            .f_scatter(1, &self.experts, &for_top)?;
        if let Some(row) = around.balance.as_ref().and_then(|b| b.row()) {
            for_all = for_all.f_add_(row)?;
        }
        // Through the softmax: d logit = p * (d p - sum of (d p * p)).
        let along = for_all
            .f_mul(&self.all)?
            .f_sum_dim_intlist(-1, true, Kind::Float)?;
        Ok(for_all.f_sub_(&along)?.f_mul_(&self.all)?)
    }
}

/// How often each of `kinds` numbers stands in `places`, and the positions in `places` in the order of their numbers.
fn sorted(places: &[i64], kinds: usize) -> (Vec<i64>, Vec<i64>) {
    let mut counts = vec![0_i64; kinds];
    for expert in places {
        counts[*expert as usize] += 1;
    }
    let mut next: Vec<usize> = counts
        .iter()
        .scan(0, |start, count| {
            let own = *start;
            *start += *count as usize;
            Some(own)
        })
        .collect();
    let mut order = vec![0; places.len()];
    for (position, expert) in places.iter().enumerate() {
        let slot = &mut next[*expert as usize];
        order[*slot] = position as i64;
        *slot += 1;
    }
    (counts, order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_sorted_by_expert_and_keep_their_order_within_one() {
        let (counts, order) = sorted(&[2, 0, 3, 2, 0, 2], 5);
        assert_eq!(counts, [2, 0, 3, 1, 0]);
        assert_eq!(order, [1, 4, 0, 3, 5, 2]);
    }
}
