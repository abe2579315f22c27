//! This module gives connections their places: so many in all, so many for one address. Who has nothing
//! under way gives its place to who comes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits;

/// The places of a door.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    most_of_one: usize,
    guests: Mutex<Guests>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    all: BTreeMap<u64, Arc<Guest>>,
}

/// A connection that has a place.
#[derive(Debug)]
pub(crate) struct Guest {
    from: IpAddr,
    /// Requests that are not answered yet.
    under_way: AtomicUsize,
    /// Since when that number is what it is.
    since: Mutex<Instant>,
    sent_away: Notify,
}

/// A place; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    places: Arc<Places>,
    guest: Arc<Guest>,
}

/// One address has all the places that it may have, and something under way on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Places {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, guests: Mutex::default(), left: Notify::new() }
    }

    /// A place for a connection from there, once one is free.
    pub(crate) async fn enter(self: &Arc<Self>, from: IpAddr) -> Result<Place, TooMany> {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            if let Some(place) = self.place(from)? {
                return Ok(place);
            }
            // Who is sent away leaves soon; who has something under way may come to its end meanwhile.
            let _ = tokio::time::timeout(limits::PLACES_EVERY, left).await;
        }
    }

    /// A place, if one is free; who has nothing under way is sent away if none is.
    fn place(self: &Arc<Self>, from: IpAddr) -> Result<Option<Place>, TooMany> {
        let mut guests = self.lock();
        let own = guests.all.values().filter(|guest| guest.from == from).count();
        if own >= self.most_of_one {
            let is_own = |guest: &Guest| guest.from == from;
            return match guests.idlest(is_own) {
                Some(guest) => {
                    guest.send_away();
                    Ok(None)
                }
                None if guests.all.values().any(|guest| is_own(guest) && guest.is_idle()) => {
                    Ok(None)
                }
                None => Err(TooMany),
            };
        }
        if guests.all.len() >= self.most {
            if let Some(guest) = guests.idlest(|_| true) {
                guest.send_away();
            }
            return Ok(None);
        }
        let number = guests.next;
        guests.next += 1;
        let guest = Arc::new(Guest {
            from,
            under_way: AtomicUsize::new(0),
            since: Mutex::new(Instant::now()),
            sent_away: Notify::new(),
        });
        guests.all.insert(number, Arc::clone(&guest));
        Ok(Some(Place { number, places: Arc::clone(self), guest }))
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().expect("no holder panics")
    }
}

impl Guests {
    /// Of these, who has had nothing under way for the longest time, of the address that has the most
    /// places. Who has just come, or was just answered, is left a moment to ask.
    fn idlest(&self, of: impl Fn(&Guest) -> bool) -> Option<&Guest> {
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for guest in self.all.values() {
            *counts.entry(guest.from).or_default() += 1;
        }
        let idle = self.all.values().filter(|guest| {
            guest.is_idle() && guest.since().elapsed() >= limits::IDLE_BEFORE_LEAVING && of(guest)
        });
        let idlest = idle.min_by_key(|guest| (Reverse(counts[&guest.from]), guest.since()));
        idlest.map(|guest| &**guest)
    }
}

impl Guest {
    /// A request has begun.
    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.note();
    }

    /// A request is answered.
    pub(crate) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.note();
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }

    /// Waits until it is to leave.
    pub(crate) async fn sent_away(&self) {
        self.sent_away.notified().await;
    }

    fn send_away(&self) {
        self.sent_away.notify_one();
        self.note();
    }

    fn note(&self) {
        *self.since.lock().expect("no holder panics") = Instant::now();
    }

    fn since(&self) -> Instant {
        *self.since.lock().expect("no holder panics")
    }
}

impl Place {
    pub(crate) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().all.remove(&self.number);
        self.places.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// Leaves when it is sent away.
    fn polite(place: Place) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { place.guest().sent_away().await })
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_had_nothing_under_way_for_longest_gives_its_place_away() {
        let places = Arc::new(Places::new(3, 3));
        let mut guests = Vec::new();
        for last in 1..=3 {
            guests.push(polite(places.enter(address(last)).await.unwrap()));
            sleep(Duration::from_secs(1)).await;
        }

        let _fourth = places.enter(address(4)).await.unwrap();

        assert!(guests[0].is_finished());
        assert!(!guests[1].is_finished() && !guests[2].is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_the_most_places_gives_one_away_before_others() {
        let places = Arc::new(Places::new(4, 4));
        let alone = polite(places.enter(address(1)).await.unwrap());
        sleep(Duration::from_secs(1)).await;
        let mut crowd = Vec::new();
        for _ in 0..3 {
            crowd.push(polite(places.enter(address(2)).await.unwrap()));
        }
        sleep(Duration::from_secs(1)).await;

        for last in 3..=4 {
            std::mem::forget(places.enter(address(last)).await.unwrap());
        }

        assert!(!alone.is_finished());
        assert_eq!(crowd.iter().filter(|guest| guest.is_finished()).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_something_under_way_keeps_its_place() {
        let places = Arc::new(Places::new(2, 1));
        let (first, second) =
            (places.enter(address(1)).await.unwrap(), places.enter(address(2)).await.unwrap());
        first.guest().begin();
        second.guest().begin();

        assert_eq!(places.enter(address(1)).await.err(), Some(TooMany), "it has all it may have");
        let third = timeout(Duration::from_secs(5), places.enter(address(3))).await;
        assert!(third.is_err(), "it waits");

        first.guest().end();
        let leaves = polite(first);
        assert!(timeout(Duration::from_secs(5), places.enter(address(3))).await.is_ok());
        assert!(leaves.is_finished());
    }
}
