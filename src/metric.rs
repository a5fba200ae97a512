//! The three metrics, and values that exist once per metric.
//!
//! Owns the order of the metrics. **Nothing in this crate numbers them**: what exists three times is a
//! [`PerMetric`], which is indexed by [`Metric`].

use std::fmt;
use std::ops::{Index, IndexMut};

/// One of the three numbers known of a customer. Each has a topic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Days since the last order: the smaller, the better.
    Recency,
    /// Orders so far.
    Frequency,
    /// Money spent so far.
    Monetary,
}

impl Metric {
    /// The three, in the order of the contract.
    pub const ALL: [Metric; 3] = [Metric::Recency, Metric::Frequency, Metric::Monetary];

    /// The name of the metric and of its field in the body, whatever the topic is called.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Recency => "recency",
            Metric::Frequency => "frequency",
            Metric::Monetary => "monetary",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each of the three metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerMetric<T> {
    /// The value of recency.
    pub recency: T,
    /// The value of frequency.
    pub frequency: T,
    /// The value of monetary.
    pub monetary: T,
}

impl<T> PerMetric<T> {
    /// The value that `of` gives for each metric.
    pub fn from_fn(mut of: impl FnMut(Metric) -> T) -> Self {
        let [recency, frequency, monetary] = Metric::ALL.map(&mut of);
        Self { recency, frequency, monetary }
    }

    /// The value that `of` gives for each metric, or the first error.
    ///
    /// # Errors
    /// That of `of`.
    pub fn try_from_fn<E>(mut of: impl FnMut(Metric) -> Result<T, E>) -> Result<Self, E> {
        let (recency, frequency, monetary) =
            (of(Metric::Recency)?, of(Metric::Frequency)?, of(Metric::Monetary)?);
        Ok(Self { recency, frequency, monetary })
    }

    /// Each value, converted by `turn`.
    pub fn map<U>(self, mut turn: impl FnMut(T) -> U) -> PerMetric<U> {
        let Self { recency, frequency, monetary } = self;
        PerMetric { recency: turn(recency), frequency: turn(frequency), monetary: turn(monetary) }
    }

    /// The values by reference.
    pub fn as_ref(&self) -> PerMetric<&T> {
        PerMetric { recency: &self.recency, frequency: &self.frequency, monetary: &self.monetary }
    }

    /// Each value paired with that of `other`.
    pub fn zip<U>(self, other: PerMetric<U>) -> PerMetric<(T, U)> {
        let Self { recency, frequency, monetary } = self;
        PerMetric {
            recency: (recency, other.recency),
            frequency: (frequency, other.frequency),
            monetary: (monetary, other.monetary),
        }
    }

    /// The values in the order of [`Metric::ALL`].
    pub fn into_array(self) -> [T; 3] {
        [self.recency, self.frequency, self.monetary]
    }

    /// The metrics with their values, in the order of [`Metric::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Metric, &T)> {
        Metric::ALL.into_iter().map(|metric| (metric, &self[metric]))
    }

    /// The values, in the order of [`Metric::ALL`].
    pub fn values(&self) -> impl Iterator<Item = &T> {
        Metric::ALL.into_iter().map(|metric| &self[metric])
    }
}

impl<T> PerMetric<Option<T>> {
    /// The three values, if none is missing.
    pub fn all(self) -> Option<PerMetric<T>> {
        Some(PerMetric { recency: self.recency?, frequency: self.frequency?, monetary: self.monetary? })
    }
}

/// In the order of [`Metric::ALL`].
impl<T> From<[T; 3]> for PerMetric<T> {
    fn from([recency, frequency, monetary]: [T; 3]) -> Self {
        Self { recency, frequency, monetary }
    }
}

/// The metrics with their values, in the order of [`Metric::ALL`].
impl<T> IntoIterator for PerMetric<T> {
    type Item = (Metric, T);
    type IntoIter = std::iter::Zip<std::array::IntoIter<Metric, 3>, std::array::IntoIter<T, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        Metric::ALL.into_iter().zip(self.into_array())
    }
}

impl<T> Index<Metric> for PerMetric<T> {
    type Output = T;

    fn index(&self, metric: Metric) -> &T {
        match metric {
            Metric::Recency => &self.recency,
            Metric::Frequency => &self.frequency,
            Metric::Monetary => &self.monetary,
        }
    }
}

impl<T> IndexMut<Metric> for PerMetric<T> {
    fn index_mut(&mut self, metric: Metric) -> &mut T {
        match metric {
            Metric::Recency => &mut self.recency,
            Metric::Frequency => &mut self.frequency,
            Metric::Monetary => &mut self.monetary,
        }
    }
}

/// `12/12/11`
impl<T: fmt::Display> fmt::Display for PerMetric<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recency, frequency, monetary } = self;
        write!(f, "{recency}/{frequency}/{monetary}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_and_out_keeps_the_order() {
        let names = PerMetric::from_fn(Metric::name);
        assert_eq!(names.into_array(), ["recency", "frequency", "monetary"]);
        assert_eq!(PerMetric::from(names.into_array()), names);
        assert_eq!(names.to_string(), "recency/frequency/monetary");
        for (metric, name) in names.iter() {
            assert_eq!((names[metric], metric.name()), (*name, *name));
        }
        let mut counted = names.map(str::len);
        counted[Metric::Frequency] += 1;
        assert_eq!(counted.into_array(), [7, 10, 8]);
        assert_eq!(counted.zip(names).monetary, (8, "monetary"));
    }

    #[test]
    fn what_is_missing_of_one_is_missing_of_all() {
        assert_eq!(PerMetric::from([Some(1), Some(2), Some(3)]).all(), Some([1, 2, 3].into()));
        assert_eq!(PerMetric::from([Some(1), None, Some(3)]).all(), None);
        let odd = |metric: Metric| if metric == Metric::Monetary { Err(metric) } else { Ok(()) };
        assert_eq!(PerMetric::try_from_fn(odd), Err(Metric::Monetary));
    }
}
