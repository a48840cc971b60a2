//! The queue between the actor and the task of one socket. It is bounded, and costs some hundred bytes while it is empty:
//! there is one for each agent, and nearly all are empty at any moment.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Creates a queue for at most `places` orders and `max_bytes`. One order is taken however large it is.
pub(in crate::hub) fn new<T>(places: usize, max_bytes: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), places, bytes: 0, max_bytes, is_over: false, waiting: None };
    let shared = Arc::new(Mutex::new(state));
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// The end that puts orders in. When it is dropped, the receiver gets what is in the queue, and then nothing more.
#[derive(Debug)]
pub struct Sender<T>(Arc<Mutex<State<T>>>);

/// The end that takes orders out.
#[derive(Debug)]
pub(in crate::hub) struct Receiver<T>(Arc<Mutex<State<T>>>);

/// The queue is full, or nobody takes orders out of it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSent;

#[derive(Debug)]
struct State<T> {
    /// The orders with their sizes in bytes.
    queue: VecDeque<(T, usize)>,
    places: usize,
    /// The size of all orders.
    bytes: usize,
    max_bytes: usize,
    /// Whether one of the ends is gone.
    is_over: bool,
    waiting: Option<Waker>,
}

impl<T> Sender<T> {
    /// Puts an order of so many bytes into the queue.
    ///
    /// # Errors
    /// Returns [`NotSent`] if there is no place, or no receiver.
    pub fn try_send(&self, order: T, bytes: usize) -> Result<(), NotSent> {
        let mut state = lock(&self.0);
        let fits = state.queue.is_empty() || state.bytes.saturating_add(bytes) <= state.max_bytes;
        if state.is_over || state.queue.len() >= state.places || !fits {
            return Err(NotSent);
        }
        state.bytes += bytes;
        state.queue.push_back((order, bytes));
        wake(state);
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_over = true;
        wake(state);
    }
}

impl<T> Receiver<T> {
    /// Waits for the next order; `None` when the sender is gone and the queue is empty. Can be cancelled without loss.
    pub(in crate::hub) async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if let Some((order, bytes)) = state.queue.pop_front() {
                state.bytes -= bytes;
                if state.queue.is_empty() {
                    state.queue = VecDeque::new();
                }
                return Poll::Ready(Some(order));
            }
            if state.is_over {
                return Poll::Ready(None);
            }
            if !state.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
                state.waiting = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_over = true;
        state.queue = VecDeque::new();
    }
}

/// Wakes whoever waits, after the lock is released.
fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let waiting = state.waiting.take();
    drop(state);
    if let Some(waiting) = waiting {
        waiting.wake();
    }
}

/// Locks the queue. A poisoned lock is usable: no step can panic half-way.
fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders_come_out_as_they_went_in_and_then_the_end() {
        let (sender, mut receiver) = new(2, 9);
        assert_eq!((sender.try_send(1, 1), sender.try_send(2, 1)), (Ok(()), Ok(())));
        assert_eq!(sender.try_send(3, 1), Err(NotSent));
        drop(sender);
        assert_eq!((receiver.recv().await, receiver.recv().await, receiver.recv().await), (Some(1), Some(2), None));
    }

    #[tokio::test]
    async fn so_many_bytes_wait_or_one_order_of_any_size() {
        let (sender, mut receiver) = new(9, 10);
        assert_eq!((sender.try_send(1, 99), sender.try_send(2, 1)), (Ok(()), Err(NotSent)));
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!((sender.try_send(3, 4), sender.try_send(4, 6)), (Ok(()), Ok(())));
        assert_eq!(sender.try_send(5, 1), Err(NotSent));
        assert_eq!((receiver.recv().await, sender.try_send(6, 4)), (Some(3), Ok(())));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_an_order_and_by_the_end() {
        let (sender, mut receiver) = new(1, 9);
        let waiting = tokio::spawn(async move { (receiver.recv().await, receiver.recv().await) });
        tokio::task::yield_now().await;
        assert_eq!(sender.try_send(1, 1), Ok(()));
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(waiting.await.unwrap(), (Some(1), None));
    }

    #[tokio::test]
    async fn nothing_is_sent_to_nobody_and_an_empty_queue_holds_no_memory() {
        let (sender, mut receiver) = new(1_000, 1_000);
        for number in 0..1_000 {
            sender.try_send(number, 1).unwrap();
        }
        for number in 0..1_000 {
            assert_eq!(receiver.recv().await, Some(number));
        }
        assert_eq!(lock(&sender.0).queue.capacity(), 0);
        drop(receiver);
        assert_eq!(sender.try_send(1, 1), Err(NotSent));
    }
}
