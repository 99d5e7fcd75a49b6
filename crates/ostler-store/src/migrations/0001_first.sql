-- Times are milliseconds since 1970, UTC. Words of closed sets are their stable texts.

-- How each server fared.
CREATE TABLE server (
    server       TEXT    NOT NULL PRIMARY KEY,
    launch       TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    failures     INTEGER NOT NULL,
    told         INTEGER NOT NULL,
    parked_state TEXT,
    parked_until INTEGER,
    parked_fault TEXT -- a JSON object
) STRICT;

-- What each server last listed: apart, because it is big and seldom changes.
CREATE TABLE listing (
    server TEXT NOT NULL PRIMARY KEY,
    tools  TEXT NOT NULL -- a JSON array, each element as the server wrote it
) STRICT;

-- What a person last approved for each server.
CREATE TABLE consent (
    server TEXT    NOT NULL PRIMARY KEY,
    digest TEXT    NOT NULL,
    shown  TEXT    NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

-- Processes that were started and whose end was not seen yet.
CREATE TABLE spawned (
    cookie      TEXT    NOT NULL PRIMARY KEY,
    pid         INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    boot        TEXT    NOT NULL
) STRICT;
