//! Whether the routes lose what they have taken: many browsers at once, for a while.
//!
//! ```console
//! $ cargo bench --bench routes
//! $ cargo bench --bench routes -- --senders 500 --seconds 120
//! ```
//!
//! A service with `feedback_routes`, on loopback, exports to a receiver in a process of its own.
//! Senders, each with a connection, submit one feedback after the other, each in a submission of
//! its own. In the end the receiver has to have as many carriers as were answered by 204, and every
//! submission an answer. Arguments: `--senders` (200) and `--seconds` (30). With `--test`, or not
//! run by `cargo bench`, it takes a moment.

#[path = "../process/mod.rs"]
mod process;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use tracing_feedback::web::{FeedbackRoutes, feedback_routes};
use tracing_feedback::{SpanExt, TicketKeys};
use tracing_subscriber::prelude::*;

use process::Helper;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["receiver"] {
        return process::serve();
    }
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let number = |name: &str, default: u64| {
        let argument = arguments.iter().skip_while(|argument| *argument != name).nth(1);
        argument.and_then(|number| number.parse().ok()).unwrap_or(default)
    };
    let is_short = !has("--bench") || has("--test");
    let (senders, seconds) = if is_short {
        (10, 0.2)
    } else {
        (number("--senders", 200), number("--seconds", 30) as f64)
    };

    // A client of `reqwest` needs a TLS provider, even if it never uses TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut receiver = Helper::start(&["receiver"]);
    let (layer, telemetry) = tracing_feedback::builder()
        .with_endpoint(receiver.read_line())
        .with_ticket_keys(TicketKeys::new([[7; 32]]).expect("a key"))
        .with_ticket_budget(
            tracing_feedback::TicketBudget::new().with_submissions(u32::MAX).with_bytes(u64::MAX),
        )
        .build()
        .expect("a layer");
    tracing_subscriber::registry()
        .with(layer.with_filter(tracing::level_filters::LevelFilter::WARN))
        .init();

    let ticket = tracing::warn_span!("answer").ticket().expect("a ticket").to_string();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let (answers, slowest) = runtime.block_on(submit(senders, until, &ticket));
    let flushed = telemetry.flush();
    drop(telemetry);

    println!("{senders} senders for {seconds} s; the slowest answer took {slowest:?}");
    for (answer, times) in &answers {
        println!("{times:>10}  {answer}");
    }
    // One span is the answer itself.
    let carriers = receiver.request_line().parse::<u64>().expect("a number") - 1;
    println!("{carriers:>10}  carriers received");
    receiver.end();
    let taken = answers.get(StatusCode::NO_CONTENT.as_str()).copied().unwrap_or_default();
    assert!(flushed.is_ok(), "{flushed:?}");
    assert_eq!(carriers, taken, "what was answered by 204 has arrived");
    assert!(!answers.contains_key("none"), "every submission has an answer");
}

/// How often each status was answered, `none` where there was no answer, and the longest wait.
async fn submit(senders: u64, until: Instant, ticket: &str) -> (BTreeMap<String, u64>, Duration) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}/feedback", listener.local_addr().expect("its address"));
    let router = feedback_routes::<()>(FeedbackRoutes::new());
    tokio::spawn(async { axum::serve(listener, router).await });

    let mut tasks = JoinSet::new();
    for sender in 0..senders {
        let (client, url, ticket) = (Client::new(), url.clone(), ticket.to_owned());
        tasks.spawn(async move {
            let (mut answers, mut slowest) = (BTreeMap::<String, u64>::new(), Duration::ZERO);
            for time in 0_u64.. {
                if Instant::now() >= until {
                    break;
                }
                let id = format!("{sender} {time}");
                let feedback = json!({ "rating": time % 5, "comment": "the capital of New York" });
                let body = json!({ "ticket": ticket, "feedback": feedback, "id": id });
                let begun = Instant::now();
                let answer = client.post(&url).body(body.to_string()).send().await;
                let answer =
                    answer.map_or("none".to_owned(), |answer| answer.status().as_str().to_owned());
                slowest = slowest.max(begun.elapsed());
                *answers.entry(answer).or_default() += 1;
            }
            (answers, slowest)
        });
    }
    let mut all = (BTreeMap::<String, u64>::new(), Duration::ZERO);
    while let Some(done) = tasks.join_next().await {
        let (answers, slowest) = done.expect("a sender ends");
        all.1 = all.1.max(slowest);
        for (answer, times) in answers {
            *all.0.entry(answer).or_default() += times;
        }
    }
    all
}
