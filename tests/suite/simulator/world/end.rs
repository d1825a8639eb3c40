//! The end of a schedule: everything is delivered, and then everybody must have the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::World;
use crate::simulator::device::Device;
use crate::simulator::network::Errand;

/// Rounds in which everybody sends what there is to send; far more than any schedule needs.
const ROUNDS_MAX: usize = 400;

impl World {
    pub(super) async fn end(&mut self) -> Result<(), String> {
        self.heal().await?;
        let living = self.living();
        for device in &self.devices {
            agrees(&device.client_id, device, &living)?;
        }
        agrees("a new device", &self.bootstrap().await?, &living)?;
        for device in &self.devices {
            let told: u64 = device.books.told.values().sum();
            if told != device.books.queued {
                return Err(format!(
                    "{} queued {} and was told of {told}",
                    device.client_id, device.books.queued
                ));
            }
        }
        self.check_creates()
    }

    async fn heal(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            self.deliver_all().await?;
            self.devices.iter_mut().for_each(Device::time_out);
            let mut is_still = true;
            let mut sent = false;
            for at in 0..self.devices.len() {
                is_still &= self.devices[at].outbox.is_empty() && self.devices[at].owed.is_empty();
                sent |= self.begin_flush(at);
                self.begin_look(at);
                self.begin_pull(at);
            }
            if !is_still && !sent {
                self.server.wait(30_000);
            }
            self.deliver_all().await?;
            if is_still && self.devices.iter().all(|device| !device.has_more && device.outbox.is_empty()) {
                return Ok(());
            }
        }
        Err("the devices do not come to rest".to_owned())
    }

    async fn deliver_all(&mut self) -> Result<(), String> {
        while !self.network.requests.is_empty() {
            let request = self.network.requests.remove(0);
            self.execute(request).await?;
        }
        while !self.network.answers.is_empty() {
            let answer = self.network.answers.remove(0);
            self.receive(answer);
        }
        Ok(())
    }

    fn living(&self) -> BTreeMap<String, Value> {
        let living = self.model.rows.iter().filter(|(_, row)| row.content.is_some());
        living.map(|(id, _)| (id.clone(), self.model.shown(id))).collect()
    }

    /// What a device has that begins now.
    async fn bootstrap(&mut self) -> Result<Device, String> {
        let mut device = Device::new(self.devices.len(), 0);
        while device.has_more {
            let errand = Errand::Pull { after: device.cursor.clone(), first: 5 };
            let page = self.server.execute(&errand).await?;
            self.check_page(device.cursor.as_deref(), 5, &page)?;
            device.pulled(&page);
        }
        Ok(device)
    }

    /// What was acknowledged is there, unless somebody asked for its deletion, or a backup lost it and who sent
    /// it once more was told that it cannot be: its type may be gone for good.
    fn check_creates(&self) -> Result<(), String> {
        let asked: BTreeSet<&str> = self
            .devices
            .iter()
            .flat_map(|device| device.books.removals.union(&device.books.refused))
            .map(|id| self.model.canonical(id).unwrap_or(id))
            .collect();
        for id in self.devices.iter().flat_map(|device| &device.books.created) {
            let canonical = self.model.canonical(id).unwrap_or(id);
            let is_alive = self.model.rows.get(canonical).is_some_and(|row| row.content.is_some());
            if !is_alive && !asked.contains(canonical) {
                return Err(format!("{id} was acknowledged and is lost, and nobody asked for that"));
            }
        }
        Ok(())
    }
}

/// Whether a replica is what is stored, row by row.
fn agrees(who: &str, device: &Device, living: &BTreeMap<String, Value>) -> Result<(), String> {
    for (id, row) in living {
        let local = device.rows.get(id).map(|local| &local.content);
        if local != Some(row) {
            return Err(format!("{who} has {local:?}\nbut {id} is {row}"));
        }
    }
    match device.rows.keys().find(|id| !living.contains_key(*id)) {
        Some(id) => Err(format!("{who} has {id}, which is not there")),
        None => Ok(()),
    }
}
