//! The overview: what needs somebody, what was taken, the newest orders.

use super::moment::date;
use super::views::{Home, Need};
use super::visit::{Trouble, Visit, href, notes, page};
use crate::base::id::UnixSeconds;
use crate::base::plain;
use crate::host::files;
use crate::http::exchange::Reply;
use crate::store::{Chore, Store, StoreError, StoredOrder, Wanted};

/// Of those that need somebody, on the overview.
const NEEDS: u32 = 10;
/// Of the newest, on the overview.
const NEWEST: u32 = 10;
const DAY: i64 = 24 * 60 * 60;
/// As in systemd/alerts.yml: a nightly backup that was missed.
const BACKUP_OLD: i64 = 26 * 60 * 60;
/// An order that the shop has not heard of for so long.
const UNTOLD: i64 = 10 * 60;
/// As `paidup check`: with less free, the next busy day may fill the disk.
const FREE_BYTES: u64 = 256 * 1024 * 1024;

impl Visit<'_> {
    pub(super) fn home(&self) -> Result<Reply, Trouble> {
        let store = self.store()?;
        let home = store.at_one_moment(|store| {
            let flagged = Wanted {
                flagged: true,
                ..Wanted::default()
            };
            let mut orders = store.wanted(&flagged, None, NEEDS + 1)?;
            let more = orders.len() > NEEDS as usize;
            orders.truncate(NEEDS as usize);
            let mut needs: Vec<Need> = orders.iter().map(|order| self.order_need(order)).collect();
            needs.extend(self.parked(store)?);
            needs.extend(self.untold(store)?);
            needs.extend(self.stale(store)?);
            needs.extend(self.backup(store)?);
            needs.extend(self.disk());
            let newest = store.wanted(&Wanted::default(), None, NEWEST)?;
            let frame = self.frame("/", date(self.today(), self.lang), store.mode()?);
            let (figures, plots) = self.sums(store).overview()?;
            Ok(Home {
                frame,
                needs,
                more,
                figures: figures.into(),
                plots,
                newest: newest.iter().map(|order| self.row(order)).collect(),
            })
        })?;
        page(200, &home)
    }

    fn order_need(&self, order: &StoredOrder) -> Need {
        let advice = self.advice(&order.state);
        let next = advice.first().map_or("", |advice| advice.next);
        Need {
            href: Some(href(order)),
            what: plain::text(order.name.as_str()),
            notes: notes(&order.state, self.lang),
            next: next.to_owned(),
        }
    }

    fn parked(&self, store: &Store) -> Result<Option<Need>, StoreError> {
        let t = self.lang.texts();
        let parked = store.parked(UnixSeconds(self.now.unix.0 - DAY))?;
        Ok(parked.map(|parked| {
            let since = date(self.site.sources.zone.date(parked.since), self.lang);
            let what = format!("{}: {}, {} {since}", t.parked, parked.payments, t.since);
            need(what, t.parked_next)
        }))
    }

    fn untold(&self, store: &Store) -> Result<Option<Need>, StoreError> {
        let t = self.lang.texts();
        let mut names = Vec::new();
        for unheard in store.unheard()? {
            let is_old = |oldest: UnixSeconds| oldest.0 < self.now.unix.0 - UNTOLD;
            if unheard.oldest.is_some_and(is_old) {
                names.push(format!(
                    "{} ({})",
                    unheard.destination.name, unheard.waiting
                ));
            }
        }
        let what = format!("{}: {}", t.untold, names.join(", "));
        Ok((!names.is_empty()).then(|| need(what, t.untold_next)))
    }

    fn stale(&self, store: &Store) -> Result<Option<Need>, StoreError> {
        let t = self.lang.texts();
        let Some(at) = store.last_event_at()? else {
            return Ok(Some(need(t.no_event.to_owned(), t.stale_next)));
        };
        let age = self.now.unix.0 - at.0;
        let what = format!("{} {} {}", t.stale, t.since, self.minute(at).text);
        Ok((age > DAY).then(|| need(what, t.stale_next)))
    }

    fn backup(&self, store: &Store) -> Result<Option<Need>, StoreError> {
        let t = self.lang.texts();
        let what = match store.noted(Chore::Backup)? {
            None => t.backup_none.to_owned(),
            Some(at) if self.now.unix.0 - at.0 > BACKUP_OLD => {
                format!("{}: {}", t.backup_old, self.minute(at).text)
            }
            Some(_) => return Ok(None),
        };
        Ok(Some(need(what, t.backup_next)))
    }

    fn disk(&self) -> Option<Need> {
        let t = self.lang.texts();
        let free = files::free_bytes(files::folder_of(&self.site.database)).ok()?;
        let what = format!("{}: {} MiB {}", t.disk, free / (1024 * 1024), t.free);
        (free < FREE_BYTES).then(|| need(what, t.disk_next))
    }
}

fn need(what: String, next: &str) -> Need {
    Need {
        href: None,
        what,
        notes: Vec::new(),
        next: next.to_owned(),
    }
}
