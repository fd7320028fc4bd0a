/* What tests may turn on the SQLite log. */
#pragma once

/* PRAGMA synchronous: "FULL". Tests of the crash tests set "NORMAL", which must be found to lose writes. */
extern const char *store_log_sqlite_synchronous;
