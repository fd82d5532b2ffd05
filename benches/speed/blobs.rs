//! Pushing and pulling blobs.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::Server;
use super::support::client::{Client, manifest};
use super::support::content::{Content, Noise};
use super::{Done, Extent, Meter};

/// Pieces of 64 KiB that are sent in one chunk.
const CHUNK_PIECES: usize = 16;

/// The work of all clients together, each on its own connection.
fn measure(server: &Server, clients: usize, amount: f64, each: impl Fn(usize, &mut Client) + Sync) -> Done {
    let mut connected: Vec<_> = (0..clients).map(|_| Client::connect(server.address)).collect();
    let meter = Meter::begin(server);
    std::thread::scope(|scope| {
        for (number, client) in connected.iter_mut().enumerate() {
            let each = &each;
            scope.spawn(move || each(number, client));
        }
    });
    meter.done(amount)
}

/// Lets clients take what is to be done one after another.
fn share(count: usize, each: impl Fn(usize, &mut Client) + Sync) -> impl Fn(usize, &mut Client) + Sync {
    let next = AtomicUsize::new(0);
    move |_, client| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            each(number, client);
        }
    }
}

fn contents(noise: &Noise, length: usize, round: usize, count: usize) -> Vec<Content> {
    (0..count).map(|number| noise.content(length, (round, number, length))).collect()
}

fn total(contents: &[Content]) -> f64 {
    contents.iter().map(Content::length).sum::<usize>() as f64
}

pub(crate) fn push(server: &Server, extent: Extent, round: usize, clients: usize, part: usize) -> Done {
    let noise = Noise::new();
    let contents = contents(&noise, extent.mib * (1 << 20) / part, round, clients);
    server.empty_page_cache();
    measure(server, clients, total(&contents), |number, client| {
        client.push(&format!("push/{number}"), &noise, &contents[number]);
    })
}

/// Measures the pull alone. It reads nothing from the disk if the push has left the blob in memory.
pub(crate) fn pull_first(server: &Server, extent: Extent, round: usize) -> Done {
    let noise = Noise::new();
    let content = noise.content(extent.mib * (1 << 20), (round, 0, 2));
    Client::connect(server.address).push("pull/first", &noise, &content);
    measure(server, 1, content.length() as f64, |_, client| client.pull("pull/first", &noise, &content))
}

/// Pulls what was just pushed. The registry decides whether it is still in memory.
pub(crate) fn push_and_pull(server: &Server, extent: Extent, round: usize) -> Done {
    let noise = Noise::new();
    let content = noise.content(extent.mib * (1 << 20), (round, 0, 1));
    server.empty_page_cache();
    measure(server, 1, content.length() as f64, |_, client| {
        client.push("push/pull", &noise, &content);
        client.pull("push/pull", &noise, &content);
    })
}

pub(crate) fn pull(server: &Server, extent: Extent, round: usize, clients: usize, part: usize) -> Done {
    let noise = Noise::new();
    let contents = contents(&noise, extent.mib * (1 << 20) / part, 0, clients);
    if round == 0 {
        for content in &contents {
            Client::connect(server.address).push("pull", &noise, content);
        }
    }
    measure(server, clients, total(&contents), |number, client| client.pull("pull", &noise, &contents[number]))
}

/// Lets clients push as many blobs; `of` is the round whose content it is.
fn push_all(
    server: &Server,
    (length, clients, count): (usize, usize, usize),
    of: usize,
    each: impl Fn(&mut Client, &Noise, &Content) + Sync,
) -> Done {
    let noise = Noise::new();
    let contents = contents(&noise, length, of, count);
    let one = share(count, |number, client| each(client, &noise, &contents[number]));
    measure(server, clients, total(&contents), one)
}

pub(crate) fn push_many(server: &Server, round: usize, extent: (usize, usize, usize)) -> Done {
    push_all(server, extent, round, |client, noise, content| client.push("push/many", noise, content))
}

pub(crate) fn push_chunked(server: &Server, round: usize, extent: (usize, usize, usize)) -> Done {
    push_all(server, extent, round, |client, noise, content| {
        client.push_chunked("push/chunked", noise, content, CHUNK_PIECES);
    })
}

pub(crate) fn push_again(server: &Server, round: usize, extent: (usize, usize, usize)) -> Done {
    let repository = format!("push/again{round}");
    push_all(server, extent, 0, |client, noise, content| client.push(&repository, noise, content))
}

/// Blobs that are there to be pulled: as many as a client of another registry would find in a few images.
fn pulled(server: &Server, noise: &Noise, round: usize, length: usize) -> Vec<Content> {
    let contents = contents(noise, length, 0, 5);
    if round == 0 {
        for content in &contents {
            Client::connect(server.address).push("pull/many", noise, content);
        }
    }
    contents
}

pub(crate) fn pull_many(server: &Server, round: usize, length: usize, clients: usize, count: usize) -> Done {
    let noise = Noise::new();
    let contents = pulled(server, &noise, round, length);
    let each = share(count, |number, client| client.pull("pull/many", &noise, &contents[number % contents.len()]));
    measure(server, clients, (length * count) as f64, each)
}

/// Three of four requests pull, one pushes.
pub(crate) fn mixed(server: &Server, round: usize, (length, clients, count): (usize, usize, usize)) -> Done {
    let noise = Noise::new();
    let (pulled, pushed) = (pulled(server, &noise, round, length), contents(&noise, length, round, count));
    let each = share(count, |number, client| {
        if number % 4 == 3 {
            client.push("push/mixed", &noise, &pushed[number]);
        } else {
            client.pull("pull/many", &noise, &pulled[number % pulled.len()]);
        }
    });
    measure(server, clients, (length * count) as f64, each)
}

/// As a client does that pushes one layer after another, and asks before whether it is there.
pub(crate) fn push_image(server: &Server, _: Extent, round: usize, layers: usize) -> Done {
    let noise = Noise::new();
    let layers = contents(&noise, 10_000, round, layers);
    measure(server, 1, 1.0, |_, client| {
        for layer in &layers {
            let path = format!("/v2/image/blobs/{}", layer.digest());
            assert_eq!(client.send("HEAD", &path, "", b"").status, 404);
            client.push("image", &noise, layer);
        }
        let all: Vec<_> = layers.iter().collect();
        client.put_manifest("image", "latest", &manifest(&layers[0], &all, ""));
    })
}
