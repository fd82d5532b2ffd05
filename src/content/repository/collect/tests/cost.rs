//! The cost of a collection with the same garbage in stores of different sizes. Fills the database directly.
//!
//! `COLLECT_ROWS=1000000 cargo test --release --lib the_cost_of_a_collection -- --nocapture` prints the figures;
//! without the variable it is small, and only shows that the same is collected.

use super::*;
use crate::content::repository::scene::rules;
use crate::oci::Algorithm;

const SMALL: usize = 1_000;
const GARBAGE: usize = 1_000;
const ROUNDS: usize = 5;
/// As many rows are written in one transaction.
const AT_ONCE: usize = 50_000;

fn digest(text: &str) -> Digest {
    Digest::of(Algorithm::Sha256, text.as_bytes())
}

/// Stores with as many blobs that a manifest needs. Nothing was pushed: the rows are all that a collection sees.
fn filled(rows: usize) -> Scene {
    let scene = Scene::durable(Rules { tag_history: Duration::ZERO, ..rules() });
    for from in (0..rows).step_by(AT_ONCE) {
        let now = scene.clock.now();
        scene
            .stores
            .database
            .write(move |tx| {
                for number in from..rows.min(from + AT_ONCE) {
                    let name = format!("repository/{}", number % 1000).parse().unwrap();
                    let blob = digest(&format!("blob {number}"));
                    tx.put_link(&name, blob, 1, now)?;
                    tx.add_blob_reference(&name, blob)?;
                }
                Ok::<_, Error>(())
            })
            .unwrap();
    }
    scene
}

/// How long a collection of `GARBAGE` blobs takes that are really there.
fn collect_garbage(scene: &Scene, round: usize) -> Duration {
    std::thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                let repository = scene.repository("garbage");
                for number in (part..GARBAGE).step_by(8) {
                    repository.push_blob(format!("garbage {round} {number}").as_bytes());
                }
            });
        }
    });
    scene.clock.advance(DELAY + SECOND);
    let began = Instant::now();
    let collected = collect(scene);
    assert_eq!((collected.links, collected.blobs), (GARBAGE as u64, GARBAGE as u64));
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn the_cost_of_a_collection() {
    let asked = std::env::var("COLLECT_ROWS").ok().map(|text| text.parse::<usize>().unwrap());
    let (large, rounds) = asked.map_or((SMALL, 1), |rows| (rows, ROUNDS));
    let small = large.div_ceil(100).max(SMALL);
    let scenes = [filled(small), filled(large)];
    let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..rounds {
        let [a, b] = [0, 1].map(|which| collect_garbage(&scenes[which], round));
        println!("round {round}: {} ms and {} ms", a.as_millis(), b.as_millis());
        times[0].push(a);
        times[1].push(b);
        ratios.push(b.as_secs_f64() / a.as_secs_f64());
    }
    let [a, b] = times.map(median);
    ratios.sort_by(f64::total_cmp);
    println!(
        "{GARBAGE} blobs collected: among {small} in {} ms, among {large} in {} ms, ratio {:.2} (medians of {rounds})",
        a.as_millis(),
        b.as_millis(),
        ratios[ratios.len() / 2]
    );
}
