//! Virtual time: what is to happen, in order. Of two events at one moment the one that was planned first is first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Microseconds since the world began, or a span of them.
pub type Micros = u64;

/// One millisecond.
pub const MS: Micros = 1_000;
/// One second.
pub const SECOND: Micros = 1_000_000;

/// The events to come.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Planned<E>>>,
    now: Micros,
    planned: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Micros,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    /// Nothing planned, at time 0.
    pub const fn new() -> Self {
        Self { heap: BinaryHeap::new(), now: 0, planned: 0 }
    }

    /// What time it is.
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// How many events are to come.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Plans an event.
    pub fn after(&mut self, delay: Micros, event: E) {
        self.planned += 1;
        self.heap.push(Reverse(Planned { at: self.now.saturating_add(delay), number: self.planned, event }));
    }

    /// The next event up to and including `until`, at whose time it then is; or none, and then it is `until`.
    pub fn next(&mut self, until: Micros) -> Option<E> {
        if self.heap.peek().is_none_or(|Reverse(next)| next.at > until) {
            self.now = self.now.max(until);
            return None;
        }
        let Reverse(next) = self.heap.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Planned<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_events_at_one_moment_the_first_planned_is_first_and_time_stops_where_it_was_told_to() {
        let mut queue = Queue::new();
        for (delay, event) in [(5, "c"), (3, "a"), (5, "d"), (4, "b"), (9, "e")] {
            queue.after(delay, event);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.next(6)).collect();
        assert_eq!((order, queue.now(), queue.len()), (vec!["a", "b", "c", "d"], 6, 1));
        assert_eq!((queue.next(9), queue.now(), queue.next(20), queue.now()), (Some("e"), 9, None, 20));
    }
}
