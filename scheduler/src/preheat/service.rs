//! What operators can do with preheats, whichever way they speak: [`super::routes`] and [`super::grpc`] only translate.

use super::image::{self, Asked, IMAGES_AT_ONCE, Image, Needed, RESOLVE_TIMEOUT};
use super::plan::{self, Plan};
use super::platform::Platforms;
use super::targets::Targets;
use super::view::PreheatView;
use super::{Ask, PreheatError};
use crate::cluster::operator::{Desk, Peer};
use crate::driver::Input;
use futures::future::try_join_all;
use proto::PREHEAT_IMAGES_MAX;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How long a preheat waits until it may resolve its images: with [`RESOLVE_TIMEOUT`] it is less than `dfctl` waits for an
/// answer.
pub(super) const TURN_PATIENCE: Duration = Duration::from_secs(25);

/// What is wanted. Lists that are empty say nothing, but for the images.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) images: Vec<String>,
    pub(crate) platforms: Vec<String>,
    pub(crate) zones: Vec<String>,
    pub(crate) hosts: Vec<String>,
}

/// Finds out what belongs to the images, and has the hosts told. Cancelled before they are told, nothing has begun.
///
/// # Errors
/// [`PreheatError`].
pub(crate) async fn begin(
    desk: &Desk,
    operator: Peer,
    request: &Request,
) -> Result<PreheatView, PreheatError> {
    let names = names(&request.images)?;
    let what = names.iter().map(Asked::text).collect::<Vec<_>>().join(", ");
    let platforms = Platforms::parse(&request.platforms);
    let platforms = platforms.map_err(|error| PreheatError::Senseless(error.to_string()))?;
    let targets = Targets::parse(&request.zones, &request.hosts)?;
    let connected = desk.ask(|answer| Input::Preheat(Ask::Hosts { answer })).await??;
    let hosts = targets.choose(connected)?;
    let needed = plan::needed(&platforms, &hosts)?;
    let images = resolve(desk, names, needed).await?;
    let plan = Box::new(Plan::new(&images, &platforms, &targets, hosts)?);
    // From here on it goes on though the operator goes.
    let desk = desk.clone();
    let beginning = tokio::spawn(async move {
        let begun = desk.ask(|answer| Input::Preheat(Ask::Begin { plan, answer })).await??;
        let hosts = begun.hosts.total;
        tracing::info!(preheat = begun.id, images = what, hosts, "an operator began a preheat");
        desk.done(operator, "preheat_begin", format!("{} of {what} on {hosts} hosts", begun.id));
        Ok(begun)
    });
    beginning.await.map_err(|_| PreheatError::Stops)?
}

/// The images that are named, each once.
fn names(texts: &[String]) -> Result<Vec<Asked>, PreheatError> {
    if texts.is_empty() {
        return Err(PreheatError::Senseless("name an image".to_owned()));
    }
    if texts.len() > PREHEAT_IMAGES_MAX {
        let why = format!("a preheat has at most {PREHEAT_IMAGES_MAX} images: begin several");
        return Err(PreheatError::Senseless(why));
    }
    let mut names: Vec<Asked> = Vec::with_capacity(texts.len());
    for text in texts {
        let asked = Asked::parse(text)?;
        if !names.iter().any(|known| known.is_same(&asked)) {
            names.push(asked);
        }
    }
    Ok(names)
}

async fn resolve(desk: &Desk, names: Vec<Asked>, needed: Needed) -> Result<Vec<Image>, PreheatError> {
    let _turn = turn(&desk.turns, TURN_PATIENCE).await?;
    let (deadline, needed) = (Instant::now() + RESOLVE_TIMEOUT, Arc::new(needed));
    let turns = Arc::new(Semaphore::new(IMAGES_AT_ONCE));
    let resolving = names.into_iter().map(|asked| {
        let (resolver, turns, needed) = (desk.resolver.clone(), Arc::clone(&turns), Arc::clone(&needed));
        async move { image::resolve(&resolver, &turns, asked, &needed, deadline).await }
    });
    try_join_all(resolving).await
}

/// Waits until one preheat more may resolve its images. That is not its registries' time, so it is counted apart.
///
/// # Errors
/// [`PreheatError::Busy`] if that takes longer than `patience`.
async fn turn(turns: &Semaphore, patience: Duration) -> Result<SemaphorePermit<'_>, PreheatError> {
    let turn = tokio::time::timeout(patience, turns.acquire()).await.map_err(|_| PreheatError::Busy)?;
    turn.map_err(|_| PreheatError::Stops)
}

/// How all stand, without their hosts, the newest first.
pub(crate) async fn list(desk: &Desk) -> Result<Vec<PreheatView>, PreheatError> {
    Ok(desk.ask(|answer| Input::Preheat(Ask::List { answer })).await?)
}

/// How one stands.
///
/// # Errors
/// [`PreheatError::Unknown`].
pub(crate) async fn get(desk: &Desk, id: &str) -> Result<PreheatView, PreheatError> {
    let number = number(id)?;
    let view = desk.ask(|answer| Input::Preheat(Ask::One { number, answer })).await?;
    view.ok_or_else(|| PreheatError::unknown(id))
}

/// Ends one that runs, and says how it stands then.
///
/// # Errors
/// [`PreheatError::Unknown`].
pub(crate) async fn cancel(desk: &Desk, operator: Peer, id: &str) -> Result<PreheatView, PreheatError> {
    let number = number(id)?;
    let (desk, id) = (desk.clone(), id.to_owned());
    // The log is told of it though the operator goes.
    let cancelling = tokio::spawn(async move {
        let view = desk.ask(|answer| Input::Preheat(Ask::Cancel { number, answer })).await?;
        let view = view.ok_or_else(|| PreheatError::unknown(&id))?;
        tracing::info!(preheat = view.id, state = ?view.state, "an operator cancelled a preheat");
        let images = view.images.iter().map(|image| image.image.as_str()).collect::<Vec<_>>().join(", ");
        desk.done(operator, "preheat_cancel", format!("{} of {images}", view.id));
        Ok(view)
    });
    cancelling.await.map_err(|_| PreheatError::Stops)?
}

fn number(id: &str) -> Result<u64, PreheatError> {
    id.parse().map_err(|_| PreheatError::unknown(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_too_long_for_its_turn_is_told_that_others_take_it() {
        let (turns, short, long) = (Semaphore::new(1), Duration::from_millis(1), Duration::from_secs(30));
        let first = turn(&turns, short).await.unwrap();
        let why = turn(&turns, short).await.unwrap_err();
        assert!(matches!(why, PreheatError::Busy), "{why}");
        assert_eq!(why.to_string(), "too many images are being looked up: try again");
        let (next, ()) = tokio::join!(turn(&turns, long), async { drop(first) });
        assert!(next.is_ok());
    }
}
