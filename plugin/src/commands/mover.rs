//! `mover wait` and `mover run`, inside a pod: the streams of the process are handed to the engine.

use std::io;

use backup_engine::mover::work;

use crate::{
    arguments::mover::MoverCommand,
    exit::{Exit, Failure},
};

pub(crate) async fn run(command: MoverCommand) -> Result<Exit, Failure> {
    let local = |what: &str| {
        let what = what.to_owned();
        move |source: io::Error| Failure::Local { what, source }
    };
    let is_done = match command {
        MoverCommand::Wait => work::wait().await.map_err(local("waiting in /tmp"))?,
        MoverCommand::Run => work::run(tokio::io::stdin(), tokio::io::stdout())
            .await
            .map_err(local("the connection"))?,
    };
    Ok(if is_done { Exit::Done } else { Exit::Failed })
}
