//! The one match over all methods: a decoded request becomes a job.
//!
//! In flow a request and what its connection has, out flows a [`Job`]: what it touches, and a future that serves it and
//! yields the text of its answer. Nothing runs before the future is polled. It sends nothing.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use exedra_host::fetch::Fetcher;
use exedra_host::fs::Files;
use exedra_host::process::StartError;
use exedra_link::{Message, Sender};
use exedra_proto::dialect::Dialect;
use exedra_proto::envelope::{RequestId, RpcError};
use exedra_proto::environment::{NoParams, Status, StatusResult};
use exedra_proto::fs::ReadBlockParams;
use exedra_proto::ids::ProcessId;
use exedra_proto::limits::ResourceLimits;
use exedra_proto::method::{Request, unknown_method};
use exedra_proto::process::{ReadResult, StartParams, WriteParams};
use exedra_proto::session::ExedraOne;
use exedra_proto::wrapped;
use futures_util::FutureExt as _;
use serde::Serialize;

use super::budget::{Budget, Pool, Share};
use super::fs::Watching;
use super::http::{Body, Exchange, Streams};
use super::order::Class;
use super::reply::{encode, refusal, within_limit};
use super::{errors, fs, http, process};
use crate::session::Session;

/// What the requests of one connection work on.
#[derive(Clone, Debug)]
pub struct Context {
    session: Arc<Session>,
    files: Arc<Files>,
    fetcher: Arc<Fetcher>,
    streams: Streams,
    budget: Budget,
    /// What both ends can do.
    agreed: ExedraOne,
}

/// A request that is ready to be served.
pub struct Job {
    /// What it touches.
    pub class: Class,
    /// The process that it starts: nothing may be told of that before the answer is sent.
    pub starts: Option<ProcessId>,
    /// Serves it.
    pub work: Pin<Box<dyn Future<Output = Served> + Send>>,
}

/// A request that was served.
#[derive(Debug)]
pub struct Served {
    /// The answer.
    pub answer: Message,
    /// What is to be sent after it.
    pub follows: Option<Follow>,
    /// The room that the answer takes, to be kept until it is sent.
    pub share: Share,
}

/// What is to be sent after an answer.
#[derive(Debug)]
pub enum Follow {
    /// The body of a response.
    Body(Body),
    /// The notification of a watch.
    Watch(Watching),
}

impl Follow {
    /// Sends it.
    pub async fn pump(self, sender: Sender) {
        match self {
            Self::Body(body) => body.pump(sender).await,
            Self::Watch(watching) => watching.pump(sender).await,
        }
    }
}

impl Served {
    /// An answer without a body, and of no size to speak of.
    pub fn small(text: String) -> Self {
        Self { answer: Message::text(text), follows: None, share: Share::default() }
    }
}

