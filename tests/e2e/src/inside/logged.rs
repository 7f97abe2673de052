//! What daemons and schedulers of this process log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that was logged since it was asked for first, in this whole process: daemons log from threads of their own.
#[derive(Clone, Debug, Default)]
pub struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    /// Begins to keep lines of this level and above; later calls give the same log.
    #[must_use]
    pub fn from_now_on(level: LevelFilter) -> Self {
        static LOGGED: OnceLock<Logged> = OnceLock::new();
        let begin = || {
            let logged = Self::default();
            let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
            subscriber.with_writer(logged.clone()).init();
            logged
        };
        LOGGED.get_or_init(begin).clone()
    }

    /// How much there is by now.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.lock().len()
    }

    /// The text since the mark.
    #[must_use]
    pub fn since(&self, mark: usize) -> String {
        String::from_utf8_lossy(&self.lock()[mark..]).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logged {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
