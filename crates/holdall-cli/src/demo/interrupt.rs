//! Signals that ask a process to end, heard without being ended by them. Each one is counted, so that whoever hears
//! can be more and more in a hurry.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Hears INT, TERM and HUP from now on, for as long as the process lives.
#[derive(Debug)]
pub struct Interrupt {
    heard: UnixStream,
}

impl Interrupt {
    /// Begins to listen.
    pub fn listen() -> io::Result<Interrupt> {
        let (heard, write) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Interrupt { heard })
    }

    /// Waits that long, or until a signal comes that was not heard yet: then true.
    pub fn came_within(&self, time: Duration) -> bool {
        // Zero would mean for ever.
        if self.heard.set_read_timeout(Some(time.max(Duration::from_millis(1)))).is_err() {
            return false;
        }
        loop {
            match (&self.heard).read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(n) => return n > 0,
                Err(_time_is_up) => return false,
            }
        }
    }
}
