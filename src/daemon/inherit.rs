//! Listening sockets that outlive this process, and what the service manager is told.
//!
//! Takes the sockets that systemd hands over (socket activation, or its store of descriptors after
//! a crash), gives it ours to keep, and reports ready, stopping, reloading and alive. Without
//! systemd all of it does nothing. Decides nothing about addresses; that is in `ports`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// A listening socket that somebody kept for us.
#[derive(Debug)]
pub struct Inherited {
    /// The name it was given: ours from the store, the unit's from socket activation.
    pub name: String,
    /// What it is bound to.
    pub address: SocketAddr,
    /// The socket.
    pub socket: OwnedFd,
}

/// Takes the sockets that were handed to this very process, in their order.
///
/// Call it once, first of all in `main`: it clears `LISTEN_FDS` from the environment, so that no
/// child takes them for its own, and that must not race with another thread.
///
/// # Errors
/// When the environment promises descriptors that are not there.
pub fn take() -> io::Result<Vec<Inherited>> {
    // Checks the process id and the count, and closes them to children.
    let named: Vec<String> = sd_notify::listen_fds_with_names()?.map(|(_, name)| name).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let mut given = ListenFd::from_env();
    let mut taken = Vec::new();
    for (index, name) in named.into_iter().enumerate() {
        // Anything else than a TCP listener is not ours and stays where it is.
        let Ok(Some(listener)) = given.take_tcp_listener(index) else { continue };
        let address = listener.local_addr()?;
        taken.push(Inherited { name, address, socket: listener.into() });
    }
    Ok(taken)
}

/// The name of a listener in the store: address and worker, without the `:` that systemd forbids.
#[must_use]
pub fn store_name(address: SocketAddr, worker: usize) -> String {
    format!("w{worker}-{address}").replace([':', '[', ']'], "_")
}

/// Gives systemd duplicates of the listeners, so that they stay open when this process dies.
///
/// # Errors
/// When the message cannot be sent. Without systemd nothing happens.
pub fn keep(listeners: &[(usize, OwnedFd)]) -> io::Result<()> {
    for (worker, socket) in listeners {
        let listener = std::net::TcpListener::from(socket.try_clone()?);
        let name = store_name(listener.local_addr()?, *worker);
        let states = [NotifyState::FdStore, NotifyState::FdName(&name)];
        sd_notify::notify_with_fds(&states, &[socket.as_fd()])?;
    }
    Ok(())
}

/// Takes a listener that is not used any more out of the store.
///
/// # Errors
/// When the message cannot be sent.
pub fn forget(name: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
}

/// Traffic flows and the admin socket answers.
///
/// # Errors
/// When the message cannot be sent.
pub fn ready(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
}

/// One line for `systemctl status`.
///
/// # Errors
/// When the message cannot be sent.
pub fn status(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Status(status)])
}

/// The configuration is being read again; say [`ready`] afterwards.
///
/// # Errors
/// When the message cannot be sent.
pub fn reloading() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// Open requests are being finished; systemd waits that much longer.
///
/// # Errors
/// When the message cannot be sent.
pub fn stopping(drain: Duration) -> io::Result<()> {
    let longer = u32::try_from(drain.as_micros()).unwrap_or(u32::MAX);
    sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(longer)])
}

/// Tells systemd that the data plane is alive, and reports a control plane that is not: traffic
/// flows without it, so it is no reason to be killed. On a thread of its own, which asks nobody for
/// a turn; ends with `stop`, and does nothing where no watchdog is set.
///
/// `pulse` is how far each worker has come; `control` counts up as long as the control plane runs.
///
/// # Errors
/// When no thread can be started: systemd then ends us, since nobody says that we are alive.
pub fn watchdog(
    stop: CancellationToken,
    pulse: impl Fn() -> Vec<u64> + Send + 'static,
    control: Arc<AtomicU64>,
) -> io::Result<()> {
    let Some(interval) = sd_notify::watchdog_enabled() else { return Ok(()) };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        let mut watch = Watch::new(interval);
        while !stop.is_cancelled() {
            let seen = watch.look(Instant::now(), &pulse(), control.load(Ordering::Relaxed));
            if seen.control_turned {
                let text = match seen.control_hangs {
                    true => "TROUBLE: the control plane hangs; traffic flows, commands do not work",
                    false => "serves; the control plane runs again",
                };
                tracing::error!("{text}");
                drop(status(text));
            }
            if seen.data_runs
                && let Err(error) = sd_notify::notify(&[NotifyState::Watchdog])
            {
                tracing::warn!(%error, "systemd's watchdog was not told that we are alive");
            }
            std::thread::park_timeout((interval / 4).min(Duration::from_secs(5)));
        }
    })?;
    Ok(())
}

