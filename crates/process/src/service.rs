//! What a service manager is told: systemd, where it started the program (`Type=notify`); nobody otherwise.

use sd_notify::NotifyState;

/// The program does its work from now on.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The program ends, and needs some time for it.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    // Without a service manager there is nobody to tell.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
