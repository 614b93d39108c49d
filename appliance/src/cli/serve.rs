//! `onebit serve`: open, listen, answer, stop in order.

use std::fs::{File, TryLockError};
use std::io::{IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::Failed;
use super::service::{self, Service};
use crate::api::Server;
use crate::app::{App, VERSION};
use crate::config::{Config, environment};

/// Says, in the data directory, who serves it and where; other commands find the appliance by it.
pub(super) const PRESENCE_FILE: &str = "serving.json";

/// How long stopped turns get to store what they have: a commit takes milliseconds, a tired disk a second.
const SAVE_MAX: Duration = Duration::from_secs(3);

/// How long the lock of an appliance that was killed is waited for: a child that it had just begun holds the lock too
/// until it has become its program, which on a busy machine takes a while.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_STEP: Duration = Duration::from_millis(10);

pub(super) async fn run(config: Config) -> Result<(), Failed> {
    let drain = Duration::from_secs(config.server.drain_s);
    let listen = config.server.listen.clone();
    let data = config.data_dir.clone();
    let page = &config.gaia;
    if !page.ui.as_os_str().is_empty() && page.page().is_none() {
        let folder = page.ui.display();
        return Err(format!(
            "{folder} holds no page of GAIA's: give the folder of the unpacked amd-gaia wheel"
        )
        .into());
    }
    let app = App::open(config)?;
    // Held while we serve: two appliances on one data directory would end each other's answers.
    let mut presence = Presence::take(&data)?;
    app.recover().await?;
    app.start_library().await?;
    app.resume_runs().await?;
    let given = service::sockets()?;
    let server = if given.is_empty() {
        Server::bind(&listen).await?
    } else {
        Server::take(given)?
    };
    let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    app.open_trust(server.addresses().to_vec()).await?;
    presence.announce(&addresses)?;
    for address in &addresses {
        println!("listening on http://{address}");
    }
    say_how_to_reach(&app);
    // Ends with the value, and takes the name back.
    let _announced = app.announce();
    tokio::spawn(app.clone().keep_certificates());
    tokio::spawn(app.clone().keep_named_certificates());
    app.start_mesh().await;
    tracing::info!(version = VERSION, data = %data.display(), "ready");
    let service = Arc::new(Service::find(&environment));
    let alive = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.keep_alive(&data).await }
    });
    let first_run = tokio::spawn({
        let app = app.clone();
        async move { app.first_run().await }
    });
    let stop = stop_signal()?;
    service.ready();
    let stop = async move {
        stop.await;
        alive.abort();
        first_run.abort();
        service.stopping();
    };
    let drained = server.run(app.clone(), stop, drain).await;
    if !drained {
        tracing::warn!(
            seconds = drain.as_secs(),
            "some answers had not finished and were cut off"
        );
    }
    if tokio::time::timeout(SAVE_MAX, app.stop_mesh())
        .await
        .is_err()
    {
        tracing::warn!(
            "the router did not answer; it keeps the mesh's port open until it forgets it"
        );
    }
    if tokio::time::timeout(SAVE_MAX, app.close_turns())
        .await
        .is_err()
    {
        tracing::warn!("some answers could not be stored as far as they had come");
    }
    app.save_rates().await;
    tracing::info!("stopped");
    Ok(())
}

/// An appliance for as long as one command takes, at a port of its own on loopback; it ends with the value.
pub(super) struct Beside {
    _presence: Presence,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Starts one and tells where it listens.
pub(super) async fn beside(config: Config) -> Result<(std::net::SocketAddr, Beside), Failed> {
    let data = config.data_dir.clone();
    let app = App::open(config)?;
    let presence = Presence::take(&data)?;
    app.recover().await?;
    app.start_library().await?;
    let loopback = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(&[loopback]).await?;
    let address = server
        .addresses()
        .first()
        .copied()
        .ok_or("no address to listen on")?;
    app.open_trust(vec![address]).await?;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let until = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    tokio::spawn(async move { server.run(app, until, Duration::ZERO).await });
    let beside = Beside {
        _presence: presence,
        stop,
    };
    Ok((address, beside))
}

/// Tells what to type on other machines, and where the code lies that makes the first of them the owner's. The code
/// itself goes to a terminal only: a journal is read by more people than the one who started this.
fn say_how_to_reach(app: &App) {
    let reach = app.reach();
    if !reach.lan {
        return;
    }
    if let Some(address) = reach.http.first() {
        match app.announced() {
            Some(name) => println!("on this network: http://{name}/app or {address}/app"),
            None => println!("on this network: {address}/app"),
        }
    }
    if !app.trust().is_unclaimed() {
        return;
    }
    let file = app.trust().setup_file();
    let shown = std::io::stdout().is_terminal();
    match (shown, std::fs::read_to_string(&file), reach.https.first()) {
        (true, Ok(code), Some(address)) => {
            println!(
                "to own it from another machine, open {address}/app and type the setup code {code}"
            );
        }
        _ => println!(
            "the setup code for another machine lies in {}",
            file.display()
        ),
    }
}

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_signal() -> Result<impl Future<Output = ()>, Failed> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; running answers may finish");
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(1);
        });
    })
}

/// Whether the process that announced itself with this text is there; false where nobody has yet.
fn lives(text: &str) -> bool {
    let said: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let process = said["pid"].as_u64().map(|pid| format!("/proc/{pid}"));
    process.is_some_and(|process| Path::new(&process).exists())
}

/// The locked presence file; dropping it removes it.
pub(super) struct Presence {
    file: File,
    path: PathBuf,
}

impl Presence {
    /// Takes the data directory for this process; fails while another serves it.
    pub(super) fn take(data: &Path) -> Result<Presence, Failed> {
        let path = data.join(PRESENCE_FILE);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Presence { file, path }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            let mut text = String::new();
            file.rewind()?;
            file.read_to_string(&mut text)?;
            if lives(&text) || begun.elapsed() > LINGER_MAX {
                return Err(format!(
                    "another onebit already serves {}: {}",
                    data.display(),
                    text.trim()
                )
                .into());
            }
            std::thread::sleep(LINGER_STEP);
        }
    }

    fn announce(&mut self, addresses: &[String]) -> Result<(), Failed> {
        let text = json!({ "pid": std::process::id(), "addresses": addresses }).to_string();
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        Ok(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "presence file not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_data_directory_is_served_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Presence::take(folder.path()).unwrap();
        first.announce(&["127.0.0.1:1".into()]).unwrap();
        let error = Presence::take(folder.path()).err().unwrap().to_string();
        assert!(error.contains("127.0.0.1:1"), "{error}");
        drop(first);
        Presence::take(folder.path()).unwrap();
    }

    #[test]
    fn the_lock_of_a_dead_one_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut dead = Presence::take(folder.path()).unwrap();
        // No process has this number: it is above the kernel's largest.
        dead.file.write_all(br#"{"pid":4194305}"#).unwrap();
        let lock = dead.file.try_clone().unwrap();
        std::mem::forget(dead);
        let (begin, begun) = std::sync::mpsc::channel();
        let holder = std::thread::spawn(move || {
            begun.recv().unwrap();
            lock.unlock().unwrap();
        });
        begin.send(()).unwrap();
        Presence::take(folder.path()).unwrap();
        holder.join().unwrap();
    }
}
