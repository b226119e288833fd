//! Blocks on their way: many links to a question, each block behind its length.

use std::time::Duration;

use iroh::endpoint::{Connection, RecvStream, SendStream};

use super::swarm::Swarm;
use super::wire::{self, BlocksQuestion, Code, LINKS_AT_ONCE, NOT_HERE, Urgency, WireError};
use crate::limits::BLOCK_BYTES;
use crate::link::Link;

/// How long nothing may come of an answer, and how long it may take to be rid of a piece of one.
const QUIET: Duration = Duration::from_secs(4);
/// Bytes of blocks that are read at once, to be sent.
const READ_AT_ONCE: usize = 512 << 10;

/// Answers a question.
pub(super) async fn answer(swarm: &Swarm, question: BlocksQuestion, send: &mut SendStream) -> Result<(), WireError> {
    if question.links.len() > LINKS_AT_ONCE {
        return Err(WireError::Malformed("too large a question"));
    }
    send.set_priority(question.urgency as i32).map_err(WireError::of)?;
    let mut links = question.links;
    while !links.is_empty() {
        let asked = std::mem::take(&mut links);
        let (bytes, rest) = swarm
            .store_work(move |local| {
                let mut bytes = Vec::with_capacity(READ_AT_ONCE + (64 << 10));
                let mut rest = asked.into_iter();
                while bytes.len() < READ_AT_ONCE
                    && let Some(link) = rest.next()
                {
                    // What is damaged here may be whole elsewhere.
                    match local.replica().block(&link).unwrap_or(None) {
                        Some(block) => {
                            bytes.extend_from_slice(&(block.len() as u32).to_le_bytes());
                            bytes.extend_from_slice(&block);
                        }
                        None => bytes.extend_from_slice(&NOT_HERE.to_le_bytes()),
                    }
                }
                Ok((bytes, rest.collect::<Vec<_>>()))
            })
            .await?;
        links = rest;
        let size = bytes.len() as u64;
        tokio::time::timeout(QUIET * 4, send.write_all(&bytes))
            .await
            .map_err(|_| WireError::Late)?
            .map_err(WireError::of)?;
        swarm.progress.lock().sent += size;
    }
    send.finish().map_err(WireError::of)
}

/// Blocks that are on their way.
pub(super) struct Coming<'a> {
    swarm: &'a Swarm,
    recv: RecvStream,
    left: usize,
}

/// Asks for blocks.
pub(super) async fn ask<'a>(
    swarm: &'a Swarm,
    connection: &Connection,
    links: &[Link],
    urgency: Urgency,
) -> Result<Coming<'a>, WireError> {
    let question = BlocksQuestion { bucket: swarm.genesis(), links: links.to_vec(), urgency };
    let opening = async {
        let (mut send, recv) = connection.open_bi().await.map_err(WireError::of)?;
        wire::send(&mut send, &question).await?;
        send.finish().map_err(WireError::of)?;
        Ok::<_, WireError>(recv)
    };
    let recv = tokio::time::timeout(QUIET, opening).await.map_err(|_| WireError::Late)??;
    Ok(Coming { swarm, recv, left: links.len() })
}

impl Coming<'_> {
    /// The next block, in the order of the links that were asked for; `Some(None)` if it is not there, `None` at the end. Nothing
    /// is verified here.
    pub(super) async fn next(&mut self) -> Result<Option<Option<Vec<u8>>>, WireError> {
        if self.left == 0 {
            return Ok(None);
        }
        let recv = &mut self.recv;
        let block = async {
            let mut length = [0; 4];
            recv.read_exact(&mut length).await.map_err(WireError::of)?;
            match u32::from_le_bytes(length) {
                NOT_HERE => Ok(None),
                length => wire::bytes_of(recv, length as usize, BLOCK_BYTES).await.map(Some),
            }
        };
        let block = tokio::time::timeout(QUIET, block).await.unwrap_or(Err(WireError::Late));
        let block = block.inspect_err(|_| drop(self.recv.stop(Code::Malformed.into())))?;
        self.left -= 1;
        self.swarm.progress.lock().received += block.as_ref().map_or(4, |block| block.len() as u64 + 4);
        Ok(Some(block))
    }
}
