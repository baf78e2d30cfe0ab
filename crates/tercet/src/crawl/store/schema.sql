-- Times are Unix seconds. Ids, keys and hashes are blobs.

-- One row a run.
CREATE TABLE crawls (
    crawl     INTEGER PRIMARY KEY,
    started   INTEGER NOT NULL,
    ended     INTEGER,              -- NULL: under way, or killed
    complete  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Every node that was visited, as it was last seen.
CREATE TABLE nodes (
    node           INTEGER PRIMARY KEY,
    id             BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    address        TEXT NOT NULL,   -- enr:… or enode://…
    seq            INTEGER NOT NULL,
    ip             TEXT,
    udp            INTEGER,
    tcp            INTEGER,
    fork_hash      BLOB,            -- the eth entry of its record
    fork_next      INTEGER,
    score          INTEGER NOT NULL,
    first_seen     INTEGER NOT NULL,
    first_response INTEGER,
    last_response  INTEGER,
    last_check     INTEGER
) STRICT;

-- What each visit came to.
CREATE TABLE sightings (
    crawl    INTEGER NOT NULL REFERENCES crawls,
    node     INTEGER NOT NULL REFERENCES nodes,
    protocol TEXT NOT NULL CHECK (protocol IN ('v4', 'v5', 'rlpx')),
    at       INTEGER NOT NULL,
    ip       TEXT,
    port     INTEGER,
    rtt_us   INTEGER,               -- NULL: no answer (for rlpx: of the whole exchange)
    error    TEXT,                  -- why there was none, where more is known than silence
    PRIMARY KEY (crawl, node, protocol)
) STRICT, WITHOUT ROWID;

-- The same, summed up over all crawls.
CREATE TABLE reachability (
    node         INTEGER NOT NULL REFERENCES nodes,
    protocol     TEXT NOT NULL CHECK (protocol IN ('v4', 'v5', 'rlpx')),
    visits       INTEGER NOT NULL,
    answers      INTEGER NOT NULL,
    first_answer INTEGER,
    last_answer  INTEGER,
    last_visit   INTEGER NOT NULL,
    PRIMARY KEY (node, protocol)
) STRICT, WITHOUT ROWID;

-- Client names, each once.
CREATE TABLE clients (
    client INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
) STRICT;

-- The last Hello of each node.
CREATE TABLE hellos (
    node        INTEGER PRIMARY KEY REFERENCES nodes,
    at          INTEGER NOT NULL,
    client      INTEGER NOT NULL REFERENCES clients,
    p2p_version INTEGER NOT NULL,
    listen_port INTEGER NOT NULL
) STRICT;

CREATE TABLE capabilities (
    node    INTEGER NOT NULL REFERENCES nodes,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (node, name, version)
) STRICT, WITHOUT ROWID;

-- The last eth Status of each node.
CREATE TABLE statuses (
    node        INTEGER PRIMARY KEY REFERENCES nodes,
    at          INTEGER NOT NULL,
    eth_version INTEGER NOT NULL,
    network_id  INTEGER NOT NULL,
    genesis     BLOB NOT NULL,
    fork_hash   BLOB NOT NULL,
    fork_next   INTEGER NOT NULL,
    head        BLOB NOT NULL
) STRICT;
