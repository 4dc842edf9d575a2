//! Steps shown as bars on a terminal, and as calm lines anywhere else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use report::Event;

use crate::Language;
use crate::catalog::text;

/// Shows events to a person.
pub(crate) enum Progress {
    /// One bar a running step.
    Bars {
        all: MultiProgress,
        running: HashMap<Key, ProgressBar>,
        training: Option<ProgressBar>,
    },
    /// A line as a step starts and ends, and one every 30 s in between.
    Lines { running: HashMap<Key, Line> },
}

type Key = (String, String);

/// A step that is shown as lines.
pub(crate) struct Line {
    total: Option<u64>,
    bytes: bool,
    started: Instant,
    said: Instant,
    done: u64,
}

impl Progress {
    /// Bars, or lines where the terminal can draw none (`TERM` is `dumb` or not set): there a bar would swallow every line
    /// that is to stand above it, errors too.
    pub(crate) fn bars() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        if all.is_hidden() {
            return Self::lines();
        }
        Self::Bars {
            all,
            running: HashMap::new(),
            training: None,
        }
    }

    pub(crate) fn lines() -> Self {
        Self::Lines {
            running: HashMap::new(),
        }
    }

    /// Prints a line for people without tearing a bar.
    pub(crate) fn line(&self, line: &str) {
        match self {
            Self::Bars { all, .. } => {
                // A broken pipe must not stop the work.
                let _ = all.println(line);
            }
            Self::Lines { .. } => crate::view::to_people(line),
        }
    }

    /// Shows one event. Quick steps without a known size are not worth a line unless `verbose`.
    pub(crate) fn show(&mut self, language: Language, event: &Event, verbose: bool) {
        match event {
            Event::StepStarted {
                step,
                subject,
                total,
                unit,
            } => {
                self.start(language, step, subject, *total, unit, verbose);
            }
            Event::Progress {
                step,
                subject,
                done,
            } => self.advance(language, step, subject, *done),
            Event::StepFinished { step, subject } => self.finish(language, step, subject, verbose),
            Event::Warned { code, args } => {
                let warning = text(language, code, args).map_or_else(|| code.clone(), |t| t.text);
                let label = match language {
                    Language::Zh => "警告",
                    Language::En => "warning",
                };
                self.line(&format!("{label}: {warning}"));
            }
            Event::TrainStep {
                step,
                total,
                loss,
                learning_rate,
                tokens_per_second,
            } => {
                let said = format!(
                    "{step}/{total}  loss {loss:.4}  lr {learning_rate:.2e}  {tokens_per_second:.0} tok/s"
                );
                match self {
                    Self::Bars { all, training, .. } => {
                        let bar = training.get_or_insert_with(|| {
                            all.add(ProgressBar::new(*total).with_style(style(
                                "{bar:24} {percent:>3}%  {msg}  {elapsed} < {eta}",
                            )))
                        });
                        bar.set_message(said);
                        bar.set_position(*step);
                        if step == total {
                            bar.finish();
                            *training = None;
                        }
                    }
                    Self::Lines { .. } => self.line(&said),
                }
            }
            _ => {}
        }
    }

    fn start(
        &mut self,
        language: Language,
        step: &str,
        subject: &str,
        total: Option<u64>,
        unit: &str,
        verbose: bool,
    ) {
        let label = label(language, step, subject);
        let bytes = unit == "bytes";
        let key = (step.to_owned(), subject.to_owned());
        match self {
            Self::Bars { all, running, .. } => {
                let template = match (total, bytes) {
                    (Some(_), true) => {
                        "{msg}  {bar:24} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}"
                    }
                    (Some(_), false) => "{msg}  {bar:24} {pos}/{len}  {eta}",
                    (None, true) => "{msg}  {spinner} {binary_bytes}  {binary_bytes_per_sec}",
                    (None, false) => "{msg}  {spinner} {elapsed}",
                };
                let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
                let bar = all.add(bar.with_style(style(template)).with_message(label));
                bar.enable_steady_tick(Duration::from_millis(200));
                running.insert(key, bar);
            }
            Self::Lines { running } => {
                let now = Instant::now();
                running.insert(
                    key,
                    Line {
                        total,
                        bytes,
                        started: now,
                        said: now,
                        done: 0,
                    },
                );
                if verbose || total.is_none() {
                    self.line(&format!("{label} …"));
                }
            }
        }
    }

    fn advance(&mut self, language: Language, step: &str, subject: &str, done: u64) {
        let key = (step.to_owned(), subject.to_owned());
        let said = match self {
            Self::Bars { running, .. } => {
                if let Some(bar) = running.get(&key) {
                    bar.set_position(done);
                }
                None
            }
            Self::Lines { running } => running.get_mut(&key).and_then(|line| {
                line.done = done;
                if line.said.elapsed() < CALM {
                    return None;
                }
                line.said = Instant::now();
                Some(format!(
                    "{}  {}",
                    label(language, step, subject),
                    line.figures()
                ))
            }),
        };
        if let Some(said) = said {
            self.line(&said);
        }
    }

    fn finish(&mut self, language: Language, step: &str, subject: &str, verbose: bool) {
        let key = (step.to_owned(), subject.to_owned());
        match self {
            Self::Bars { all, running, .. } => {
                if let Some(bar) = running.remove(&key) {
                    let slow = bar.elapsed() > Duration::from_millis(300);
                    bar.finish_and_clear();
                    all.remove(&bar);
                    if slow || verbose {
                        self.line(&format!("✓ {}", label(language, step, subject)));
                    }
                }
            }
            Self::Lines { running } => {
                if let Some(line) = running.remove(&key) {
                    let figures = line.figures();
                    self.line(&format!("✓ {}  {figures}", label(language, step, subject)));
                }
            }
        }
    }
}

impl Line {
    fn figures(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let done = self.done;
        if !self.bytes {
            return format!("{seconds:.1} s");
        }
        let rate = HumanBytes((done as f64 / seconds.max(0.001)) as u64);
        match self.total {
            Some(total) => {
                format!(
                    "{} / {}  {rate}/s  {seconds:.1} s",
                    HumanBytes(done),
                    HumanBytes(total)
                )
            }
            None => format!("{}  {rate}/s  {seconds:.1} s", HumanBytes(done)),
        }
    }
}

fn label(language: Language, step: &str, subject: &str) -> String {
    let args = [("subject", subject.to_owned())];
    text(language, step, &args).map_or_else(
        || format!("{step} {subject}").trim().to_owned(),
        |found| found.text,
    )
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}

/// How long a step may work in silence where there are no bars.
const CALM: Duration = Duration::from_secs(30);
