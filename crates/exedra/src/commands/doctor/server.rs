//! `exedra doctor --server`: the way to a server, step by step as executors and clients go it.
//!
//! In flows a URL, out flow findings. Nothing is asked for that needs a token. After a step without which the next ones make
//! no sense, there are no more.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exedra_link::certificate::Validity;
use exedra_link::ws;
use exedra_proto::ticket::REJECTION_HEADER;
use reqwest::header::DATE;
use reqwest::redirect::Policy;
use reqwest::tls::TlsInfo;
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::{Host, Url};

use super::{Finding, Status};

/// Limit for each step.
const PATIENCE: Duration = Duration::from_secs(10);
/// A certificate that ends sooner is worth a word, in days.
const DAYS_LEFT: u64 = 21;
/// Clocks that differ by more are worth a word, in seconds: signed registrations are refused from 300 s on.
const SKEW: u64 = 30;
/// A ticket that is none; a rendezvous says so, once the request for a websocket has reached it.
const NO_TICKET: &str = "rendezvous/reg-doctor?role=harness";

/// Goes the way.
pub async fn look(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let url = match address(text, &mut findings) {
        Some(url) => url,
        None => return findings,
    };
    if let Some(Host::Domain(_)) = url.host()
        && !name(&url, &mut findings).await
    {
        return findings;
    }
    if !connection(&url, &mut findings).await {
        return findings;
    }
    let clients = client(true).and_then(|proxied| Ok((proxied, client(false)?)));
    let (proxied, straight) = match clients {
        Ok(clients) => clients,
        Err(text) => {
            findings.push(Finding::new("http", Status::Fail, text));
            return findings;
        }
    };
    if let Some(answer) = answer(&proxied, &url, &mut findings).await {
        ready(answer, &mut findings).await;
        version(&proxied, &url, &mut findings).await;
        websocket(&straight, &url, &mut findings).await;
    }
    findings
}

fn address(text: &str, findings: &mut Vec<Finding>) -> Option<Url> {
    let url =
        Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    let Some(mut url) = url else {
        findings.push(Finding::new("url", Status::Fail, "it is no URL of http:// or https://"));
        return None;
    };
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    // So that what is joined goes beneath it.
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    let is_open = url.scheme() == "http" && !is_here(&url);
    let (status, word) = if is_open {
        (Status::Warn, ", which is not secured: tokens are sent there only with --insecure-http")
    } else {
        (Status::Ok, "")
    };
    findings.push(Finding::new("url", status, format!("{url}{word}")));
    Some(url)
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// All addresses, in the order in which they are tried.
async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, String> {
    let port = url.port_or_known_default().unwrap_or(443);
    let found = match url.host() {
        Some(Host::Ipv4(address)) => return Ok(vec![(address, port).into()]),
        Some(Host::Ipv6(address)) => return Ok(vec![(address, port).into()]),
        Some(Host::Domain(name)) => timeout(PATIENCE, lookup_host((name.to_owned(), port))).await,
        None => return Err("there is no host".to_owned()),
    };
    let found: Vec<_> =
        found.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?.collect();
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

async fn name(url: &Url, findings: &mut Vec<Finding>) -> bool {
    let found = addresses(url).await;
    let texts = found.as_ref().map(|found| found.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>());
    findings.push(match texts {
        Ok(texts) => Finding::new("name", Status::Ok, texts.join(", ")),
        Err(error) => Finding::new("name", Status::Fail, error.clone()),
    });
    found.is_ok()
}

async fn connection(url: &Url, findings: &mut Vec<Finding>) -> bool {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for address in addresses(url).await.unwrap_or_default() {
        let started = Instant::now();
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => good.push(format!("{address} in {} ms", started.elapsed().as_millis())),
            Ok(Err(error)) => bad.push(format!("{address}: {error}")),
            Err(_) => bad.push(format!("{address}: no answer in time")),
        }
    }
    let status = match (good.is_empty(), bad.is_empty()) {
        (true, _) => Status::Fail,
        (false, false) => Status::Warn,
        (false, true) => Status::Ok,
    };
    let is_reached = !good.is_empty();
    good.append(&mut bad);
    findings.push(Finding::new("connection", status, good.join(", ")));
    is_reached
}

/// A client as executors and clients have it for requests: with the proxies of the environment; or without, as they open
/// websockets.
fn client(proxied: bool) -> Result<Client, String> {
    let tls = ws::client_tls()?;
    let client = Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .tls_info(true)
        .http1_only()
        .redirect(Policy::none())
        .timeout(PATIENCE);
    let client = if proxied { client } else { client.no_proxy() };
    client.build().map_err(said)
}

/// The answer of `/readyz`, with which clock and certificate are looked at.
async fn answer(client: &Client, url: &Url, findings: &mut Vec<Finding>) -> Option<Response> {
    let sent = SystemTime::now();
    let answer = match get(client, url, "readyz").await {
        Ok(answer) => answer,
        Err(error) => {
            findings.push(Finding::new(
                if url.scheme() == "https" { "certificate" } else { "http" },
                Status::Fail,
                error,
            ));
            return None;
        }
    };
    if url.scheme() == "https" {
        findings.push(certificate(&answer));
    }
    findings.push(clock(&answer, sent));
    Some(answer)
}

/// It was found good, or there would be no answer; how long it is.
fn certificate(answer: &Response) -> Finding {
    let validity = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate).and_then(Validity::of);
    let Some(Validity { not_after, .. }) = validity else {
        return Finding::new("certificate", Status::Warn, "good; its end cannot be read");
    };
    let days = not_after.saturating_sub(seconds(SystemTime::now())) / 86_400;
    let status = if days < DAYS_LEFT { Status::Warn } else { Status::Ok };
    Finding::new("certificate", status, format!("good for {days} days"))
}

