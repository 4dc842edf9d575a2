//! A pass forward and back, layer by layer, without libtorch's graph of the whole.
//!
//! Each layer keeps what [`Block::backward`] needs, or, where activations are recomputed, its input alone. Layers below
//! the lowest one that trains keep nothing and are not gone back through.

use tch::Tensor;
use torch_device::Place;

use crate::balance::Balance;
use crate::block::{Around, Kept};
use crate::model::{Model, Pass};
use crate::{BackendError, gradient, head};

/// What a layer leaves for the way back.
enum Trail {
    Input(Tensor),
    Kept(Box<Kept>),
}

impl Model {
    /// Computes a pass, asks `loss` for a value and its gradient, and adds to the gradients of everything that trains.
    ///
    /// `loss` gets the rows of the wanted positions behind the last norm, `[wanted, hidden]`; [`Self::head`] makes logits
    /// of them. It runs without libtorch's recording, and returns a gradient of the rows' shape.
    pub fn learn<T>(
        &self,
        pass: &Pass,
        loss: impl FnOnce(&Tensor) -> Result<(T, Tensor), BackendError>,
    ) -> Result<T, BackendError> {
        let (value, _) = tch::no_grad(|| self.go_and_return(pass, None, loss))?;
        Ok(value)
    }

    /// Adds the gradients of the cross-entropy at the wanted positions, each divided by `items`, and of the loss of how
    /// evenly experts are used, counted `even` times, where the model has one; returns the sum.
    pub(crate) fn learn_tokens(
        &self,
        pass: &Pass,
        targets: &[i64],
        items: f64,
        even: f64,
    ) -> Result<f64, BackendError> {
        let vocabulary = 0..self.config.vocabulary;
        if targets.len() != pass.wanted.len() || targets.iter().any(|t| !vocabulary.contains(t)) {
            return Err(BackendError::BadBatch {
                reason: "a label is not in the model's vocabulary".to_owned(),
            });
        }
        let targets = self.place().of_slice(targets)?;
        let balance = self.balance().map(|balance| balance.times(even));
        let loss = |rows: &Tensor| {
            let owed = match &self.output {
                Some(_) => self.owed.output.as_ref(),
                None => self.owed.embedding.as_ref(),
            };
            let matrix = (self.output_matrix(), owed);
            head::cross_entropy(rows, matrix, &targets, items, self.kind())
        };
        let (value, uneven) = tch::no_grad(|| self.go_and_return(pass, balance, loss))?;
        Ok(value + uneven)
    }

    /// Like [`Self::learn`], with a loss that libtorch differentiates: `loss` gets the logits of the wanted positions and
    /// returns a number. Only the output layer and the loss are recorded.
    pub fn learn_from_logits(
        &self,
        pass: &Pass,
        loss: impl FnOnce(&Tensor) -> Result<Tensor, BackendError>,
    ) -> Result<f64, BackendError> {
        self.learn(pass, |rows| {
            let rows = rows.f_detach()?.f_set_requires_grad(true)?;
            let value = tch::with_grad(|| {
                let value = loss(&self.head(&rows)?)?;
                value.f_backward()?;
                Ok::<_, BackendError>(value)
            })?;
            Ok((value.f_double_value(&[])?, rows.f_grad()?))
        })
    }

    /// Returns the value of `loss`, and that of `balance`.
    fn go_and_return<T>(
        &self,
        pass: &Pass,
        balance: Option<Balance>,
        loss: impl FnOnce(&Tensor) -> Result<(T, Tensor), BackendError>,
    ) -> Result<(T, f64), BackendError> {
        self.check(pass)?;
        let mut around = self.around(pass, self.mode(true))?;
        around.balance = balance;
        let tokens = self.place().of_slice(&pass.tokens)?;
        let first = self.lowest();
        let mut x = self.embedded(&tokens)?;
        let mut trails = Vec::with_capacity(self.blocks.len());
        for (number, block) in self.blocks.iter().enumerate() {
            let keep = number >= first && !self.holding.recompute;
            let input = x.shallow_clone();
            let (next, kept) = block.forward(x, &around, None, keep)?;
            x = next;
            match kept {
                Some(kept) => trails.push(Trail::Kept(Box::new(kept))),
                None if number >= first => trails.push(Trail::Input(input)),
                None => {}
            }
        }
        let uneven = around.balance.as_ref().map_or(Ok(0.0), Balance::settle)?;
        let wanted = self.place().of_slice(&pass.wanted)?;
        let rows = x.f_index_select(0, &wanted)?;
        drop(x);
        let (value, out) = loss(&self.norm.forward(&rows)?)?;
        let part = self.norm.backward(&rows, &out)?;
        let count = pass.tokens.len() as i64;
        let mut out = Place::of(&rows).zeros(&[count, rows.size()[1]], rows.kind())?;
        drop(rows);
        let out = out.f_index_add_(0, &wanted, &part)?;
        if let Some(out) = self.go_back(trails, out, &around, first)? {
            self.reach_embedding(&tokens, &out)?;
        }
        Ok((value, uneven))
    }

    /// The lowest layer whose gradients are wanted; zero where the embedding trains.
    fn lowest(&self) -> usize {
        if self.embedding.requires_grad() {
            return 0;
        }
        let trains = self.blocks.iter().position(crate::block::Block::trains);
        trains.unwrap_or(self.blocks.len())
    }

    fn go_back(
        &self,
        trails: Vec<Trail>,
        mut out: Tensor,
        around: &Around,
        first: usize,
    ) -> Result<Option<Tensor>, BackendError> {
        let below = self.embedding.requires_grad();
        for (number, trail) in (first..self.blocks.len()).zip(trails).rev() {
            let block = &self.blocks[number];
            let kept = match trail {
                Trail::Kept(kept) => *kept,
                Trail::Input(input) => {
                    let (_, kept) = block.forward(input, around, None, true)?;
                    kept.ok_or_else(|| BackendError::Library("a layer kept nothing".to_owned()))?
                }
            };
            match block.backward(kept, out, around, number > first || below)? {
                Some(next) => out = next,
                None => return Ok(None),
            }
        }
        Ok(Some(out))
    }

    fn reach_embedding(&self, tokens: &Tensor, out: &Tensor) -> Result<(), BackendError> {
        if !self.embedding.requires_grad() {
            return Ok(());
        }
        if let Some(owed) = &self.owed.embedding {
            owed.add_rows(&self.embedding, tokens, out)?;
        } else {
            let mut gradient = gradient::of(&self.embedding)?;
            let _ = gradient.f_index_add_(0, tokens, &out.f_to_kind(gradient.kind())?)?;
        }
        Ok(())
    }
}
