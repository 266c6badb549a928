//! One connection under load.
//!
//! A batch of requests is encoded into one buffer and written with one call; answers are taken out of the read
//! buffer by the protocol's frame decoder, checked for id and status, and otherwise left alone. The next batch
//! follows when the last answer is in, so the latency of a request includes waiting for the batch it is part of.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vaylix_dataplane::client::{self, Parts, Stream};
use vaylix_proto::frame::FrameDecoder;
use vaylix_proto::response::{Response, Shape, Status};

use crate::load::{Budget, Load};
use crate::random::Random;
use crate::stats::Stats;

/// Room made before each read.
const READ_CHUNK_BYTES: usize = 16 * 1024;

/// An open, logged-in connection with its buffers.
pub(crate) struct Connection {
    stream: Stream,
    decoder: FrameDecoder,
    input: BytesMut,
    output: Vec<u8>,
    random: Random,
    next_id: u64,
}

impl Connection {
    /// Connects and logs in.
    pub(crate) async fn open(config: &client::Config, random: Random) -> anyhow::Result<Self> {
        let mut connection = client::Connection::connect(config)
            .await
            .with_context(|| format!("cannot connect to {}", config.address()))?;
        connection.log_in(config).await?.context("cannot log in")?;
        let Parts { stream, input, max_frame_len } = connection.into_parts();
        let decoder = FrameDecoder::new(max_frame_len);
        Ok(Self { stream, decoder, input, output: Vec::new(), random, next_id: 0 })
    }

    /// Sends batches of `depth` requests until the budget is used up. `stats` is shared with the other
    /// connections of this thread and therefore never contended.
    pub(crate) async fn run(
        &mut self,
        load: &Load,
        budget: &Budget,
        depth: u32,
        stats: &Mutex<Stats>,
    ) -> anyhow::Result<()> {
        let mut now = Instant::now();
        while let Some((first, count)) = budget.take(depth, now) {
            self.output.clear();
            for offset in 0..count {
                let id = self.next_id + u64::from(offset);
                load.write(first + u64::from(offset), id, &mut self.random, &mut self.output);
            }
            let sent = Instant::now();
            self.stream.write_all(&self.output).await?;

            let mut due = count;
            while due > 0 {
                self.input.reserve(READ_CHUNK_BYTES);
                ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the server closed the connection");
                now = Instant::now();
                let mut stats = stats.lock();
                while let Some(body) = self.decoder.decode(&mut self.input)? {
                    ensure!(due > 0, "an answer to no request");
                    self.take_answer(body, &mut stats)?;
                    stats.answer(now - sent);
                    due -= 1;
                }
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, body: bytes::Bytes, stats: &mut Stats) -> anyhow::Result<()> {
        let response = Response::decode(body)?;
        ensure!(response.id[8..] == self.next_id.to_be_bytes(), "an answer to another request");
        self.next_id += 1;
        match response.status {
            Status::Ok => {}
            Status::NotFound => stats.not_found += 1,
            Status::Error => match response.reply(Shape::Empty)? {
                Err(error) => stats.error(&error.code),
                Ok(_) => bail!("an error without a code"),
            },
        }
        Ok(())
    }
}
