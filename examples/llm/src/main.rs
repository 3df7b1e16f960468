//! Ask a model, judge its answer, and see both in `feedback-desk`.
//!
//! ```text
//! feedback-desk &
//! cargo run --manifest-path examples/llm/Cargo.toml
//! ```
//!
//! The page is at <http://127.0.0.1:3000>, or at the address that is given as argument. With `OPENAI_API_KEY` (and
//! `OPENAI_BASE_URL`) a real model answers, otherwise one that knows two answers.

use std::env;
use std::error::Error;

use tracing_feedback::TicketKeys;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

/// Good for an example. A service has its own, of 32 random bytes, in `FEEDBACK_TICKET_KEYS`.
const EXAMPLE_KEY: [u8; 32] = *b"everyone knows this key: no good";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = tracing_feedback::builder().with_service_name("llm");
    if env::var_os("FEEDBACK_TICKET_KEYS").is_none() {
        builder = builder.with_ticket_keys(TicketKeys::new([EXAMPLE_KEY])?);
    }
    let (layer, telemetry) = builder.build()?;
    tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).init();

    let service = match env::var("OPENAI_API_KEY") {
        Ok(key) => {
            let base =
                env::var("OPENAI_BASE_URL").unwrap_or("https://api.openai.com/v1".to_owned());
            llm::service(base, &key)
        }
        Err(_) => llm::service(llm::model::start().await?, "none"),
    };
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, service).with_graceful_shutdown(interrupted).await?;
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await??;
    Ok(())
}