impl Context {
    /// For a connection that holds `session`; large answers take their room from `pool`.
    pub fn new(session: Arc<Session>, files: Files, fetcher: Arc<Fetcher>, pool: Pool, agreed: ExedraOne) -> Self {
        let (files, streams, budget) = (Arc::new(files), Streams::default(), Budget::new(pool));
        Self { session, files, fetcher, streams, budget, agreed }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// Checks what stock checks while it decodes params, and we when the method runs.
pub fn check(request: &Request, dialect: Dialect) -> Result<(), RpcError> {
    let Request::ProcessWrite(params) = request else { return Ok(()) };
    params.chunk.decode().map(drop).map_err(errors::bad_chunk)?;
    match &params.write_id {
        None if dialect.needs_write_id() => Err(errors::missing_write_id()),
        _ => Ok(()),
    }
}

fn asks_for_limits(params: &StartParams) -> bool {
    params.limits.as_ref().is_some_and(|limits| *limits != ResourceLimits::default())
}

/// What a client asks for in a roundabout way, as others ask for it.
pub fn unwrapped(request: Request) -> Result<Request, RpcError> {
    match request {
        Request::ProcessStart(params) => Ok(Request::ProcessStart(wrapped::unwrap(params).map_err(|why| {
            tracing::warn!(why, "a sandbox that was asked for is not understood; nothing was started");
            errors::from_start(&StartError::SandboxUnavailable)
        })?)),
        other => Ok(other),
    }
}

/// Finds who serves `request` of a client that speaks `dialect`.
pub fn route(id: RequestId, request: Request, context: &Context, dialect: Dialect) -> Job {
    let session = Arc::clone(&context.session);
    match request {
        // The gate has refused it before.
        Request::Initialize(_) => refuse(id, errors::initialized_twice()),
        Request::ProcessStart(params) if asks_for_limits(&params) && !context.agreed.limits => {
            refuse(id, errors::limits_not_agreed())
        }
        Request::ProcessStart(params) => {
            let starts = Some(params.process_id.clone());
            let class = Class::Start(params.process_id.clone());
            Job { starts, ..job(id, class, async move { process::start(&session.processes, params).await }) }
        }
        Request::ProcessRead(params) => {
            let class = Class::Process(params.process_id.clone());
            let (budget, tells_limits) = (context.budget.clone(), context.agreed.limits);
            let work = async move {
                let (mut result, share) =
                    process::read(&session.processes, params, dialect.next_seq(), &budget).await?;
                result.limit = result.limit.filter(|_| tells_limits);
                Ok((result, share))
            };
            budgeted(id, class, work, |result: &ReadResult| result.chunks.iter().map(|c| c.chunk.0.len() + 64).sum())
        }
        Request::ProcessWrite(WriteParams { write_id: None, .. }) if dialect.needs_write_id() => {
            refuse(id, errors::missing_write_id())
        }
        Request::ProcessWrite(WriteParams { write_id: Some(write), .. }) if write.is_empty() => {
            refuse(id, errors::empty_write_id())
        }
        Request::ProcessWrite(params) => {
            let class = Class::Stdin(params.process_id.clone());
            job(id, class, async move { process::write(&session.processes, params).await })
        }
        Request::ProcessCloseStdin(params) => {
            let class = Class::Stdin(params.process_id.clone());
            job(id, class, async move { process::close_stdin(&session.processes, params).await })
        }
        Request::ProcessResize(params) => {
            let class = Class::Process(params.process_id.clone());
            job(id, class, async move { process::resize(&session.processes, &params) })
        }
        Request::ProcessList(_) => job(id, Class::Aside, async move { Ok(process::list(&session.processes)) }),
        Request::ProcessSignal(params) => {
            let class = Class::Process(params.process_id.clone());
            job(id, class, async move { Ok(process::signal(&session.processes, &params)) })
        }
        Request::ProcessTerminate(params) => {
            let class = Class::Process(params.process_id.clone());
            job(id, class, async move { Ok(process::terminate(&session.processes, &params)) })
        }
        Request::HttpRequest(params) => {
            let Context { fetcher, streams, budget, .. } = context.clone();
            let work = async move {
                match guarded(http::request(&fetcher, &streams, &budget, params)).await {
                    Ok(Exchange { head, body, share }) => {
                        let size = head.body_base64.0.len() + 64;
                        Served {
                            answer: encode(id, Ok(head), size).await.into(),
                            follows: body.map(Follow::Body),
                            share,
                        }
                    }
                    Err(error) => Served::small(refusal(&id, &error)),
                }
            };
            Job { class: Class::Aside, starts: None, work: Box::pin(work) }
        }
        Request::EnvironmentInfo(NoParams) => {
            let files = Arc::clone(&context.files);
            job(id, Class::Aside, async move { Ok(files.facts()) })
        }
        Request::EnvironmentStatus(NoParams) => {
            job(id, Class::Aside, async { Ok(StatusResult { status: Status::Ready }) })
        }
        request => files(id, request, context),
    }
}

/// The part of [`route`] about files.
fn files(id: RequestId, request: Request, context: &Context) -> Job {
    let (files, budget) = (Arc::clone(&context.files), context.budget.clone());
    macro_rules! simple {
        ($class:expr, $method:ident, $params:expr) => {{
            let class = $class;
            let work = async move {
                let _turn = budget.turn().await;
                files.$method($params).await.map_err(errors::from_fs)
            };
            job(id, class, work)
        }};
    }
    match request {
        Request::FsReadFile(params) => {
            let class = fs::reads(&params.path);
            let work = async move { fs::read_file(&files, params, &budget).await };
            budgeted(id, class, work, |result| result.data_base64.0.len() + 64)
        }
        Request::FsWriteFile(params) => simple!(fs::changes(&params.path), write_file, params),
        Request::FsCreateDirectory(params) => simple!(fs::changes(&params.path), create_directory, params),
        Request::FsGetMetadata(params) => simple!(fs::reads(&params.path), get_metadata, params),
        Request::FsReadDirectory(params) => {
            let class = fs::reads(&params.path);
            budgeted(id, class, async move { fs::read_directory(&files, params, &budget).await }, fs::list_size)
        }
        Request::FsRemove(params) => simple!(fs::changes(&params.path), remove, params),
        Request::FsCopy(params) => simple!(fs::changes(&params.destination_path), copy, params),
        Request::FsCanonicalize(params) => simple!(fs::reads(&params.path), canonicalize, params),
        Request::FsOpen(params) => simple!(fs::opens(&params), open, params),
        Request::FsReadBlock(params) => {
            let class = Class::Handle(params.handle_id.clone());
            let binary = context.agreed.binary;
            let work = async move { block(id, &files, params, &budget, binary).await };
            Job { class, starts: None, work: Box::pin(work) }
        }
        Request::FsWriteBlock(params) => simple!(Class::Handle(params.handle_id.clone()), write_block, params),
        Request::FsUploadOpen(params) => simple!(fs::uploads(&params), upload_open, params),
        Request::FsUploadFinish(params) => simple!(Class::Handle(params.handle_id.clone()), upload_finish, params),
        Request::FsUploadDiscard(params) => simple!(Class::Handle(params.handle_id.clone()), upload_discard, params),
        Request::FsClose(params) => simple!(Class::Handle(params.handle_id.clone()), close, params),
        Request::FsWalk(params) => {
            let class = fs::reads(&params.path);
            budgeted(id, class, async move { fs::walk(&files, params, &budget).await }, fs::walk_size)
        }
        Request::FsWatchMissing(params) => {
            let work = async move {
                match guarded(fs::watch_missing(&files, params, &budget)).await {
                    Ok((result, watching)) => {
                        let follows = watching.map(Follow::Watch);
                        Served { answer: encode(id, Ok(result), 0).await.into(), follows, share: Share::default() }
                    }
                    Err(error) => Served::small(refusal(&id, &error)),
                }
            };
            Job { class: Class::Watch, starts: None, work: Box::pin(work) }
        }
        Request::EnvironmentConfigRead(params) => simple!(fs::reads(&params.cwd), read_settings, params),
        Request::CapabilityRootsDiscover(params) => {
            let class = fs::reads_roots(&params);
            budgeted(id, class, async move { fs::discover(&files, params, &budget).await }, fs::discovery_size)
        }
        // Nothing else comes here.
        other => refuse(id, unknown_method(other.row().name)),
    }
}

/// The answer to `fs/readBlock`. It is written as it is read, so that a large one is not looked through again.
async fn block(id: RequestId, files: &Files, params: ReadBlockParams, budget: &Budget, binary: bool) -> Served {
    let read = guarded(async {
        Ok(match binary {
            true => {
                let (answer, share) = fs::read_bytes(files, &id, params, budget).await?;
                (Message::Binary(answer.into()), share)
            }
            false => {
                let (answer, share) = fs::read_block(files, &id, params, budget).await?;
                (Message::text(within_limit(&id, answer)), share)
            }
        })
    });
    match read.await {
        Ok((answer, share)) => Served { answer, follows: None, share },
        Err(error) => Served::small(refusal(&id, &error)),
    }
}

/// A job that only refuses.
pub fn refuse(id: RequestId, error: RpcError) -> Job {
    answer(refusal(&id, &error))
}

/// A job whose answer is there.
pub fn answer(text: String) -> Job {
    let work = Box::pin(std::future::ready(Served::small(text)));
    Job { class: Class::Aside, starts: None, work }
}

fn job<R, W>(id: RequestId, class: Class, work: W) -> Job
where
    R: Serialize + Send + 'static,
    W: Future<Output = Result<R, RpcError>> + Send + 'static,
{
    let work = async move { Served::small(encode(id, guarded(work).await, 0).await) };
    Job { class, starts: None, work: Box::pin(work) }
}

/// A job whose result may be large and has room of its own: `size` guesses how large as JSON.
fn budgeted<R, W>(id: RequestId, class: Class, work: W, size: impl FnOnce(&R) -> usize + Send + 'static) -> Job
where
    R: Serialize + Send + 'static,
    W: Future<Output = Result<(R, Share), RpcError>> + Send + 'static,
{
    let work = async move {
        match guarded(work).await {
            Ok((result, share)) => {
                let size = size(&result);
                Served { answer: encode(id, Ok(result), size).await.into(), follows: None, share }
            }
            Err(error) => Served::small(refusal(&id, &error)),
        }
    };
    Job { class, starts: None, work: Box::pin(work) }
}

/// A mistake of ours in one request must not cost the connection, and all others on it.
async fn guarded<R>(work: impl Future<Output = Result<R, RpcError>>) -> Result<R, RpcError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(errors::panicked()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_answer() {
        let work = async { if true { panic!("a mistake") } else { Ok(()) } };
        let served = job(RequestId::Integer(7), Class::Aside, work).work.await;
        assert_eq!(served.answer.as_text(), Ok(r#"{"error":{"code":-32603,"message":"internal error"},"id":7}"#));
    }
}
