//! How many bytes a reply takes on the wire, without encoding it.
//!
//! A reply that does not fit in the negotiated frame is answered with `TRN-006` instead. Knowing the length
//! beforehand keeps an oversized reply from being written out only to be thrown away, and it lets the session
//! refuse what would destroy the value it cannot deliver.

use vaylix_proto::{ErrorReply, Reply};

/// Request id and status.
pub(crate) const PREFIX_LEN: usize = 17;

/// The body that answers a value of `value_len` bytes.
pub(crate) fn value_body_len(value_len: usize) -> usize {
    PREFIX_LEN + 4 + value_len
}

/// The body that carries this reply.
pub(crate) fn body_len(answer: &Result<Reply, ErrorReply>) -> usize {
    PREFIX_LEN
        + match answer {
            Ok(reply) => reply.encoded_len(),
            Err(error) => 8 + error.code.len() + error.name.len() + error.message.len(),
        }
}

#[cfg(test)]
mod tests {
    use super::body_len;
    use bytes::{Bytes, BytesMut};
    use vaylix_proto::response::encode_reply;
    use vaylix_proto::{Code, ErrorReply, NamedValue, Reply, ScanPage};

    #[test]
    fn it_is_what_the_encoder_writes() {
        let value = Reply::Value(Bytes::from_static(b"value"));
        let entry = NamedValue { name: "name".into(), value: Bytes::from_static(b"v") };
        let simple = [
            Reply::Ok,
            value,
            Reply::Bool(true),
            Reply::Count(7),
            Reply::Integer(-7),
            Reply::Entries(vec![entry.clone(), entry]),
            Reply::Strings(vec![None, Some(Bytes::from_static(b"one")), Some(Bytes::new())]),
            Reply::Scan(ScanPage { next_cursor: 1, keys: vec!["a".into(), "bc".into()] }),
        ];
        let mut all: Vec<_> = simple.iter().cloned().map(Ok).collect();
        all.push(Ok(Reply::NotFound));
        all.push(Ok(Reply::Exec(simple.into_iter().chain([Reply::NotFound]).collect())));
        all.push(Err(ErrorReply::new(Code::QuotaExceeded, "why")));
        for answer in all {
            let mut body = BytesMut::new();
            encode_reply([0; 16], &answer, &mut body).unwrap();
            assert_eq!(body_len(&answer), body.len(), "{answer:?}");
        }
    }
}
