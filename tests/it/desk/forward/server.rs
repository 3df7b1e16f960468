//! A server on loopback, whose answers a backend decides, and which can be at fault.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value as Json;

/// What a strict backend makes of a request.
pub(super) trait Strict: Send + 'static {
    fn answer(&mut self, request: &Request) -> (u16, Json);
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Json,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// How a server is at fault.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// Accepts the connection and sends no answer.
    Hang,
    /// Answers this, with headers.
    Answer(u16, &'static str, &'static str),
    /// Does what is asked, and closes the connection without an answer.
    CloseAfter,
    /// Closes the connection at once.
    Close,
}

pub(super) struct Server {
    pub(super) url: String,
    fault: Arc<Mutex<Option<Fault>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) fn new<S: Strict>(backend: Arc<Mutex<S>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fault: Arc<Mutex<Option<Fault>>> = Arc::default();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (faults, seen) = (Arc::clone(&fault), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (backend, faults, seen) =
                    (Arc::clone(&backend), Arc::clone(&faults), Arc::clone(&seen));
                thread::spawn(move || serve(stream, &backend, &faults, &seen));
            }
        });
        Self { url, fault, requests }
    }

    pub(super) fn set_fault(&self, fault: impl Into<Option<Fault>>) {
        *self.fault.lock().unwrap() = fault.into();
    }

    /// The requests so far, those that met a fault included.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn forget_requests(&self) {
        self.requests.lock().unwrap().clear();
    }
}

fn serve<S: Strict>(
    stream: TcpStream,
    backend: &Mutex<S>,
    faults: &Mutex<Option<Fault>>,
    seen: &Mutex<Vec<Request>>,
) {
    let mut out = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        seen.lock().unwrap().push(request.clone());
        let fault = faults.lock().unwrap().clone();
        let (status, headers, body) = match fault {
            Some(Fault::Hang) => {
                while *faults.lock().unwrap() == Some(Fault::Hang) {
                    thread::sleep(Duration::from_millis(10));
                }
                return;
            }
            Some(Fault::Close) => return,
            Some(Fault::CloseAfter) => {
                backend.lock().unwrap().answer(&request);
                return;
            }
            Some(Fault::Answer(status, headers, body)) => (status, headers, body.to_owned()),
            None => {
                let (status, body) = backend.lock().unwrap().answer(&request);
                let body = if status == 204 { String::new() } else { body.to_string() };
                (status, "content-type: application/json\r\n", body)
            }
        };
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        if out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        if name == "content-length" {
            length = value.parse().ok()?;
        }
        headers.push((name, value));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    };
    Some(Request {
        method,
        path: decoded(path),
        query: query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Json::Null),
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Panics unless an object has these keys alone, the required ones among them. For strict backends.
pub(super) fn check_keys(json: &Json, required: &[&str], optional: &[&str]) {
    let object = json.as_object().unwrap_or_else(|| panic!("no object: {json}"));
    for key in object.keys() {
        assert!(
            required.contains(&key.as_str()) || optional.contains(&key.as_str()),
            "unknown {key}"
        );
    }
    for key in required {
        assert!(object.contains_key(*key), "{key} is missing in {json}");
    }
}
