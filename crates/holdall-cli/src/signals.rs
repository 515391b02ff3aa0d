//! Signals that ask the process to stop, as values on a channel.
//!
//! Commands that have nothing to put in order do not use this: the signal's own action is what people expect.

use std::sync::mpsc::Sender;

use nix::sys::signal::Signal;
use signal_hook::iterator::Signals;

/// What asks a process to stop.
const WATCHED: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// From when this returns, INT, TERM and HUP do nothing but arrive in the channel, as `wrap` makes them.
pub fn watch<T: Send + 'static>(sender: Sender<T>, wrap: fn(Signal) -> T) -> std::io::Result<()> {
    let mut signals = Signals::new(WATCHED.map(|signal| signal as i32))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever().filter_map(|number| Signal::try_from(number).ok()) {
            if sender.send(wrap(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
