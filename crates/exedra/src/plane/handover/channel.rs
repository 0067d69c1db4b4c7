//! The socket between the old process and the new one: two file descriptors first, then messages, and perhaps one more
//! descriptor at the end.
//!
//! In flow values and descriptors, out flow the same at the other end. A message is its length in four bytes and then
//! JSON. It does not know what is said.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

/// Which messages are spoken: the old process sends it along with the descriptors, and a new one that speaks others says
/// so and ends.
const VERSION: u8 = 1;
/// Largest message, in bytes: as many used tickets as a rendezvous remembers, three times over.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Sends descriptors, two at most.
pub fn send_descriptors(socket: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("there is no room for descriptors"));
    }
    match sendmsg(socket.as_fd(), &[IoSlice::new(&[VERSION])], &mut ancillary, SendFlags::NOSIGNAL)? {
        1 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Receives them: as many as are wanted, and no others.
pub fn receive_descriptors<const N: usize>(socket: impl AsFd) -> io::Result<[OwnedFd; N]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut version = [0];
    let mut slices = [IoSliceMut::new(&mut version)];
    let received = recvmsg(socket.as_fd(), &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let given = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let given: Vec<_> = given.flatten().collect();
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if version != [VERSION] {
        let text = format!("it speaks version {} of the hand-over, and this program speaks {VERSION}", version[0]);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    given
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "there are too few descriptors, or too many"))
}

/// Sends a descriptor after messages.
pub async fn send_descriptor(socket: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        socket.writable().await?;
        match socket.try_io(Interest::WRITABLE, || send_descriptors(socket, &[descriptor])) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
    }
}

/// Waits for a descriptor; none when the other process is done. May be dropped, and nothing is lost.
pub async fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    loop {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || receive_descriptors(socket)) {
            Ok([descriptor]) => return Ok(Some(descriptor)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends a message.
pub async fn send(socket: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(|_| too_long())?;
    socket.write_all(&length.to_be_bytes()).await?;
    socket.write_all(&text).await?;
    socket.flush().await
}

/// The next message; none when the other process is done.
pub async fn receive<T: DeserializeOwned>(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(too_long());
    }
    let mut text = Vec::new();
    socket.take(length as u64).read_to_end(&mut text).await?;
    if text.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&text)?))
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message is too long")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;

    #[test]
    fn descriptors_arrive_and_are_ours_alone() {
        let (here, there) = StdStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"this file").unwrap();
        send_descriptors(&here, &[file.as_fd(), here.as_fd()]).unwrap();
        let [received, _] = receive_descriptors(&there).unwrap();
        let flags = rustix::io::fcntl_getfd(&received).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let (mut received, mut text) = (File::from(received), String::new());
        received.rewind().unwrap();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "this file");
    }

    #[test]
    fn another_version_too_few_descriptors_and_an_end_are_told() {
        let told = |send: &dyn Fn(&StdStream)| {
            let (here, there) = StdStream::pair().unwrap();
            send(&here);
            drop(here);
            receive_descriptors::<2>(&there).unwrap_err().to_string()
        };
        assert!(told(&|mut here| here.write_all(&[9]).unwrap()).contains("version 9"));
        assert!(told(&|mut here| here.write_all(&[VERSION]).unwrap()).contains("too few descriptors"));
        told(&|_| {});
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_what_is_none_is_refused() {
        let (mut here, mut there) = tokio::io::duplex(16);
        let long = "x".repeat(100_000);
        let (sent, received) = tokio::join!(send(&mut here, &long), receive::<String>(&mut there));
        sent.unwrap();
        assert_eq!(received.unwrap(), Some(long));
        here.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert_eq!(receive::<String>(&mut there).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut here, mut there) = tokio::io::duplex(16);
        here.write_all(&[0, 0, 0, 9, b'"']).await.unwrap();
        drop(here);
        assert_eq!(receive::<String>(&mut there).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (here, mut there) = tokio::io::duplex(16);
        drop(here);
        assert_eq!(receive::<String>(&mut there).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_descriptor_comes_after_messages_and_an_end_is_none() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let (file, beside) = UnixStream::pair().unwrap();
        send(&mut here, &"a word").await.unwrap();
        send_descriptor(&here, file.as_fd()).await.unwrap();
        drop((here, file));
        assert_eq!(receive::<String>(&mut there).await.unwrap().unwrap(), "a word");
        let received = receive_descriptor(&there).await.unwrap().unwrap();
        assert_eq!(receive_descriptor(&there).await.unwrap().map(drop), None);
        drop(received);
        assert_eq!(receive_descriptor(&beside).await.unwrap().map(drop), None, "it was the last copy");
    }
}
