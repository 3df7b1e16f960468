//! Every scripted answer, over both protocols.

use prost::Message;
use tonic::Code;
use tonic_types::StatusExt;

use super::*;

fn three() -> ExportTraceServiceRequest {
    request([named("a", 1, 1), named("b", 1, 2), named("c", 1, 3)])
}

fn over_grpc(collector: &Collector) -> Result<ExportTraceServiceResponse, tonic::Status> {
    block_on(export(collector, three(), None))
}

fn over_http(collector: &Collector) -> io::Result<HttpReply> {
    post(collector, PROTOBUF, &three().encode_to_vec())
}

fn outcomes(collector: &Collector) -> Vec<Outcome> {
    collector.requests().into_iter().map(|request| request.outcome).collect()
}

/// After a fault the spans are not stored, the request is recorded, and the next one is accepted.
fn assert_only_that_one(collector: &Collector, answer: &Answer) {
    assert_eq!(collector.spans(), []);
    assert_eq!(outcomes(collector), [Outcome::Scripted(answer.clone())]);
    assert_eq!(collector.requests()[0].spans, 3);
    over_grpc(collector).unwrap();
    assert_eq!(over_http(collector).unwrap().status, 200);
    assert_eq!(collector.spans().len(), 6);
    collector.clear();
}

#[test]
fn come_back_later() {
    let collector = Collector::start().unwrap();
    let delay = Some(Duration::from_millis(1500));
    for retry_after in [None, delay] {
        for (answer, code, status) in [
            (Answer::Unavailable { retry_after }, Code::Unavailable, 503),
            (Answer::ResourceExhausted { retry_after }, Code::ResourceExhausted, 429),
        ] {
            collector.answer_next(answer.clone());
            let failed = over_grpc(&collector).unwrap_err();
            assert_eq!(failed.code(), code);
            let delay = failed.get_details_retry_info().and_then(|info| info.retry_delay);
            assert_eq!(delay, retry_after);
            assert_only_that_one(&collector, &answer);

            collector.answer_next(answer.clone());
            let failed = over_http(&collector).unwrap();
            assert_eq!(failed.status, status);
            assert_eq!(failed.head.contains("retry-after: 2"), retry_after.is_some());
            assert!(retry_after.is_some() || !failed.head.contains("retry-after"));
            let body = tonic_types::Status::decode(failed.body.as_slice()).unwrap();
            assert_eq!(body.code, i32::from(code));
            assert_only_that_one(&collector, &answer);
        }
    }
}

#[test]
fn bad_request() {
    let collector = Collector::start().unwrap();
    let answer = Answer::BadRequest { message: "no, ü".into() };
    collector.answer_next(answer.clone());
    let failed = over_grpc(&collector).unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::InvalidArgument, "no, ü"));
    assert_only_that_one(&collector, &answer);

    collector.answer_next(answer.clone());
    let failed = over_http(&collector).unwrap();
    assert_eq!(failed.status, 400);
    let body = tonic_types::Status::decode(failed.body.as_slice()).unwrap();
    assert_eq!((body.code, body.message.as_str()), (i32::from(Code::InvalidArgument), "no, ü"));
    assert_only_that_one(&collector, &answer);
}

#[test]
fn partial_success_keeps_the_rest() {
    let collector = Collector::start().unwrap();
    let answer = Answer::PartialSuccess { rejected: 2, message: "two".into() };
    collector.answer_next(answer.clone());
    let partial = over_grpc(&collector).unwrap().partial_success.unwrap();
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (2, "two"));

    collector.answer_next(answer.clone());
    let reply = over_http(&collector).unwrap();
    let response = ExportTraceServiceResponse::decode(reply.body.as_slice()).unwrap();
    assert_eq!((reply.status, response.partial_success), (200, Some(partial)));

    collector.answer_next(answer.clone());
    let reply = post(&collector, JSON, b"{}").unwrap();
    let expected = r#"{"partialSuccess":{"errorMessage":"two","rejectedSpans":"2"}}"#;
    assert_eq!(String::from_utf8(reply.body).unwrap(), expected);

    assert_eq!(names(&collector.spans()), ["c", "c"]);
    assert_eq!(outcomes(&collector), vec![Outcome::Scripted(answer); 3]);
    for rejected in [-1, i64::MAX] {
        collector.answer_next(Answer::PartialSuccess { rejected, message: String::new() });
        over_grpc(&collector).unwrap();
    }
    assert_eq!(collector.spans().len(), 2 + 3);
}

#[test]
fn silence_lasts_and_delays_no_other_request() {
    let collector = Collector::start().unwrap();
    collector.answer_next(Answer::Silence);
    let mut silent = {
        let body = three().encode_to_vec();
        send(&collector, "POST", "/v1/traces", &[("content-type", PROTOBUF)], &body).unwrap()
    };
    collector.wait_for_requests(1, LONG).unwrap();
    assert_only_that_one(&collector, &Answer::Silence);
    silent.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let nothing = silent.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(nothing, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));

    collector.answer_next(Answer::Silence);
    block_on(async {
        let mut client = TraceServiceClient::new(channel(&collector).await);
        let mut same = client.clone();
        let silent = tokio::spawn(async move { same.export(three()).await });
        let inbox = Arc::clone(&collector.inbox);
        let waiting = tokio::task::spawn_blocking(move || inbox.wait_for_requests(1, LONG));
        waiting.await.unwrap().unwrap();
        assert!(!silent.is_finished());
        silent.abort();
        assert_eq!(outcomes(&collector), [Outcome::Scripted(Answer::Silence)]);
        // The same connection goes on: the silent request was cancelled, not the collector.
        client.export(three()).await.unwrap();
    });
    assert_eq!(collector.spans().len(), 3);
}

#[test]
fn a_cut_closes_the_connection_and_only_that_one() {
    let collector = Collector::start().unwrap();
    collector.answer_next(Answer::Cut);
    let error = over_http(&collector).unwrap_err();
    let gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
    assert!(gone.contains(&error.kind()), "{error:?}");
    assert_only_that_one(&collector, &Answer::Cut);

    block_on(async {
        let mut bystander = TraceServiceClient::new(channel(&collector).await);
        bystander.export(three()).await.unwrap();
        collector.clear();

        collector.answer_next(Answer::Cut);
        let status = export(&collector, three(), None).await.unwrap_err();
        // What tonic makes of it: a transport error, not the status of an answer.
        assert!(std::error::Error::source(&status).is_some(), "{status:?}");
        assert_eq!(outcomes(&collector), [Outcome::Scripted(Answer::Cut)]);

        bystander.export(three()).await.unwrap();
    });
    assert_eq!(collector.spans().len(), 3);
}

#[test]
fn answers_come_in_order_and_then_the_standing_one() {
    let collector = Collector::start().unwrap();
    let outage = Answer::Unavailable { retry_after: None };
    collector.answer_all(Some(outage.clone()));
    collector.answer_next(Answer::Accept);
    collector.answer_next(Answer::BadRequest { message: String::new() });
    assert_eq!(over_http(&collector).unwrap().status, 200);
    assert_eq!(over_grpc(&collector).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(over_grpc(&collector).unwrap_err().code(), Code::Unavailable);
    assert_eq!(over_http(&collector).unwrap().status, 503);
    // What isn't an export takes no answer from the script.
    collector.answer_next(Answer::Cut);
    assert_eq!(http(&collector, "GET", "/", &[], b"").unwrap().status, 404);
    over_http(&collector).unwrap_err();
    collector.answer_all(None);
    assert_eq!(over_http(&collector).unwrap().status, 200);
    assert_eq!(collector.spans().len(), 6);
}
