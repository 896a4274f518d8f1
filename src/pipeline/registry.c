/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.db in the state directory: runs, steps, versions of data, and which step made what of what. SQLite, so that
 * anyone can open it; nothing that data depends on is in it. Several runs may share it (busy timeout 10 s).
 */
#include "pipeline/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char schema[] =
    "PRAGMA journal_mode=WAL;"
    "CREATE TABLE IF NOT EXISTS runs(run_id TEXT PRIMARY KEY, pipeline TEXT, file TEXT, record TEXT, started REAL,"
    " ended REAL, status TEXT);"
    "CREATE TABLE IF NOT EXISTS steps(id INTEGER PRIMARY KEY, run_id TEXT, pipeline TEXT, step TEXT, status TEXT,"
    " key TEXT, seconds REAL, attempts INTEGER, outputs TEXT, ended REAL);"
    "CREATE INDEX IF NOT EXISTS steps_key ON steps(pipeline, step, key);"
    "CREATE TABLE IF NOT EXISTS versions(id INTEGER PRIMARY KEY, volume TEXT, volume_uuid TEXT, path TEXT,"
    " sha256 TEXT, files INTEGER, bytes INTEGER, run_id TEXT, step TEXT, created REAL);"
    "CREATE INDEX IF NOT EXISTS versions_of ON versions(volume_uuid, path);"
    "CREATE TABLE IF NOT EXISTS pins(uuid TEXT PRIMARY KEY, name TEXT, volume TEXT, volume_uuid TEXT, sha256 TEXT,"
    " files INTEGER, bytes INTEGER, run_id TEXT, step TEXT, created REAL);"
    "CREATE TABLE IF NOT EXISTS clones(uuid TEXT PRIMARY KEY, version_uuid TEXT, run_id TEXT);"
    "CREATE TABLE IF NOT EXISTS lineage(run_id TEXT, step TEXT, kind TEXT, name TEXT, sha256 TEXT);";

bool registry_open(struct runner *r)
{
	char *path = NULL, *message = NULL;

	if (asprintf(&path, "%s/registry.db", r->state) < 0)
		return false;
	bool ok = sqlite3_open(path, &r->registry) == SQLITE_OK;
	if (ok) {
		sqlite3_busy_timeout(r->registry, 10000);
		ok = sqlite3_exec(r->registry, schema, NULL, NULL, &message) == SQLITE_OK;
	}
	if (!ok)
		fprintf(stderr, "penstock: the registry %s can't be opened: %s\n  try: --state DIR\n", path,
			message != NULL ? message : sqlite3_errmsg(r->registry));
	sqlite3_free(message);
	free(path);
	return ok;
}

void registry_close(struct runner *r)
{
	sqlite3_close(r->registry);
	r->registry = NULL;
}

/* Binds by letter (s text or NULL, d double, i json_int_t) and runs to the first row; NULL on failure, which is said.
 */
static sqlite3_stmt *query(struct runner *r, const char *sql, const char *letters, ...)
{
	sqlite3_stmt *stmt = NULL;
	va_list ap;

	if (sqlite3_prepare_v2(r->registry, sql, -1, &stmt, NULL) != SQLITE_OK) {
		progress_line(r, "registry: %s", sqlite3_errmsg(r->registry));
		return NULL;
	}
	va_start(ap, letters);
	for (int i = 1; letters[i - 1] != '\0'; i++) {
		if (letters[i - 1] == 's')
			sqlite3_bind_text(stmt, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
		else if (letters[i - 1] == 'd')
			sqlite3_bind_double(stmt, i, va_arg(ap, double));
		else
			sqlite3_bind_int64(stmt, i, va_arg(ap, json_int_t));
	}
	va_end(ap);
	return stmt;
}

static void execute(struct runner *r, sqlite3_stmt *stmt)
{
	if (stmt != NULL && sqlite3_step(stmt) != SQLITE_DONE)
		progress_line(r, "registry: %s", sqlite3_errmsg(r->registry));
	sqlite3_finalize(stmt);
}

void registry_run(struct runner *r, const char *status)
{
	execute(r, query(r, "INSERT OR REPLACE INTO runs VALUES(?,?,?,?,?,?,?)", "ssssdds", r->run_id,
			 r->pipeline->name, r->options->file, r->record, r->started_wall, r->ended_wall, status));
}

void registry_step(struct runner *r, struct run_step *s, const char *status)
{
	char *outputs = json_dumps(s->outputs, JSON_COMPACT);

	execute(r, query(r,
			 "INSERT INTO steps(run_id,pipeline,step,status,key,seconds,attempts,outputs,ended)"
			 " VALUES(?,?,?,?,?,?,?,?,?)",
			 "sssssdisd", r->run_id, r->pipeline->name, s->spec->name, status, s->key,
			 s->ended - s->started, (json_int_t)s->attempt, outputs != NULL ? outputs : "[]", run_wall()));
	free(outputs);
}

static void lineage(struct runner *r, struct run_step *s, const char *kind, const char *name, const char *sha256)
{
	execute(r, query(r, "INSERT INTO lineage VALUES(?,?,?,?,?)", "sssss", r->run_id, s->spec->name, kind, name,
			 sha256));
}

void registry_version(struct runner *r, struct run_step *s, struct run_volume *v, const char *path, json_t *digest)
{
	const char *sha256 = json_string_value(json_object_get(digest, "sha256"));
	json_int_t files = json_integer_value(json_object_get(digest, "files"));
	json_int_t bytes = json_integer_value(json_object_get(digest, "bytes"));
	char *name = NULL;

	execute(r,
		query(r,
		      "INSERT INTO versions(volume,volume_uuid,path,sha256,files,bytes,run_id,step,created)"
		      " VALUES(?,?,?,?,?,?,?,?,?)",
		      "ssssiissd", v->name, v->uuid, path, sha256, files, bytes, r->run_id, s->spec->name, run_wall()));
	if (asprintf(&name, "%s:%s", v->spec->name, path) >= 0)
		lineage(r, s, "output", name, sha256);
	free(name);
	json_array_append_new(s->outputs,
			      json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "volume", v->spec->name, "volume_uuid",
					v->uuid, "path", path, "sha256", sha256, "files", files, "bytes", bytes));
}

