//! This machine's name on its network, by multicast DNS: whoever types `onebit.local` finds it.

use mdns_sd::{ServiceDaemon, ServiceInfo};

/// The name is told for as long as this lives.
pub struct Announcement(ServiceDaemon);

impl Announcement {
    /// Tells `name.local` with all addresses of this machine, and a page at `port`.
    ///
    /// # Errors
    /// The network takes no multicast, or the name cannot be one.
    pub fn make(name: &str, port: u16) -> Result<Announcement, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let page = [("path", "/app/")];
        let service = ServiceInfo::new(
            "_http._tcp.local.",
            name,
            &format!("{name}.local."),
            "",
            port,
            &page[..],
        )?
        .enable_addr_auto();
        daemon.register(service)?;
        Ok(Announcement(daemon))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Whether the goodbye is heard is the network's affair.
        if let Err(error) = self.0.shutdown() {
            tracing::debug!(%error, "the name was not taken back");
        }
    }
}
