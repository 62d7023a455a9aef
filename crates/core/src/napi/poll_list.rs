//! The list of what a Cpu has to poll (`softnet_data.poll_list`).
//!
//! As in the kernel the list runs through what stands on it: nothing is allocated, and nothing is written but lines of the
//! Cpu's own. A block of a list's own would lie between blocks of other Cpus, and each burst writes the list.

/// What is polled: a queue of the Cpu, by its place among the Cpu's, or the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polled {
    Queue(usize),
    Backlog,
}

/// Where it is noted what follows what on the lists.
pub(super) trait Links {
    /// What follows `polled` is noted there; None for a queue that there is not.
    fn after(&mut self, polled: Polled) -> Option<&mut Option<Polled>>;
}

/// A list: its first and its last member. Each queue, and the backlog, stands on one list at most, and once.
#[derive(Debug, Default)]
pub(super) struct PollList {
    ends: Option<(Polled, Polled)>,
}

impl PollList {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.ends.is_none()
    }

    /// Adds `polled`, which stands on no list (`list_add_tail`).
    #[inline(always)]
    pub fn push_back(&mut self, links: &mut impl Links, polled: Polled) {
        let Some(after) = links.after(polled) else { return };
        *after = None;
        self.append(links, PollList { ends: Some((polled, polled)) });
    }

    /// Takes the first.
    #[inline(always)]
    pub fn pop_front(&mut self, links: &mut impl Links) -> Option<Polled> {
        let (first, last) = self.ends?;
        let after = links.after(first).and_then(Option::take);
        self.ends = after.map(|after| (after, last));
        Some(first)
    }

    /// Adds all of another list behind its own (`list_splice_tail`).
    #[inline(always)]
    pub fn append(&mut self, links: &mut impl Links, other: PollList) {
        let Some((first, last)) = other.ends else { return };
        let Some((own_first, own_last)) = self.ends else {
            self.ends = other.ends;
            return;
        };
        if let Some(after) = links.after(own_last) {
            *after = Some(first);
        }
        self.ends = Some((own_first, last));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Of three queues and the backlog.
    impl Links for [Option<Polled>; 4] {
        fn after(&mut self, polled: Polled) -> Option<&mut Option<Polled>> {
            match polled {
                Polled::Queue(index) => self[..3].get_mut(index),
                Polled::Backlog => Some(&mut self[3]),
            }
        }
    }

    const ALL: [Polled; 4] = [Polled::Queue(0), Polled::Queue(1), Polled::Queue(2), Polled::Backlog];

    /// Every sequence of five steps: one of four is put on a list, or the first is taken and thrown away or put on the
    /// other list, or the other list is spliced behind.
    #[test]
    fn two_lists_over_the_same_links_are_as_two_queues() {
        const STEPS: usize = 7;
        for sequence in 0..STEPS.pow(5) {
            let mut links = [None; 4];
            let (mut list, mut other) = (PollList::default(), PollList::default());
            let (mut model, mut other_model) = (VecDeque::new(), VecDeque::new());
            let mut steps = sequence;
            for _ in 0..5 {
                match steps % STEPS {
                    which @ 0..4 => {
                        let polled = ALL[which];
                        if !model.contains(&polled) && !other_model.contains(&polled) {
                            list.push_back(&mut links, polled);
                            model.push_back(polled);
                        }
                    }
                    4 => assert_eq!(list.pop_front(&mut links), model.pop_front(), "{sequence}"),
                    5 => {
                        let polled = list.pop_front(&mut links);
                        assert_eq!(polled, model.pop_front(), "{sequence}");
                        if let Some(polled) = polled {
                            other.push_back(&mut links, polled);
                            other_model.push_back(polled);
                        }
                    }
                    _ => {
                        list.append(&mut links, std::mem::take(&mut other));
                        model.append(&mut other_model);
                    }
                }
                steps /= STEPS;
                assert_eq!(list.is_empty(), model.is_empty(), "{sequence}");
            }
            list.append(&mut links, other);
            model.append(&mut other_model);
            let left: Vec<_> = std::iter::from_fn(|| list.pop_front(&mut links)).collect();
            assert!(left.iter().eq(&model), "{sequence}: {left:?}, and not {model:?}");
            assert_eq!(links, [None; 4], "{sequence}: what stands on no list is followed by nothing");
        }
    }

    #[test]
    fn a_queue_that_there_is_not_is_not_listed() {
        let mut list = PollList::default();
        list.push_back(&mut [None; 4], Polled::Queue(3));
        assert!(list.is_empty());
    }
}