/// What has moved since when.
struct Watch {
    limit: Duration,
    workers: Vec<(u64, Instant)>,
    control: Option<(u64, Instant)>,
    control_hangs: bool,
}

/// What one look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sight {
    data_runs: bool,
    control_hangs: bool,
    /// It has changed since the look before.
    control_turned: bool,
}

impl Watch {
    fn new(interval: Duration) -> Self {
        let (workers, control) = (Vec::new(), None);
        Self { limit: interval / 2, workers, control, control_hangs: false }
    }

    fn look(&mut self, now: Instant, pulse: &[u64], control: u64) -> Sight {
        self.workers.resize(pulse.len(), (u64::MAX, now));
        for (known, seen) in self.workers.iter_mut().zip(pulse) {
            if known.0 != *seen {
                *known = (*seen, now);
            }
        }
        let since = |at: Instant| now.saturating_duration_since(at);
        let data_runs = self.workers.iter().all(|known| since(known.1) < self.limit);
        let moved = match self.control {
            Some((known, at)) if known == control => at,
            _ => now,
        };
        self.control = Some((control, moved));
        let control_hangs = since(moved) >= self.limit;
        let control_turned = control_hangs != self.control_hangs;
        self.control_hangs = control_hangs;
        Sight { data_runs, control_hangs, control_turned }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn store_names_tell_address_and_worker_and_hold_no_colon() {
        let name = store_name("[::]:80".parse().unwrap(), 1);
        assert_eq!(name, "w1-_____80");
        let other = store_name("0.0.0.0:80".parse().unwrap(), 1);
        assert_ne!(name, other);
        assert!(!other.contains(':'));
    }

    /// The part of the test below that runs in a process of its own.
    #[test]
    fn child_answers_on_what_it_inherited() {
        if std::env::var_os("CUTOVER_TEST_INHERIT").is_none() {
            return;
        }
        let mut taken = take().unwrap();
        let Inherited { name, address, socket } = taken.remove(0);
        assert!(taken.is_empty());
        let listener = TcpListener::from(socket);
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(format!("{name} {address}").as_bytes()).unwrap();
    }

    #[test]
    fn a_listener_survives_the_process_that_opened_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The client comes while nobody accepts: it waits in the socket's own queue.
        let mut client = TcpStream::connect(address).unwrap();
        let script = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=w0 exec \"$0\" --exact \
                      daemon::inherit::tests::child_answers_on_what_it_inherited 3<&0";
        let status = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("CUTOVER_TEST_INHERIT", "1")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("w0 {address}"));
    }

    #[test]
    fn only_a_worker_that_stands_still_keeps_the_watchdog_from_its_beat() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut watch = Watch::new(20 * second);
        let mut turns = Vec::new();
        for at in 0..15_u32 {
            // The control plane stops at 2 s and goes on at 13 s; the workers always run.
            let control = u64::from(if at < 13 { at.min(2) } else { at });
            let seen =
                watch.look(begin + at * second, &[u64::from(at), 7 + u64::from(at)], control);
            assert!(seen.data_runs, "{at}");
            if seen.control_turned {
                turns.push((at, seen.control_hangs));
            }
        }
        assert_eq!(turns, [(12, true), (13, false)]);
        let still = |at: u32| (begin + at * second, [u64::from(at), 21]);
        let runs: Vec<bool> = (15..26)
            .map(still)
            .map(|(now, pulse)| watch.look(now, &pulse, pulse[0]).data_runs)
            .collect();
        assert_eq!(runs, [vec![true; 9], vec![false; 2]].concat());
    }

    #[test]
    fn without_systemd_everything_is_silent() {
        keep(&[(0, TcpListener::bind("127.0.0.1:0").unwrap().into())]).unwrap();
        forget("w0").unwrap();
        ready("serving").unwrap();
        stopping(Duration::from_secs(30)).unwrap();
    }
}