void registry_pin(struct runner *r, struct run_step *s, struct run_volume *v, const char *name, const char *uuid,
		  json_t *digest)
{
	execute(r, query(r, "INSERT OR REPLACE INTO pins VALUES(?,?,?,?,?,?,?,?,?,?)", "sssssiissd", uuid, name,
			 v->name, v->uuid, json_string_value(json_object_get(digest, "sha256")),
			 json_integer_value(json_object_get(digest, "files")),
			 json_integer_value(json_object_get(digest, "bytes")), r->run_id, s->spec->name, run_wall()));
	lineage(r, s, "pin", name, uuid);
}

/* The one text that @stmt gives, at most @bytes long; false if there is none. */
static bool one_text(sqlite3_stmt *stmt, char *text, size_t bytes)
{
	bool found = stmt != NULL && sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_text(stmt, 0) != NULL;

	if (found)
		snprintf(text, bytes, "%s", (const char *)sqlite3_column_text(stmt, 0));
	sqlite3_finalize(stmt);
	return found;
}

bool registry_pinned(struct runner *r, const char *uuid, char sha256[65])
{
	return one_text(query(r, "SELECT sha256 FROM pins WHERE uuid=?", "s", uuid), sha256, 65);
}

void registry_clone(struct runner *r, const char *uuid, const char *version_uuid)
{
	execute(r, query(r, "INSERT OR REPLACE INTO clones VALUES(?,?,?)", "sss", uuid, version_uuid, r->run_id));
}

bool registry_cloned(struct runner *r, const char *uuid, char version_uuid[40])
{
	return one_text(query(r, "SELECT version_uuid FROM clones WHERE uuid=?", "s", uuid), version_uuid, 40);
}

void registry_read_version(struct runner *r, struct run_step *s, const char *name, const char *uuid)
{
	lineage(r, s, "version", name, uuid);
}

bool registry_latest(struct runner *r, const char *volume_uuid, const char *path, char sha256[65])
{
	return one_text(query(r, "SELECT sha256 FROM versions WHERE volume_uuid=? AND path=? ORDER BY id DESC LIMIT 1",
			      "ss", volume_uuid, path),
			sha256, 65);
}

char *registry_success(struct runner *r, struct run_step *s)
{
	sqlite3_stmt *stmt = query(r,
				   "SELECT outputs FROM steps WHERE pipeline=? AND step=? AND key=? AND"
				   " status='succeeded' ORDER BY id DESC LIMIT 1",
				   "sss", r->pipeline->name, s->spec->name, s->key);
	char *outputs = NULL;

	if (stmt != NULL && sqlite3_step(stmt) == SQLITE_ROW)
		outputs = strdup((const char *)sqlite3_column_text(stmt, 0));
	sqlite3_finalize(stmt);
	return outputs;
}

bool registry_unfinished(struct runner *r, struct run_step *s)
{
	sqlite3_stmt *stmt = query(r,
				   "SELECT status, key FROM steps WHERE pipeline=? AND step=? AND status!='cached' AND"
				   " status!='skipped' ORDER BY id DESC LIMIT 1",
				   "ss", r->pipeline->name, s->spec->name);
	bool unfinished = false;

	if (stmt != NULL && sqlite3_step(stmt) == SQLITE_ROW)
		unfinished = strcmp((const char *)sqlite3_column_text(stmt, 0), "succeeded") != 0 &&
			     strcmp((const char *)sqlite3_column_text(stmt, 1), s->key) == 0;
	sqlite3_finalize(stmt);
	return unfinished;
}
