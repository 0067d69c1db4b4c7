//! Messages in frames of every size come out as they went in, or not at all.

use bytes::Bytes;
use exedra_proto::frame::{Body, Frame as Relay};
use proptest::prelude::*;

use super::*;

fn data(stream: &str, payload: &[u8]) -> Vec<u8> {
    let body = Body::Data { seq: 0, payload: Bytes::copy_from_slice(payload) };
    Relay { stream: StreamId::new(stream).unwrap(), body }.encode().to_vec()
}

/// The message in frames of at most `size` bytes.
fn frames(message: &[u8], size: usize) -> Vec<Vec<u8>> {
    let pieces: Vec<_> = message.chunks(size.max(1)).collect();
    let opcode = |at| if at == 0 { Opcode::Binary } else { Opcode::Continuation };
    pieces.iter().enumerate().map(|(at, piece)| header::frame(at + 1 == pieces.len(), opcode(at), piece)).collect()
}

/// What a receiver makes of the frames that were passed on: payloads of whole messages, and whether one is open.
fn received(mut passed: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut whole, mut open) = (Vec::new(), None::<Vec<u8>>);
    while let Some(frame) = Frame::first(passed) {
        assert_eq!(frame.opcode == Opcode::Continuation, open.is_some());
        let message = open.get_or_insert_default();
        message.extend(frame.payload);
        if frame.fin {
            whole.extend(open.take());
        }
        passed = &passed[frame.bytes.len()..];
    }
    (whole, open.is_some())
}

fn passed(inbox: &mut Inbox, frames: &[Vec<u8>], collect: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        match inbox.frame(&Frame::first(frame).unwrap(), collect) {
            Part::Whole(_, _, bytes) | Part::Begin(_, bytes) | Part::More(bytes) | Part::End(bytes, _) => {
                out.extend(bytes.as_ref());
            }
            Part::Wait | Part::Dropped(_) => {}
        }
    }
    out
}

proptest! {
    #[test]
    fn messages_pass_unchanged(sizes in proptest::collection::vec(1usize..20_000, 1..6), size in 1usize..9_000, collect in 0usize..12_000) {
        let mut inbox = Inbox::default();
        let messages: Vec<_> = sizes.iter().map(|len| data("s", &vec![b'x'; *len])).collect();
        let input: Vec<_> = messages.iter().flat_map(|message| frames(message, size)).collect();
        prop_assert_eq!(received(&passed(&mut inbox, &input, collect)), (messages, false));
        prop_assert_eq!(inbox.held(), 0);
    }

    #[test]
    fn a_second_stream_id_behind_the_payload_spoils_the_message(len in 1usize..9_000, size in 1usize..3_000, collect in 0usize..4_000) {
        let mut inbox = Inbox::default();
        let bad = [data("s", &vec![b'x'; len]), vec![0x12, 1, b't']].concat();
        let good = data("s", b"next");
        let input = [frames(&bad, size), frames(&good, size)].concat();
        let (whole, open) = received(&passed(&mut inbox, &input, collect));
        prop_assert!(!open);
        let decoded: Vec<_> = whole.into_iter().filter_map(|message| Relay::decode(message.into()).ok()).collect();
        prop_assert_eq!(decoded.len(), 1, "the good one alone");
    }

    #[test]
    fn what_breaks_off_is_no_frame(len in 2_000usize..9_000, size in 1usize..1_500, cut in 1usize..8) {
        let mut inbox = Inbox::default();
        let input = frames(&data("s", &vec![b'x'; len]), size);
        let begun = &input[..cut.min(input.len() - 1)];
        let mut out = passed(&mut inbox, begun, 0);
        let passing = inbox.is_passing();
        out.extend(inbox.break_off().unwrap_or_default());
        let (whole, open) = received(&out);
        prop_assert!(!open);
        prop_assert_eq!(whole.len(), usize::from(passing));
        prop_assert!(whole.into_iter().all(|message| Relay::decode(message.into()).is_err()));
    }
}

#[test]
fn text_and_what_is_no_frame_is_dropped_whatever_its_size() {
    for message in [&b"{}"[..], &[0xff; 5_000], &data("s", b"x")[2..]] {
        for size in [1, 700, 10_000] {
            let mut inbox = Inbox::default();
            assert!(passed(&mut inbox, &frames(message, size), 0).is_empty());
            let good = frames(&data("s", b"y"), size);
            assert_eq!(received(&passed(&mut inbox, &good, 0)).0.len(), 1);
        }
    }
    let mut inbox = Inbox::default();
    let text = [header::frame(false, Opcode::Text, b"{"), header::frame(true, Opcode::Continuation, b"}")];
    assert_eq!(inbox.frame(&Frame::first(&text[0]).unwrap(), 0), Part::Wait);
    assert_eq!(inbox.frame(&Frame::first(&text[1]).unwrap(), 0), Part::Dropped(None));
}
