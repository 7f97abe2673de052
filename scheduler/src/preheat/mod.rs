//! Preheats: images that hosts are to hold before a client asks for them.
//!
//! An operator names images and hosts ([`service`], over HTTP in [`routes`] and over gRPC in [`grpc`]). What belongs to
//! the images is asked of their origins ([`image`], [`document`]), for the platforms of the hosts ([`platform`],
//! [`targets`]), and becomes one order for all hosts that are to hold the same ([`plan`]). The driver begins it and keeps
//! the [`book`]: each host is told its order, a few hosts at a time and whenever one comes back, and reports how far it is
//! until it has ended. All of that lies in memory: a scheduler that starts anew knows of none, and tells hosts so that
//! report.

mod book;
mod document;
mod error;
mod figures;
pub(crate) mod grpc;
mod hosts;
mod image;
#[cfg(test)]
mod limits_tests;
mod plan;
pub(crate) mod platform;
mod reasons;
mod record;
pub(crate) mod routes;
pub(crate) mod service;
pub(crate) mod targets;
pub(crate) mod view;

pub(crate) use book::{Book, Moment};
pub(crate) use error::PreheatError;
pub(crate) use figures::Figures;
pub(crate) use image::TURNS;
pub(crate) use plan::Plan;
pub(crate) use targets::Candidate;
pub(crate) use view::PreheatView;

use tokio::sync::oneshot;

/// What the driver is asked about preheats.
#[derive(Debug)]
pub(crate) enum Ask {
    /// The connected hosts; an error if no preheat can begin anyway.
    Hosts { answer: oneshot::Sender<Result<Vec<Candidate>, PreheatError>> },
    /// To begin one.
    Begin { plan: Box<Plan>, answer: oneshot::Sender<Result<PreheatView, PreheatError>> },
    /// How all stand, without their hosts, the newest first.
    List { answer: oneshot::Sender<Vec<PreheatView>> },
    /// How one stands.
    One { number: u64, answer: oneshot::Sender<Option<PreheatView>> },
    /// To end one, and how it stands then.
    Cancel { number: u64, answer: oneshot::Sender<Option<PreheatView>> },
}
