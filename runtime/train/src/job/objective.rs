//! What a job's loss compares.

use super::error::JobError;
use super::fields::Fields;

/// What a loss is computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Objective {
    /// Each label token by itself (`pt`, `sft`).
    #[default]
    Tokens,
    /// Which of two answers deserves the greater reward (`rm`).
    Reward,
    /// Two answers to a question (`dpo`).
    Preference(PreferenceSettings),
    /// One answer that was called good or bad (`kto`).
    Feedback(FeedbackSettings),
}

impl Objective {
    /// Whether answers are compared with those of the model before training.
    pub fn needs_reference(self) -> bool {
        match self {
            Self::Tokens | Self::Reward => false,
            Self::Preference(settings) => settings.loss.needs_reference(),
            Self::Feedback(_) => true,
        }
    }
}

/// How two answers are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreferenceSettings {
    /// The loss.
    pub loss: PreferenceLoss,
    /// How strongly the model is held to where it came from.
    pub beta: f64,
    /// Chance that a comparison is wrong; only with [`PreferenceLoss::Sigmoid`].
    pub smoothing: f64,
    /// Weight of the preferred answer's own loss beside.
    pub ftx: f64,
    /// By how much the preferred answer should be likelier; only with [`PreferenceLoss::Simpo`].
    pub gamma: f64,
    /// Weight of an answer's tokens beyond the length of the other answer (LD-DPO); none: that of all others.
    pub tail: Option<f64>,
}

/// A loss over two answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PreferenceLoss {
    /// DPO.
    #[default]
    Sigmoid,
    /// DPO with a hinge.
    Hinge,
    /// IPO.
    Ipo,
    /// ORPO, which needs no reference.
    Orpo,
    /// `SimPO`, which needs no reference.
    Simpo,
}

impl PreferenceLoss {
    /// Every loss with its name in a job file.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("sigmoid", Self::Sigmoid),
        ("hinge", Self::Hinge),
        ("ipo", Self::Ipo),
        ("orpo", Self::Orpo),
        ("simpo", Self::Simpo),
    ];

    /// Whether answers are compared with those of the model before training.
    pub fn needs_reference(self) -> bool {
        !matches!(self, Self::Orpo | Self::Simpo)
    }

    /// Whether an answer counts by the mean of its tokens, not by their sum.
    pub fn averages(self) -> bool {
        matches!(self, Self::Ipo | Self::Orpo | Self::Simpo)
    }
}

/// How judgements are learnt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedbackSettings {
    /// How strongly the model is held to where it came from.
    pub beta: f64,
    /// Weight of good answers.
    pub desirable_weight: f64,
    /// Weight of bad answers.
    pub undesirable_weight: f64,
    /// Weight of the good answers' own loss beside.
    pub ftx: f64,
}

pub(super) fn objective(fields: &Fields) -> Result<Objective, JobError> {
    match fields.text("stage")?.as_deref() {
        Some("rm") => Ok(Objective::Reward),
        Some("dpo") => preference(fields).map(Objective::Preference),
        Some("kto") => Ok(Objective::Feedback(FeedbackSettings {
            beta: beta(fields)?,
            desirable_weight: fields.number("kto_chosen_weight", 1.0, 1e6)?,
            undesirable_weight: fields.number("kto_rejected_weight", 1.0, 1e6)?,
            ftx: fields.number("pref_ftx", 0.0, 1e6)?,
        })),
        _ => Ok(Objective::Tokens),
    }
}

fn preference(fields: &Fields) -> Result<PreferenceSettings, JobError> {
    let loss = match fields.text("pref_loss")? {
        None => PreferenceLoss::default(),
        Some(name) => {
            let known = PreferenceLoss::NAMES;
            let found = known.iter().find(|(known, _)| *known == name);
            let names = known.map(|(name, _)| name).join(", ");
            found
                .map(|(_, loss)| *loss)
                .ok_or_else(|| fields.wrong("pref_loss", &format!("one of {names}")))?
        }
    };
    let smoothing = fields.number("dpo_label_smoothing", 0.0, 0.5)?;
    if smoothing > 0.0 && loss != PreferenceLoss::Sigmoid {
        return Err(fields.conflict("dpo_label_smoothing", "pref_loss"));
    }
    Ok(PreferenceSettings {
        loss,
        beta: beta(fields)?,
        smoothing,
        ftx: fields.number("pref_ftx", 0.0, 1e6)?,
        gamma: fields.number("simpo_gamma", 0.5, 1e6)?,
        tail: match fields.text("ld_alpha")? {
            None => None,
            Some(_) => Some(fields.number("ld_alpha", 0.0, 1e3)?),
        },
    })
}

/// Some losses divide by it.
fn beta(fields: &Fields) -> Result<f64, JobError> {
    let beta = fields.number("pref_beta", 0.1, 1e6)?;
    if beta <= 0.0 {
        return Err(fields.wrong("pref_beta", "a number above 0"));
    }
    Ok(beta)
}
