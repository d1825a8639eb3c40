//! Ends a simulation: it delivers everything, and then all devices must have what the oracle has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Simulation;
use crate::simulator::device::Device;
use crate::simulator::network::Operation;

/// The number of rounds in which all devices sync. It is far more than any simulation needs.
const ROUNDS_MAX: usize = 400;

impl Simulation {
    /// Syncs all devices and compares them with the oracle. The error is the first difference.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        self.sync_all().await?;
        let living = self.living();
        for device in &self.devices {
            check_agreement(&device.client_id, device, &living)?;
        }
        check_agreement("a new device", &self.bootstrap().await?, &living)?;
        for device in &self.devices {
            let answered: u64 = device.tally.outcomes.values().sum();
            if answered != device.tally.queued {
                return Err(format!(
                    "{} queued {} mutations and got {answered} outcomes",
                    device.client_id, device.tally.queued
                ));
            }
        }
        self.check_creates()
    }

    /// Lets all devices sync until none of them has anything to send or to pull.
    async fn sync_all(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            self.deliver_all().await?;
            self.devices.iter_mut().for_each(Device::time_out);
            let mut is_idle = true;
            let mut has_sent = false;
            for at in 0..self.devices.len() {
                is_idle &= self.devices[at].outbox.is_empty() && self.devices[at].to_fetch.is_empty();
                has_sent |= self.begin_flush(at);
                self.begin_fetch(at);
                self.begin_pull(at);
            }
            if !is_idle && !has_sent {
                self.server.wait(30_000);
            }
            self.deliver_all().await?;
            if is_idle && self.devices.iter().all(|device| !device.has_more && device.outbox.is_empty()) {
                return Ok(());
            }
        }
        Err(format!("the devices still have something to sync after {ROUNDS_MAX} rounds"))
    }

    async fn deliver_all(&mut self) -> Result<(), String> {
        while !self.network.requests.is_empty() {
            let request = self.network.requests.remove(0);
            self.execute(request).await?;
        }
        while !self.network.responses.is_empty() {
            let response = self.network.responses.remove(0);
            self.receive(response);
        }
        Ok(())
    }

    /// Returns the entities of the oracle that are not deleted, as clients see them.
    fn living(&self) -> BTreeMap<String, Value> {
        let living = self.model.rows.iter().filter(|(_, row)| row.content.is_some());
        living.map(|(id, _)| (id.clone(), self.model.to_json(id))).collect()
    }

    /// Returns a new device that has pulled everything.
    async fn bootstrap(&mut self) -> Result<Device, String> {
        let mut device = Device::new(self.devices.len(), 0);
        while device.has_more {
            let operation = Operation::Pull { after: device.cursor.clone(), first: 5 };
            let page = self.server.execute(&operation).await?;
            self.check_page(device.cursor.as_deref(), 5, &page)?;
            device.receive_page(&page);
        }
        Ok(device)
    }

    /// Checks that each created entity is stored, with two exceptions. A device may have deleted it. Or a
    /// backup lost it and the create that was sent again was rejected, as its type may be deleted.
    fn check_creates(&self) -> Result<(), String> {
        let excepted: BTreeSet<&str> = self
            .devices
            .iter()
            .flat_map(|device| device.tally.removals.union(&device.tally.rejected))
            .map(|id| self.model.canonical(id).unwrap_or(id))
            .collect();
        for id in self.devices.iter().flat_map(|device| &device.tally.created) {
            let canonical = self.model.canonical(id).unwrap_or(id);
            let is_alive = self.model.rows.get(canonical).is_some_and(|row| row.content.is_some());
            if !is_alive && !excepted.contains(canonical) {
                return Err(format!("{id} was acknowledged and is lost, and no device deleted it"));
            }
        }
        Ok(())
    }
}

/// Checks that a device has exactly the living entities of the oracle.
fn check_agreement(who: &str, device: &Device, living: &BTreeMap<String, Value>) -> Result<(), String> {
    for (id, row) in living {
        let local = device.rows.get(id).map(|local| &local.content);
        if local != Some(row) {
            return Err(format!("{who} has {local:?}\nbut {id} is {row}"));
        }
    }
    match device.rows.keys().find(|id| !living.contains_key(*id)) {
        Some(id) => Err(format!("{who} has {id}, which is not stored")),
        None => Ok(()),
    }
}
