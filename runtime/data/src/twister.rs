//! The numbers that `numpy.random.seed(seed)` and the functions of `numpy.random` draw: the Mersenne Twister.

/// Words of the state, and how far apart two are that make a third.
const STATE: usize = 624;
const APART: usize = 397;

/// The generator behind `numpy.random`.
#[derive(Clone, Debug)]
pub(crate) struct Twister {
    words: Vec<u32>,
    at: usize,
}

impl Twister {
    /// After `numpy.random.seed(seed)`.
    pub(crate) fn new(seed: u32) -> Self {
        let mut words = vec![seed];
        for number in 1..STATE {
            let before = words[number - 1];
            let next = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30));
            words.push(next.wrapping_add(number as u32));
        }
        Self { words, at: STATE }
    }

    /// The word of the state that is next, as it stands there.
    pub(crate) fn bare(&self) -> u32 {
        self.words[if self.at < STATE { self.at } else { 0 }]
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        if self.at >= STATE {
            self.renew();
        }
        let mut word = self.words[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn renew(&mut self) {
        for at in 0..STATE {
            let joined =
                (self.words[at] & 0x8000_0000) | (self.words[(at + 1) % STATE] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[at] = self.words[(at + APART) % STATE] ^ (joined >> 1) ^ odd;
        }
        self.at = 0;
    }

    /// A number up to `most`: bits again and again until they are no more than asked for.
    fn up_to(&mut self, most: usize) -> usize {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        if most == 0 {
            return 0;
        }
        let mask = u32::MAX >> most.leading_zeros();
        loop {
            let drawn = self.next_u32() & mask;
            if drawn <= most {
                return drawn as usize;
            }
        }
    }

    /// `count` records of `all`, as the original draws `num_samples`: each once, in an order by chance, then any again.
    pub(crate) fn sample(&mut self, all: usize, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..all).collect();
        for at in (1..all).rev() {
            let other = self.up_to(at);
            order.swap(at, other);
        }
        order.truncate(count);
        if all > 0 {
            let again = count - order.len();
            order.extend((0..again).map(|_| self.up_to(all - 1)));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn samples_are_those_of_the_original() {
        let text = include_str!("../../../tests/golden/vectors/samples.json");
        let cases: Vec<Value> = serde_json::from_str(text).unwrap();
        assert!(cases.len() > 3);
        for case in cases {
            let mut twister = Twister::new(case["seed"].as_u64().unwrap() as u32);
            for draw in case["draws"].as_array().unwrap() {
                let whole = |name: &str| draw[name].as_u64().unwrap() as usize;
                let wanted: Vec<usize> = serde_json::from_value(draw["order"].clone()).unwrap();
                assert_eq!(
                    twister.sample(whole("all"), whole("count")),
                    wanted,
                    "{case}"
                );
            }
        }
    }
}
