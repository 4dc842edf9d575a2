//! Answers several clients at once, on the thread that has the model.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::{Receiver, UnboundedSender};
use torch_backend::{BackendError, Beams, Continuation, End, Generator, Made, Model, Sampling};
use train_data::{DataError, TextStream};

use super::server::Counts;
use super::stops::Stops;
use crate::talk::Voice;

/// What the engine is told.
pub(super) enum Order {
    /// To answer.
    Answer(Ask),
    /// To end. Who waits for an answer gets none.
    Stop,
}

/// A question.
pub(super) struct Ask {
    pub(super) prompt: Vec<u32>,
    /// The most tokens of the answer.
    pub(super) limit: usize,
    pub(super) sampling: Sampling,
    /// Words that end the answer.
    pub(super) stops: Vec<String>,
    /// Where the answer goes. It is given up when nobody listens any more.
    pub(super) replies: UnboundedSender<Reply>,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// Text that goes on.
    Piece(String),
    /// The end, and what it took.
    End(Finish),
    /// There will be no more, because of this.
    Fault(String),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Finish {
    /// By a token or a word; else by its limit.
    pub(super) complete: bool,
    pub(super) prompt_tokens: usize,
    pub(super) answer_tokens: usize,
}

/// Computes answers.
pub(super) struct Engine<'a> {
    pub(super) model: &'a Model,
    pub(super) voice: &'a Voice,
    /// Answers at a time.
    pub(super) most: usize,
    pub(super) stop: &'a AtomicBool,
    pub(super) counts: &'a Counts,
}

/// An answer that is being made.
struct Answer<'a> {
    replies: UnboundedSender<Reply>,
    text: TextStream<'a>,
    stops: Stops,
    /// The token that ends the answer is shown, too.
    shows_end: bool,
    prompt_tokens: usize,
    made_tokens: usize,
}

impl Engine<'_> {
    /// Answers until it is told to stop.
    pub(super) fn run(&self, mut orders: Receiver<Order>) {
        let mut generator = Generator::new(self.model);
        let mut answers: HashMap<u64, Answer<'_>> = HashMap::new();
        while !self.stop.load(Ordering::Relaxed) {
            while generator.count() < self.most {
                // Asleep while there is nothing to do.
                let order = if generator.count() == 0 {
                    orders.blocking_recv()
                } else {
                    orders.try_recv().ok()
                };
                match order {
                    Some(Order::Answer(ask)) => self.admit(ask, &mut generator, &mut answers),
                    Some(Order::Stop) => return,
                    None if generator.count() == 0 => return,
                    None => break,
                }
            }
            answers.retain(|text, answer| {
                let heard = !answer.replies.is_closed();
                if !heard {
                    generator.dismiss(*text);
                }
                heard
            });
            match generator.step() {
                Ok(made) => {
                    for made in made {
                        self.tell(made, &mut generator, &mut answers);
                    }
                }
                Err(error) => {
                    for (text, answer) in answers.drain() {
                        generator.dismiss(text);
                        let _gone = answer.replies.send(Reply::Fault(error.to_string()));
                    }
                }
            }
            self.counts.active.store(answers.len(), Ordering::Relaxed);
        }
    }

    fn admit<'a>(
        &'a self,
        ask: Ask,
        generator: &mut Generator<'_>,
        answers: &mut HashMap<u64, Answer<'a>>,
    ) {
        if ask.replies.is_closed() {
            return;
        }
        let prompt_tokens = ask.prompt.len();
        let admitted: Result<u64, BackendError> = generator.admit(Continuation {
            prompt: ask.prompt.into_iter().map(i64::from).collect(),
            limit: ask.limit,
            ends: self.voice.ends.clone(),
            sampling: ask.sampling,
            beams: Beams::of_job(&self.voice.generation),
        });
        match admitted {
            Ok(text) => {
                let answer = Answer {
                    replies: ask.replies,
                    text: TextStream::new(&self.voice.tokenizer)
                        .skipping_special(self.voice.generation.skip_special_tokens),
                    shows_end: !self.voice.generation.skip_special_tokens,
                    stops: Stops::new(ask.stops),
                    prompt_tokens,
                    made_tokens: 0,
                };
                answers.insert(text, answer);
            }
            Err(error) => {
                let _gone = ask.replies.send(Reply::Fault(error.to_string()));
            }
        }
    }

    fn tell(
        &self,
        made: Made,
        generator: &mut Generator<'_>,
        answers: &mut HashMap<u64, Answer<'_>>,
    ) {
        let Some(answer) = answers.get_mut(&made.text) else {
            return;
        };
        let over = match answer.take(made) {
            Ok(over) => over,
            Err(error) => {
                let _gone = answer.replies.send(Reply::Fault(error.to_string()));
                true
            }
        };
        if over {
            generator.dismiss(made.text);
            answers.remove(&made.text);
            self.counts.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Answer<'_> {
    /// Adds a token, and tells what it completes. Returns whether the answer has ended.
    fn take(&mut self, made: Made) -> Result<bool, DataError> {
        self.made_tokens += 1;
        let mut piece = String::new();
        if made.ended != Some(End::Token) || self.shows_end {
            // A model's token fits: it was chosen from its vocabulary.
            piece = self
                .text
                .push(u32::try_from(made.token).unwrap_or_default())?;
        }
        if made.ended.is_some() {
            piece.push_str(&self.text.finish()?);
        }
        let (mut ready, stopped) = self.stops.push(&piece);
        let over = stopped || made.ended.is_some();
        if over && !stopped {
            ready.push_str(&self.stops.finish());
        }
        if !ready.is_empty() {
            let _gone = self.replies.send(Reply::Piece(ready));
        }
        if over {
            let _gone = self.replies.send(Reply::End(Finish {
                complete: stopped || made.ended == Some(End::Token),
                prompt_tokens: self.prompt_tokens,
                answer_tokens: self.made_tokens,
            }));
        }
        Ok(over)
    }
}
