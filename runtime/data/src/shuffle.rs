//! A shuffle of what does not fit into memory, as `datasets` shuffles a stream: what comes next is drawn from a buffer.

use crate::numpy::Generator;

/// Draws at a time. The original draws so many ahead, which shows in what the rest of the buffer is shuffled by.
const AHEAD: usize = 1000;

/// A stream shuffled through a buffer. An error comes at once.
pub(crate) struct Shuffled<I, T> {
    inner: I,
    size: usize,
    generator: Generator,
    ahead: std::vec::IntoIter<usize>,
    buffer: Vec<T>,
    /// The stream has ended, and the buffer is shuffled and turned round.
    ended: bool,
}

impl<I, T> Shuffled<I, T> {
    /// Shuffles `inner` through a buffer of `size`.
    pub(crate) fn new(inner: I, size: usize, generator: Generator) -> Self {
        Self {
            inner,
            size: size.max(1),
            generator,
            ahead: Vec::new().into_iter(),
            buffer: Vec::new(),
            ended: false,
        }
    }

    fn draw(&mut self) -> usize {
        if let Some(drawn) = self.ahead.next() {
            return drawn;
        }
        let drawn: Vec<usize> = (0..AHEAD)
            .map(|_| self.generator.below(self.size))
            .collect();
        self.ahead = drawn.into_iter();
        self.ahead.next().unwrap_or(0)
    }
}

impl<I: Iterator<Item = Result<T, E>>, T, E> Iterator for Shuffled<I, T> {
    type Item = Result<T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let item = match self.inner.next() {
                Some(Ok(item)) => item,
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.generator.shuffle(&mut self.buffer);
                    self.buffer.reverse();
                    self.ended = true;
                    break;
                }
            };
            if self.buffer.len() < self.size {
                self.buffer.push(item);
                continue;
            }
            let drawn = self.draw();
            return Some(Ok(std::mem::replace(&mut self.buffer[drawn], item)));
        }
        self.buffer.pop().map(Ok)
    }
}

/// The generator of an epoch of a stream, as `datasets` makes it of a seed.
pub(crate) fn generator(seed: u64, epoch: u64) -> Generator {
    let mut first = Generator::new(seed);
    if epoch == 0 {
        return first;
    }
    // A number of 63 bits, and from there down, round and round.
    let drawn = first.next_u64() >> 1;
    Generator::new(drawn.wrapping_sub(epoch) & (u64::MAX >> 1))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn streams_come_in_the_originals_order() {
        let text = include_str!("../../../tests/golden/vectors/numpy.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let cases = vectors["shuffles"].as_array().unwrap();
        assert!(cases.len() > 5);
        for case in cases {
            let number = |name: &str| case[name].as_u64().unwrap();
            let generator = generator(number("seed"), number("epoch"));
            let stream = (0..number("count")).map(Ok::<_, ()>);
            let stream = Shuffled::new(stream, number("buffer") as usize, generator);
            let expected: Vec<u64> = serde_json::from_value(case["order"].clone()).unwrap();
            assert_eq!(
                stream.collect::<Result<Vec<_>, _>>(),
                Ok(expected),
                "{case}"
            );
        }
    }
}
