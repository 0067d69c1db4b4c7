//! The `process/*` methods: params to the session's process table, its answers back.
//!
//! In flow decoded params, out flow results or refusals. It knows no message and no connection.

use exedra_host::process::Table;
use exedra_proto::dialect::NextSeq;
use exedra_proto::envelope::RpcError;
use exedra_proto::process::{
    ListResult, ProcessParams, ReadParams, ReadResult, ResizeParams, ResizeResult, Signal, SignalParams, SignalResult,
    StartParams, StartResult, TerminalSize, TerminateResult, WriteParams, WriteResult,
};

use super::budget::{Budget, Share};
use super::errors;

/// `process/start`
pub async fn start(table: &Table, params: StartParams) -> Result<StartResult, RpcError> {
    let process_id = params.process_id.clone();
    let kind = table.start(params).await.map_err(|error| errors::from_start(&error))?;
    Ok(StartResult { process_id, sandbox_type: Some(kind) })
}

/// `process/read`, and the room that its answer takes.
pub async fn read(
    table: &Table,
    params: ReadParams,
    next_seq: NextSeq,
    budget: &Budget,
) -> Result<(ReadResult, Share), RpcError> {
    let found = table.look(params, next_seq).await.map_err(|error| errors::from_unknown_process(&error))?;
    let share = budget.share(found.output_len() as u64).await;
    Ok((found.encode().await, share))
}

/// `process/write`
pub async fn write(table: &Table, params: WriteParams) -> Result<WriteResult, RpcError> {
    let bytes = params.chunk.decode().map_err(errors::bad_chunk)?;
    let status = table.write(&params.process_id, bytes, params.write_id).await.map_err(errors::from_write)?;
    Ok(WriteResult { status })
}

/// `process/closeStdin`
pub async fn close_stdin(table: &Table, params: ProcessParams) -> Result<WriteResult, RpcError> {
    Ok(WriteResult { status: table.close_stdin(&params.process_id).await })
}

/// `process/resize`
pub fn resize(table: &Table, params: &ResizeParams) -> Result<ResizeResult, RpcError> {
    let TerminalSize { rows, cols } = params.size;
    if rows == 0 || cols == 0 {
        return Err(errors::no_size());
    }
    Ok(ResizeResult { status: table.resize(&params.process_id, params.size) })
}

/// `process/list`
pub fn list(table: &Table) -> ListResult {
    ListResult { processes: table.list() }
}

/// `process/signal`
pub fn signal(table: &Table, params: &SignalParams) -> SignalResult {
    match params.signal {
        Signal::Interrupt => table.interrupt(&params.process_id),
    }
    SignalResult {}
}

/// `process/terminate`
pub fn terminate(table: &Table, params: &ProcessParams) -> TerminateResult {
    TerminateResult { running: table.terminate(&params.process_id) }
}