fn clock(answer: &Response, sent: SystemTime) -> Finding {
    let date = answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let Some(date) = date.map(seconds) else {
        return Finding::new("clock", Status::Warn, "the server does not say what time it is");
    };
    // Between the request and its answer it was any second of these.
    let (before, after) = (seconds(sent), seconds(SystemTime::now()));
    let (off, way) = if date > after { (date - after, "ahead of") } else { (before.saturating_sub(date), "behind") };
    match off {
        0..=1 => Finding::new("clock", Status::Ok, "as here"),
        off if off <= SKEW => Finding::new("clock", Status::Ok, format!("the server's is {off} s {way} ours")),
        off => Finding::new(
            "clock",
            Status::Warn,
            format!("the server's is {off} s {way} ours: signed registrations and workload tokens may be refused"),
        ),
    }
}

async fn ready(answer: Response, findings: &mut Vec<Finding>) {
    let status = answer.status().as_u16();
    let body = text(answer).await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    findings.push(match status {
        200 if body.trim() == "ready" => Finding::new("ready", Status::Ok, "it takes new work"),
        503 if problem["error"]["code"].is_string() => {
            let detail = problem["detail"].as_str().unwrap_or("it takes no new work");
            Finding::new("ready", Status::Fail, shown(detail))
        }
        502..=504 => {
            Finding::new("ready", Status::Fail, format!("{status}: a proxy is there, and does not reach the server"))
        }
        300..=399 => Finding::new("ready", Status::Fail, format!("{status}: it leads elsewhere")),
        _ => Finding::new("ready", Status::Fail, format!("{status}: this is no server of Exedra")),
    });
}

async fn version(client: &Client, url: &Url, findings: &mut Vec<Finding>) {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    let document = match get(client, url, "v1/openapi.json").await {
        Ok(answer) => text(answer).await,
        Err(error) => Err(error),
    };
    let document: Value = document.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    findings.push(match document["info"]["version"].as_str() {
        Some(OURS) => Finding::new("version", Status::Ok, OURS),
        Some(theirs) => {
            Finding::new("version", Status::Warn, format!("the server's is {}, this is {OURS}", shown(theirs)))
        }
        None => Finding::new("version", Status::Warn, "the server does not say it"),
    });
    if let Some(public) = document["servers"][0]["url"].as_str().and_then(|text| Url::parse(text).ok()) {
        findings.push(tickets(&public, url));
    }
}

/// Where executors and clients are sent by a server that was asked at `url`.
fn tickets(public: &Url, url: &Url) -> Finding {
    let lead = format!("lead to {}", shown(public.as_str().trim_end_matches('/')));
    if is_here(public) && !is_here(url) {
        let url = url.as_str().trim_end_matches('/');
        let text = format!("{lead}, which is another machine for everybody else: start it with `--public-url {url}`");
        return Finding::new("tickets", Status::Fail, text);
    }
    Finding::new("tickets", Status::Ok, lead)
}

/// Whether a request for a websocket reaches the rendezvous as one.
async fn websocket(client: &Client, url: &Url, findings: &mut Vec<Finding>) {
    let Ok(there) = url.join(NO_TICKET) else { return };
    let request = client.get(there).header("connection", "Upgrade").header("upgrade", "websocket");
    let request = request.header("sec-websocket-version", "13").header("sec-websocket-key", "ZXhlZHJhLWRvY3Rvci0wMQ==");
    findings.push(match request.send().await {
        Ok(answer) if answer.headers().contains_key(REJECTION_HEADER) => {
            Finding::new("websocket", Status::Ok, "requests for one get through")
        }
        Ok(answer) if answer.status().as_u16() == 426 => {
            Finding::new("websocket", Status::Fail, "426: a proxy in front does not pass on the headers of an upgrade")
        }
        Ok(answer) => {
            let status = answer.status().as_u16();
            Finding::new("websocket", Status::Fail, format!("{status}: what answers is no rendezvous"))
        }
        Err(error) => Finding::new("websocket", Status::Fail, said(error)),
    });
}

async fn get(client: &Client, base: &Url, path: &str) -> Result<Response, String> {
    let url = base.join(path).map_err(|error| error.to_string())?;
    client.get(url).send().await.map_err(said)
}

/// The body, 1 MiB of it at most.
async fn text(mut answer: Response) -> Result<String, String> {
    const MAX: usize = 1024 * 1024;
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(said)? {
        body.extend(piece.iter().take(MAX - body.len()));
        if body.len() == MAX {
            break;
        }
    }
    String::from_utf8(body).map_err(|error| error.to_string())
}

/// What a server says is not trusted with the terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn said(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}
