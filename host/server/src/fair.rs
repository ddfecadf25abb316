//! A resource that users share fairly.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The user that asks for something; empty for callers without a user.
pub type Owner = Arc<str>;

/// An amount of something, such as bytes of memory, that users share. Those who wait get some in turn: each user is as far from its turn as
/// any other, however much one of them asks for. A user's own requests are served in their order.
#[derive(Clone, Debug)]
pub struct Fair(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    capacity: u64,
    used: u64,
    /// The used amount by user; no zeros.
    used_by: BTreeMap<Owner, u64>,
    waiting: BTreeMap<Owner, VecDeque<Waiter>>,
    /// The users that wait, in the order of their turns.
    order: VecDeque<Owner>,
    is_closed: bool,
}

#[derive(Debug)]
struct Waiter {
    amount: u64,
    most: u64,
    granted: oneshot::Sender<Share>,
}

/// An amount that a user has; given back on drop.
#[derive(Debug)]
pub struct Share {
    fair: Fair,
    owner: Owner,
    amount: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.fair.lock();
        state.used -= self.amount;
        if let Some(used) = state.used_by.get_mut(&self.owner) {
            *used -= self.amount;
            if *used == 0 {
                state.used_by.remove(&self.owner);
            }
        }
        drop(state);
        self.fair.grant();
    }
}

/// Looks for others that can go on when a request is given up.
struct Asking<'a>(&'a Fair);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.grant();
    }
}

