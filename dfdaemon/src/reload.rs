//! What of the configuration a daemon takes over while it runs, at SIGHUP.

use crate::app::App;
use crate::config::Config;
use process::reload::{Live, Reloader};

/// The keys that a running daemon takes over.
const LIVE: [Live<Config>; 5] = [
    Live { key: "log.filter", same: |old, new| old.log.filter == new.log.filter },
    Live { key: "p2p.download_rate", same: |old, new| old.p2p.download_rate == new.p2p.download_rate },
    Live { key: "p2p.upload_rate", same: |old, new| old.p2p.upload_rate == new.p2p.upload_rate },
    Live { key: "proxy.allow", same: |old, new| old.proxy.allow == new.proxy.allow },
    Live { key: "store.quota", same: |old, new| old.store.quota_bytes == new.store.quota_bytes },
];

/// Reads the configuration again; with a mistake in it everything stays as it was.
pub(crate) async fn reload(reloader: &mut Reloader<Config>, app: &App) {
    if let Some(loaded) = reloader.read().await {
        app.adopt(&loaded.0).await;
        reloader.adopted(loaded, &LIVE);
    }
}
