//! `http.ratelimit`: who is refused, what the refusal says, and who is never refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coracle::Registry;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller};
use crate::support::registry::{ALICE, BOB, ROOT};

/// A registry with alice, bob, a public repository of alice and these settings under `http.ratelimit`.
async fn limited(limits: &str) -> TestRegistry {
    let text = format!(
        "[http.ratelimit]\n{limits}\n[http.accessControl.repositories.\"alice/**\"]\nanonymousPolicy = ['read']\n\
         defaultPolicy = ['read', 'create', 'update']\n"
    );
    let config = coracle::config::Config::from_toml_str(&text).unwrap().config;
    let builder = Registry::builder().config(config).superuser(ROOT.0, ROOT.1);
    let t = TestRegistry::start(builder.user(ALICE.0, ALICE.1).user(BOB.0, BOB.1)).await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    t
}

const IMAGE: &str = "/v2/alice/app/manifests/1";

async fn pull(caller: &Caller) -> Answer {
    caller.get(IMAGE).send().await
}

#[tokio::test]
async fn too_many_requests_of_an_address_are_refused_with_the_time_to_wait() {
    let t = limited("anonymousRate = 1\nwindow = '1h'").await;
    let (here, there) = (t.anonymous(), t.anonymous().at([127, 0, 0, 2]));
    let first = pull(&here).await.status(200);
    let remaining = |answer: &Answer| answer.header("ratelimit-remaining").unwrap().parse::<u64>().unwrap();
    first.clone().has("ratelimit-limit", "3600").has("ratelimit-policy", "3600;w=3600");
    assert_eq!(remaining(&first), 3599);
    assert_eq!(remaining(&pull(&here).await), 3598);
    let missing = here.get(&format!("{IMAGE}-missing")).send().await.status(404);
    assert_eq!(remaining(&missing), 3597, "a request that fails counts as well");
    assert_eq!(remaining(&pull(&there).await), 3599, "another address");

    let t = limited("anonymousRate = 3\nwindow = '1s'").await;
    let mut answers = Vec::new();
    // A window may pass meanwhile on a slow machine.
    while answers.last().is_none_or(|answer: &Answer| answer.status == 200) {
        assert!(answers.len() < 1000, "nothing was refused");
        let mut all: JoinSet<_> = (0..8)
            .map(|_| {
                let caller = t.anonymous();
                async move { pull(&caller).await }
            })
            .collect();
        while let Some(answer) = all.join_next().await {
            answers.push(answer.unwrap());
        }
        answers.sort_by_key(|answer| answer.status);
    }
    let refused = answers.pop().unwrap().error(429, "TOOMANYREQUESTS").has("retry-after", "1");
    refused.clone().has("ratelimit-remaining", "0").has("ratelimit-reset", "1").has("ratelimit-limit", "3");
    assert!(refused.text().contains("http.ratelimit.anonymousRate permits 3 in 1 s"), "{}", refused.text());
    assert_eq!(refused.json()["errors"][0]["detail"]["path"], IMAGE);
    // Waiting as long as the response says is enough.
    sleep(Duration::from_secs(1)).await;
    pull(&t.anonymous()).await.status(200);
    let metrics = t.user(ROOT).get("/metrics").send().await.status(200).text();
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("coracle_http_rate_limited_total{limit=\"http.ratelimit.anonymousRate\"} "));
    assert!(count.unwrap().parse::<u64>().unwrap() >= 1, "{metrics}");
}

/// A registry that refuses all anonymous clients still says that it lives, and asks clients to sign in.
#[tokio::test]
async fn probes_challenges_and_users_are_not_refused_for_what_others_did() {
    let t = limited("anonymousRate = 1\nwindow = '1s'\nuserRate = 1000").await;
    let anonymous = t.anonymous();
    let mut refused = 0;
    for _ in 0..200 {
        refused += usize::from(pull(&anonymous).await.status == 429);
        anonymous.get("/livez").send().await.status(200);
        anonymous.get("/readyz").send().await.status(200);
        anonymous.get("/v2/").send().await.status(401);
        anonymous.get("/v2/bob/app/manifests/1").send().await.status(401);
        pull(&t.user(ALICE)).await.status(200);
        if refused > 20 {
            return;
        }
    }
    panic!("only {refused} anonymous requests were refused");
}

#[tokio::test]
async fn one_user_does_not_use_the_limit_of_another() {
    let t = limited("userRate = 1\nwindow = '1h'").await;
    let remaining = |answer: Answer| answer.header("ratelimit-remaining").unwrap().parse::<u64>().unwrap();
    let first = remaining(pull(&t.user(ALICE)).await.status(200));
    assert!(first < 3599, "the push of the image counts");
    assert_eq!(remaining(pull(&t.user(BOB)).await.status(200)), 3599);
    let answer = pull(&t.anonymous()).await.status(200);
    assert_eq!(answer.header("ratelimit-limit"), None, "anonymous clients have no limit here");
}

#[tokio::test]
async fn a_method_has_its_own_limit() {
    let t = limited("methods = [{ method = 'GET', rate = 1 }]").await;
    let mut refused = 0;
    for _ in 0..200 {
        refused += usize::from(pull(&t.anonymous()).await.status == 429);
        t.anonymous().head(IMAGE).send().await.status(200);
        if refused > 5 {
            return;
        }
    }
    panic!("only {refused} requests were refused");
}

/// Counts the successes of a user among anonymous clients that send as fast as they can.
async fn flooded(t: &TestRegistry) -> (usize, usize) {
    const REQUESTS: usize = 200;
    let (is_over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        let (caller, is_over, refused) = (t.anonymous(), Arc::clone(&is_over), Arc::clone(&refused));
        flood.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                refused.fetch_add(usize::from(pull(&caller).await.status == 429), Ordering::Relaxed);
            }
        });
    }
    while refused.load(Ordering::Relaxed) < 100 {
        sleep(Duration::from_millis(5)).await;
    }
    let user = t.user(ALICE);
    let mut succeeded = 0;
    for _ in 0..REQUESTS {
        succeeded += usize::from(pull(&user).await.status == 200);
        // Less than the limit permits. A slow machine makes it fewer, and no test fails for that.
        sleep(Duration::from_millis(10)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    while flood.join_next().await.is_some() {}
    (succeeded * 100 / REQUESTS, refused.load(Ordering::Relaxed))
}

#[tokio::test]
async fn users_keep_their_share_while_anonymous_clients_flood_the_registry() {
    for limits in ["rate = 120", "methods = [{ method = 'GET', rate = 120 }]", "anonymousRate = 20\nuserRate = 150"] {
        let (percent, refused) = flooded(&limited(limits).await).await;
        println!("{limits}: {percent} % of the user's requests succeeded, {refused} anonymous ones were refused");
        assert!(percent >= 90, "{limits}: only {percent} % of the user's requests succeeded");
    }
}
