//! Arithmetic and text as Python and numpy have it, to the last bit.

/// Whether Python's `str.split` and `str.rstrip` take `c` for a blank.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `round(value, 4)`.
pub(crate) fn rounded(value: f64) -> f64 {
    // Both print the exact value of the number, and a tie goes to the even digit.
    format!("{value:.4}").parse().unwrap_or(value)
}

/// `numpy.mean`.
pub(crate) fn mean(values: &[f64]) -> f64 {
    pairwise(values) / values.len() as f64
}

/// The sum in the order in which numpy adds.
fn pairwise(values: &[f64]) -> f64 {
    const BLOCK: usize = 128;
    let count = values.len();
    if count < 8 {
        return values.iter().sum();
    }
    if count > BLOCK {
        let half = count / 2;
        let half = half - half % 8;
        return pairwise(&values[..half]) + pairwise(&values[half..]);
    }
    let mut sums = [0.0; 8];
    sums.copy_from_slice(&values[..8]);
    let whole = count - count % 8;
    for eight in values[8..whole].chunks_exact(8) {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += value;
        }
    }
    let pairs: Vec<f64> = sums.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
    let sum = (pairs[0] + pairs[1]) + (pairs[2] + pairs[3]);
    values[whole..].iter().fold(sum, |sum, value| sum + value)
}

/// `math.fsum`: the sum rounded once.
pub(crate) fn exact_sum(values: &[f64]) -> f64 {
    // Partial sums that do not overlap, smallest first.
    let mut parts: Vec<f64> = Vec::new();
    for &value in values {
        let mut value = value;
        parts.retain_mut(|part| {
            let (large, small) = if value.abs() < part.abs() {
                (*part, value)
            } else {
                (value, *part)
            };
            value = large + small;
            *part = small - (value - large);
            *part != 0.0
        });
        parts.push(value);
    }
    let Some(mut sum) = parts.pop() else {
        return 0.0;
    };
    let mut lost = 0.0;
    while let Some(part) = parts.pop() {
        let before = sum;
        sum = before + part;
        lost = part - (sum - before);
        if lost != 0.0 {
            break;
        }
    }
    // A tie is decided by what lies below it.
    if let Some(below) = parts.last()
        && ((lost < 0.0 && *below < 0.0) || (lost > 0.0 && *below > 0.0))
    {
        let twice = lost * 2.0;
        let raised = sum + twice;
        if ((raised - sum) - twice).abs() == 0.0 {
            sum = raised;
        }
    }
    sum
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the same bits are wanted")]
mod tests {
    use super::*;

    #[test]
    fn ties_are_rounded_to_the_even_digit() {
        // As Python 3.11 prints them.
        for (value, wanted) in [
            (0.03125, 0.0312),
            (0.09375, 0.0938),
            (3.00005, 3.0),
            (1e-9, 0.0),
        ] {
            assert_eq!(rounded(value), wanted, "{value}");
        }
    }

    #[test]
    fn sums_are_rounded_once() {
        assert_eq!(exact_sum(&[]), 0.0);
        assert_eq!(exact_sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(exact_sum(&[0.1; 10]), 1.0);
        // As `math.fsum([1e16, 1, 1e-16])` prints it.
        assert_eq!(exact_sum(&[1e16, 1.0, 1e-16]), 10_000_000_000_000_002.0);
    }

    #[test]
    fn a_mean_adds_in_the_order_of_numpy() {
        // `numpy.mean(1 / numpy.arange(1, n + 1))` of numpy 2.4.
        let mean_of = |count: u32| {
            let values: Vec<f64> = (1..=count).map(|n| 1.0 / f64::from(n)).collect();
            mean(&values)
        };
        for (count, wanted) in MEANS {
            assert_eq!(mean_of(count), wanted, "{count}");
        }
    }

    const MEANS: [(u32, f64); 4] = [
        (7, 0.370_408_163_265_306_07),
        (100, 0.051_873_775_176_396_21),
        (129, 0.042_177_511_864_912_164),
        (1000, 0.007_485_470_860_550_345),
    ];
}
