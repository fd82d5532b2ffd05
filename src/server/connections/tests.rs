//! Tests of [`Connections`].

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use futures_util::FutureExt;

use super::waiting::PLACE_WAIT;
use super::*;

fn connections(total: usize) -> Arc<Connections> {
    let limits = Limits { max_connections: total, ..crate::config::Config::default().http.limits };
    Arc::new(Connections::new(&limits))
}

fn address(number: usize) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(number).unwrap()])
}

/// Opens connections with a request each until there is no room for more. Each has an address of its own.
fn fill(connections: &Arc<Connections>) -> Vec<(ConnectionHandle, InFlight)> {
    let mut all = Vec::new();
    while connections.has_room() {
        let connection = connections.open(Some(address(all.len())), &[]).unwrap();
        let request = connection.request();
        all.push((connection, request));
    }
    all
}

#[tokio::test]
async fn there_is_room_when_a_connection_becomes_idle() {
    let connections = connections(4);
    let mut all = fill(&connections);
    // The first one has another request, whose body arrives.
    let arriving = all[0].0.request();
    arriving.arriving().begin();
    let waiting = tokio::spawn({
        let connections = Arc::clone(&connections);
        async move { connections.room().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // The first request ends, and the connection stays open.
    let (_connection, request) = all.remove(0);
    drop(request);
    tokio::time::timeout(PLACE_WAIT, waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_address_leaves_others_the_chance_to_wait() {
    let connections = connections(1024);
    let all: Vec<_> = (0..1024).map(|number| connections.open(Some(address(number % 2)), &[]).unwrap()).collect();
    let held: Vec<_> = all.iter().map(ConnectionHandle::request).collect();
    let first: Vec<_> = (0..100).filter_map(|_| Waiting::begin(&connections, Some(address(0)))).collect();
    assert_eq!(first.len(), RESERVE_MAX / 4);
    let second: Vec<_> = (0..100).filter_map(|_| Waiting::begin(&connections, Some(address(1)))).collect();
    assert_eq!(second.len(), RESERVE_MAX / 4);
    drop((first, second, held));
    let state = connections.lock();
    assert_eq!((state.waiting.len(), state.places.total()), (0, 0));
}

#[tokio::test]
async fn bodies_of_unknown_clients_that_arrive_leave_their_places_to_others() {
    let connections = connections(8);
    let slow = connections.open(Some(address(0)), &[]).unwrap();
    let held: Vec<_> = (0..6).map(|_| slow.request()).collect();
    let other = slow.request();
    assert!(!other.take_place(), "the share of the address is six");
    let arriving = held[0].arriving();
    arriving.begin();
    assert!(other.take_place());
    // It has arrived: the address has a place too many until one of its requests ends.
    arriving.end();
    let next = slow.request();
    drop(other);
    assert!(!next.take_place());
    drop(held);
    assert!(next.take_place());
    drop(next);
    let state = connections.lock();
    assert_eq!((state.lent.total(), state.places.total()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn free_places_go_to_those_who_wait_in_the_order_of_their_arrival() {
    let connections = connections(256);
    let [busy, other, third] = [0, 1, 2].map(|number| connections.open(Some(address(number)), &[]).unwrap());
    let mut of_busy: Vec<_> = (0..192).map(|_| busy.request()).collect();
    let mut of_other: Vec<_> = (0..64).map(|_| other.request()).collect();
    let requests = [busy.request(), other.request(), third.request()];
    let [mut first, mut second, mut last] = requests.each_ref().map(|request| Box::pin(request.wait_for_place()));
    for waiting in [&mut first, &mut second, &mut last] {
        assert_eq!(waiting.now_or_never(), None);
    }

    // The busy client is first, but uses its share. So the place is the second one's, and not that of a new request.
    drop(of_other.pop());
    assert!(!third.request().take_place());
    assert_eq!((&mut first).now_or_never(), None);
    assert_eq!((&mut last).now_or_never(), None);
    // It leaves before it takes the place.
    drop(second);
    assert_eq!(last.now_or_never(), Some(true));
    drop(of_busy.pop());
    assert_eq!(first.now_or_never(), Some(true));

    // A body that arrives lends its place, and a response that costs little gives it back.
    for give in [|request: &InFlight| request.arriving().begin(), InFlight::free_place] {
        let next = third.request();
        let mut waiting = Box::pin(next.wait_for_place());
        assert_eq!((&mut waiting).now_or_never(), None);
        give(&of_other[0]);
        assert_eq!(waiting.now_or_never(), Some(true));
        of_other.extend([next]);
    }
    of_other[0].arriving().end();

    let refused = third.request();
    let begin = tokio::time::Instant::now();
    assert!(!refused.wait_for_place().await);
    assert_eq!(begin.elapsed(), PLACE_WAIT);
    drop((refused, requests, of_busy, of_other));
    let state = connections.lock();
    assert_eq!((state.waiting.len(), state.places.total()), (0, 0));
}