impl Fair {
    /// Creates a resource of this size.
    pub fn new(capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            capacity,
            used: 0,
            used_by: BTreeMap::new(),
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            is_closed: false,
        })))
    }

    /// Waits for `amount`, while `owner` has at most `most`. What is larger than the whole resource gets all of it. `None` if the resource is
    /// closed.
    pub async fn take(&self, owner: &Owner, amount: u64, most: u64) -> Option<Share> {
        let granted = {
            let mut state = self.lock();
            if state.is_closed {
                return None;
            }
            let amount = amount.min(state.capacity);
            if state.order.is_empty() && state.may_have(owner, amount, most) && state.fits(amount) {
                return Some(state.give(self, owner, amount));
            }
            let (sender, granted) = oneshot::channel();
            if !state.waiting.contains_key(owner) {
                state.order.push_back(owner.clone());
            }
            state.waiting.entry(owner.clone()).or_default().push_back(Waiter {
                amount,
                most,
                granted: sender,
            });
            granted
        };
        let _asking = Asking(self);
        // another user's turn may not fit, but this one's may
        self.grant();
        granted.await.ok()
    }

    /// Returns the used amount.
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// Returns the amount that a user has.
    pub fn used_by(&self, owner: &Owner) -> u64 {
        self.lock().used_by.get(owner).copied().unwrap_or(0)
    }

    /// Ends all waiting, and refuses further requests.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.order.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Grants waiting requests, as far as the free amount allows.
    fn grant(&self) {
        loop {
            let mut state = self.lock();
            let Some((waiter, owner)) = state.next() else { return };
            let share = state.give(self, &owner, waiter.amount);
            drop(state);
            // drops the share if nobody waits for it any more, which must not happen under the lock
            drop(waiter.granted.send(share));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fits(&self, amount: u64) -> bool {
        self.used + amount <= self.capacity
    }

    /// Whether the user's own limit allows it. As with the whole, one request may have all of it.
    fn may_have(&self, owner: &Owner, amount: u64, most: u64) -> bool {
        let used = self.used_by.get(owner).copied().unwrap_or(0);
        used == 0 || used.saturating_add(amount) <= most
    }

    fn give(&mut self, fair: &Fair, owner: &Owner, amount: u64) -> Share {
        self.used += amount;
        if amount > 0 {
            *self.used_by.entry(owner.clone()).or_default() += amount;
        }
        Share {
            fair: fair.clone(),
            owner: owner.clone(),
            amount,
        }
    }

    /// Removes and returns the next request that can be granted. Skips users that have as much as they may. The next of the others waits until
    /// its request fits, so that small requests can't keep out a large one.
    fn next(&mut self) -> Option<(Waiter, Owner)> {
        for at in 0..self.order.len() {
            let owner = self.order[at].clone();
            let Some(own) = self.waiting.get_mut(&owner) else { continue };
            while own.front().is_some_and(|waiter| waiter.granted.is_closed()) {
                own.pop_front();
            }
            let Some((amount, most)) = own.front().map(|waiter| (waiter.amount, waiter.most)) else {
                continue;
            };
            if !self.may_have(&owner, amount, most) {
                continue;
            }
            if !self.fits(amount) {
                return None;
            }
            let own = self.waiting.get_mut(&owner)?;
            let waiter = own.pop_front()?;
            let is_last = own.is_empty();
            self.order.remove(at);
            match is_last {
                true => drop(self.waiting.remove(&owner)),
                false => self.order.push_back(owner.clone()),
            }
            return Some((waiter, owner));
        }
        // forget those who gave up
        self.waiting.retain(|_, own| !own.is_empty());
        let Self { order, waiting, .. } = self;
        order.retain(|owner| waiting.contains_key(owner));
        None
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Asked = Pin<Box<dyn Future<Output = Option<Share>>>>;

    fn ask(fair: &Fair, owner: &str, amount: u64, most: u64) -> Asked {
        let (fair, owner) = (fair.clone(), Owner::from(owner));
        let mut asked: Asked = Box::pin(async move { fair.take(&owner, amount, most).await });
        assert!(look(&mut asked).is_none() || amount == 0, "granted at once");
        asked
    }

    fn look(asked: &mut Asked) -> Option<Share> {
        match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(share) => share,
            Poll::Pending => None,
        }
    }

    fn have(fair: &Fair, owner: &str, amount: u64) -> Share {
        let owner = Owner::from(owner);
        let mut asked = std::pin::pin!(fair.take(&owner, amount, u64::MAX));
        match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(share)) => share,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn users_take_turns() {
        let fair = Fair::new(1);
        let mut held = Some(have(&fair, "ann", 1));
        let mut asked: Vec<(&str, Asked)> = ["ann", "ann", "ann", "bob", "bob", "eve"]
            .into_iter()
            .map(|owner| (owner, ask(&fair, owner, 1, u64::MAX)))
            .collect();
        let mut order = Vec::new();
        while !asked.is_empty() {
            drop(held.take());
            let at = asked.iter_mut().position(|(_, asked)| {
                held = look(asked);
                held.is_some()
            });
            order.push(asked.remove(at.unwrap()).0);
        }
        assert_eq!(order, ["ann", "bob", "eve", "ann", "bob", "ann"]);
        drop(held);
        assert_eq!(fair.used(), 0);
    }

    #[test]
    fn small_requests_do_not_keep_out_a_large_one() {
        let fair = Fair::new(10);
        let (first, second) = (have(&fair, "ann", 4), have(&fair, "ann", 4));
        let mut large = ask(&fair, "bob", 99, u64::MAX);
        let mut small = ask(&fair, "ann", 1, u64::MAX);
        drop(first);
        assert!(look(&mut large).is_none() && look(&mut small).is_none());
        drop(second);
        let all = look(&mut large).unwrap();
        assert_eq!(fair.used(), 10);
        drop(all);
        assert!(look(&mut small).is_some());
    }

    #[test]
    fn a_user_at_its_limit_does_not_keep_out_others() {
        let fair = Fair::new(10);
        let first = have(&fair, "ann", 2);
        let mut more = ask(&fair, "ann", 1, 2);
        assert_eq!(have(&fair, "bob", 0).amount, 0);
        let owner = Owner::from("bob");
        let mut other: Asked = Box::pin({
            let fair = fair.clone();
            async move { fair.take(&owner, 3, u64::MAX).await }
        });
        assert!(look(&mut other).is_some() && look(&mut more).is_none());
        drop(first);
        assert!(look(&mut more).is_some());
    }

    #[test]
    fn a_request_that_is_given_up_holds_nothing() {
        let fair = Fair::new(10);
        let held = have(&fair, "ann", 5);
        let large = ask(&fair, "ann", 10, u64::MAX);
        let mut small = ask(&fair, "bob", 5, u64::MAX);
        drop(large);
        assert!(look(&mut small).is_some());
        let given_up = ask(&fair, "bob", 10, u64::MAX);
        // granted, but never taken
        drop(held);
        drop(given_up);
        assert_eq!(fair.used(), 0);
        fair.close();
        let mut refused: Asked = Box::pin(async move { fair.take(&Owner::from(""), 1, 1).await });
        assert!(matches!(
            refused.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(None)
        ));
    }
}
