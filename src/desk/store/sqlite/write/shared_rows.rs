//! Names, scopes and resources: rows that many spans refer to, each written once, and deleted with the
//! last span that refers to it.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction, params};

use super::Pass;
use crate::desk::store::batch::NewResource;
use crate::desk::store::sqlite::cache::RowCache;
use crate::desk::store::sqlite::{Result, stored};

/// How the numbers of spans that refer to names, scopes and resources change in one transaction, by row.
#[derive(Debug, Default)]
pub(in crate::desk::store::sqlite) struct SharedUses {
    names: BTreeMap<i64, i64>,
    scopes: BTreeMap<i64, i64>,
    resources: BTreeMap<i64, i64>,
}

impl SharedUses {
    /// Counts a span that is added (1) or removed (-1).
    pub(in crate::desk::store::sqlite) fn count(
        &mut self,
        [name, scope, resource]: [i64; 3],
        by: i64,
    ) {
        *self.names.entry(name).or_default() += by;
        *self.scopes.entry(scope).or_default() += by;
        *self.resources.entry(resource).or_default() += by;
    }

    /// Writes the numbers, and deletes the rows that no span refers to any more.
    pub(in crate::desk::store::sqlite) fn write(
        self,
        transaction: &Transaction<'_>,
        cache: &mut RowCache,
    ) -> Result<()> {
        let update = |table: &str, id: i64, by: i64| -> Result<bool> {
            if by != 0 {
                let sql = format!("UPDATE {table} SET uses = uses + ?2 WHERE id = ?1");
                transaction.prepare_cached(&sql)?.execute([id, by])?;
            }
            Ok(by <= 0)
        };
        for (id, by) in self.names {
            if update("names", id, by)? {
                let sql = "DELETE FROM names WHERE id = ?1 AND uses = 0 RETURNING name";
                let gone = transaction.prepare_cached(sql)?.query_row([id], |row| row.get(0));
                if let Some(name) = gone.optional()? {
                    cache.names.remove::<String>(&name);
                }
            }
        }
        for (id, by) in self.scopes {
            if update("scopes", id, by)? {
                let sql = "DELETE FROM scopes WHERE id = ?1 AND uses = 0 RETURNING name, version";
                let gone = transaction
                    .prepare_cached(sql)?
                    .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)));
                if let Some(scope) = gone.optional()? {
                    cache.scopes.remove(&scope);
                }
            }
        }
        for (id, by) in self.resources {
            if update("resources", id, by)? {
                let sql = "DELETE FROM resources WHERE id = ?1 AND uses = 0 RETURNING hash, body";
                let gone = transaction
                    .prepare_cached(sql)?
                    .query_row([id], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)));
                let Some((hash, body)): Option<([u8; 32], _)> = gone.optional()? else { continue };
                cache.resources.remove(&hash);
                let mut delete = transaction.prepare_cached(
                    "DELETE FROM resource_texts WHERE key = ?1 AND resource = ?2",
                )?;
                for key in stored::resource(&body)?.keys() {
                    delete.execute(params![key, id])?;
                }
            }
        }
        Ok(())
    }
}

impl Pass<'_, '_> {
    pub(super) fn name(&mut self, name: &str) -> Result<i64> {
        if let Some(id) = self.cache.names.get(name) {
            return Ok(*id);
        }
        let sql = "INSERT INTO names (name) VALUES (?1) ON CONFLICT DO NOTHING";
        self.transaction.prepare_cached(sql)?.execute([name])?;
        let id = self
            .transaction
            .prepare_cached("SELECT id FROM names WHERE name = ?1")?
            .query_row([name], |row| row.get("id"))?;
        self.uses.names.entry(id).or_default(); // deleted again if no span with it is new
        self.cache.names.insert(name.to_owned(), id);
        Ok(id)
    }

    pub(super) fn scope(&mut self, scope: &(String, String)) -> Result<i64> {
        if let Some(id) = self.cache.scopes.get(scope) {
            return Ok(*id);
        }
        let (name, version) = scope;
        let sql = "INSERT INTO scopes (name, version) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.transaction.prepare_cached(sql)?.execute([name, version])?;
        let id = self
            .transaction
            .prepare_cached("SELECT id FROM scopes WHERE name = ?1 AND version = ?2")?
            .query_row([name, version], |row| row.get("id"))?;
        self.uses.scopes.entry(id).or_default();
        self.cache.scopes.insert(scope.clone(), id);
        Ok(id)
    }

    pub(super) fn resource(&mut self, new: &NewResource) -> Result<i64> {
        if let Some(id) = self.cache.resources.get(&new.hash) {
            return Ok(*id);
        }
        let find = |transaction: &Transaction<'_>| {
            transaction
                .prepare_cached("SELECT id FROM resources WHERE hash = ?1")?
                .query_row([new.hash.as_slice()], |row| row.get("id"))
                .optional()
        };
        let id = match find(self.transaction)? {
            Some(id) => id,
            None => {
                self.transaction
                    .prepare_cached("INSERT INTO resources (hash, body) VALUES (?1, ?2)")?
                    .execute(params![new.hash.as_slice(), new.body])?;
                let id = self.transaction.last_insert_rowid();
                let mut insert = self.transaction.prepare_cached(
                    "INSERT INTO resource_texts (key, resource, text) VALUES (?1, ?2, ?3)",
                )?;
                for (key, text) in &new.texts {
                    insert.execute(params![key, id, text])?;
                }
                id
            }
        };
        self.uses.resources.entry(id).or_default();
        self.cache.resources.insert(new.hash, id);
        Ok(id)
    }
}
