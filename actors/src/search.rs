//! Exact search for the nearest vectors. Every vector is compared, which takes a few dozen milliseconds for a
//! hundred thousand.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// A vector near the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit<I> {
    /// Id of the vector.
    pub id: I,
    /// Cosine of the angle to the query, -1 (opposite) to 1 (same direction).
    pub score: f32,
}

/// Returns at most `limit` vectors with the largest cosine to `query`, nearest first. Equal scores are
/// ordered by id, smallest first, so that the answer does not depend on the order of `vectors`.
///
/// Vectors that have another length than the query, a number that is not finite, or zeros alone are skipped:
/// they come from another model, or are damaged. A query that is like this finds nothing. Memory is
/// proportional to the smaller of `limit` and the number of vectors.
///
/// ```
/// use mediamill_actors::search::nearest;
///
/// let library = [("north", vec![0.0, 1.0]), ("east", vec![1.0, 0.0])];
/// let hits = nearest(&[0.1, 0.9], library.iter().map(|(id, vector)| (*id, vector)), 1);
/// assert_eq!(hits[0].id, "north");
/// ```
pub fn nearest<I, V>(query: &[f32], vectors: impl IntoIterator<Item = (I, V)>, limit: usize) -> Vec<Hit<I>>
where
    I: Ord,
    V: AsRef<[f32]>,
{
    let Some(query_length) = length(query) else {
        return Vec::new();
    };
    // The worst kept hit is on top, so a candidate is compared with that one alone.
    let mut kept: BinaryHeap<Reverse<Ranked<I>>> = BinaryHeap::new();
    for (id, vector) in vectors {
        let vector = vector.as_ref();
        if vector.len() != query.len() {
            continue;
        }
        let (dot, square) = products(query, vector);
        let score = dot / (query_length * square.sqrt());
        // A sum of squares is finite only if every number is. Zero divided by zero is NaN.
        if !score.is_finite() || !square.is_finite() {
            continue;
        }
        let candidate = Ranked(Hit { id, score: score.clamp(-1.0, 1.0) });
        if kept.len() < limit {
            kept.push(Reverse(candidate));
        } else if let Some(mut worst) = kept.peek_mut()
            && candidate > worst.0
        {
            *worst = Reverse(candidate);
        }
    }
    kept.into_sorted_vec().into_iter().map(|Reverse(Ranked(hit))| hit).collect()
}

/// Orders hits: the better one is greater.
struct Ranked<I>(Hit<I>);

impl<I: Ord> Ord for Ranked<I> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.score.total_cmp(&other.0.score).then_with(|| other.0.id.cmp(&self.0.id))
    }
}

impl<I: Ord> PartialOrd for Ranked<I> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<I: Ord> PartialEq for Ranked<I> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<I: Ord> Eq for Ranked<I> {}

/// Euclidean length; `None` if the vector has no direction.
fn length(vector: &[f32]) -> Option<f32> {
    let length = products(vector, vector).1.sqrt();
    (length.is_finite() && length > 0.0).then_some(length)
}

/// `a · b` and `b · b`. The compiler turns the eight lanes into vector instructions.
fn products(a: &[f32], b: &[f32]) -> (f32, f32) {
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    let (mut dot, mut square) = ([0.0_f32; 8], [0.0_f32; 8]);
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..8 {
            dot[lane] += x[lane] * y[lane];
            square[lane] += y[lane] * y[lane];
        }
    }
    let (mut dot, mut square): (f32, f32) = (dot.iter().sum(), square.iter().sum());
    for (x, y) in a_rest.iter().zip(b_rest) {
        dot += x * y;
        square += y * y;
    }
    (dot, square)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids<I: Ord>(hits: Vec<Hit<I>>) -> Vec<I> {
        hits.into_iter().map(|hit| hit.id).collect()
    }

    #[test]
    fn the_nearest_come_first_whatever_their_length() {
        let library = [(1, vec![5.0, 5.0]), (2, vec![-1.0, 0.0]), (3, vec![0.001, 0.0]), (4, vec![0.0, 9.0])];
        let hits = nearest(&[2.0, 0.0], library, 3);
        assert_eq!(hits[0], Hit { id: 3, score: 1.0 });
        assert!((hits[1].score - 0.5_f32.sqrt()).abs() < 1e-6);
        assert_eq!(ids(hits), [3, 1, 4]);
    }

    #[test]
    fn equal_scores_are_ordered_by_id_whatever_the_order_given() {
        let vector = vec![1.0_f32, 1.0];
        for order in [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3]] {
            assert_eq!(ids(nearest(&vector, order.map(|id| (id, vector.clone())), 2)), [1, 2]);
        }
    }

    #[test]
    fn vectors_of_another_model_and_damaged_ones_are_skipped() {
        let library = [
            (1, vec![1.0, 0.0, 0.0]),
            (2, vec![]),
            (3, vec![f32::NAN, 1.0]),
            (4, vec![f32::INFINITY, 0.0]),
            (5, vec![0.0, 0.0]),
            (6, vec![f32::MAX, f32::MAX]),
            (7, vec![1.0, 0.0]),
        ];
        assert_eq!(ids(nearest(&[1.0, 0.0], library, 10)), [7]);
    }

    #[test]
    fn a_query_without_a_direction_finds_nothing() {
        for query in [vec![], vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 0.0]] {
            assert!(nearest(&query, [(1, vec![1.0, 0.0])], 10).is_empty());
        }
        assert!(nearest(&[1.0, 0.0], [(1, vec![1.0, 0.0])], 0).is_empty());
    }

    proptest! {
        #[test]
        fn the_heap_finds_what_a_full_sort_finds(
            vectors in prop::collection::vec(prop::collection::vec(-2i8..3, 11), 0..60),
            query in prop::collection::vec(-2i8..3, 11),
            limit in 0usize..20,
        ) {
            let floats = |vector: &Vec<i8>| vector.iter().map(|n| f32::from(*n)).collect::<Vec<_>>();
            let library: Vec<_> = vectors.iter().map(floats).enumerate().collect();
            let all = nearest(&floats(&query), library.iter().map(|(id, v)| (*id, v)), usize::MAX);
            for pair in all.windows(2) {
                prop_assert!((pair[0].score, Reverse(pair[0].id)) > (pair[1].score, Reverse(pair[1].id)));
            }
            let some = nearest(&floats(&query), library, limit);
            prop_assert_eq!(&some[..], &all[..limit.min(all.len())]);
        }
    }
}
