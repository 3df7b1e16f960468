//! Names, scopes and resources: rows that many spans refer to, each written once and never removed.

use rusqlite::{OptionalExtension, Transaction, params};

use super::Pass;
use crate::desk::store::batch::NewResource;
use crate::desk::store::sqlite::Result;

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
        self.cache.resources.insert(new.hash, id);
        Ok(id)
    }
}
