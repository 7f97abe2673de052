//! Two sides measured in turns: what else the machine does meets both, and the median forgets the worst of it.

/// What each round found of both sides, in one unit.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    rounds: Vec<(f64, f64)>,
}

impl Pairs {
    /// Adds a round: ours, and what it is compared with.
    pub fn push(&mut self, ours: f64, theirs: f64) {
        self.rounds.push((ours, theirs));
    }

    /// The median of the rounds' ratios, ours ÷ theirs.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        median(self.rounds.iter().map(|(ours, theirs)| ours / theirs))
    }

    /// The median of ours.
    #[must_use]
    pub fn ours(&self) -> f64 {
        median(self.rounds.iter().map(|(ours, _)| *ours))
    }

    /// The median of what ours is compared with.
    #[must_use]
    pub fn theirs(&self) -> f64 {
        median(self.rounds.iter().map(|(_, theirs)| *theirs))
    }

    /// The rounds' ratios from the least to the greatest, as text.
    #[must_use]
    pub fn spread(&self) -> String {
        let mut ratios: Vec<f64> = self.rounds.iter().map(|(ours, theirs)| ours / theirs).collect();
        ratios.sort_by(f64::total_cmp);
        match (ratios.first(), ratios.last()) {
            (Some(first), Some(last)) => format!("{} rounds, {first:.3} to {last:.3}", ratios.len()),
            _ => "no rounds".to_owned(),
        }
    }
}

/// The middle one, or the mean of the two in the middle; NaN of nothing.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert!(median([]).is_nan());
        assert!((median([3.0, 1.0, 100.0]) - 3.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_slow_moment_meets_both_sides() {
        let mut pairs = Pairs::default();
        for slowness in [1.0, 1.0, 7.0] {
            pairs.push(3.0 * slowness, 2.0 * slowness);
        }
        assert!((pairs.ratio() - 1.5).abs() < 1e-9);
        assert_eq!(pairs.spread(), "3 rounds, 1.500 to 1.500");
    }
}
