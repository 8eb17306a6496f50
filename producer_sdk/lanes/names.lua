-- Prelude of every lane script: the names of the keys of one shard, as LaneKeys lists them.
-- KEYS[1]: their root, "<namespace>:{lanes-<shard>}:". Every key under it has the same hash tag.
-- A scope is a tenant, ":<tenant>", or one task of a tenant that has limits of its own, "<task>:<tenant>".

local ROOT = KEYS[1]
local STATE = ROOT .. 'state' -- hash: limits, shards, turn, was_end, V:<lane>; tick, run, hold, set_back
local LIMITS = ROOT .. 'limits:' -- hash by version: 'of:<tenant>' and 'default' -> what a tenant may do, as JSON
local PAUSED = ROOT .. 'paused' -- hash: tenant -> "<until_ms, or 0> <reason>"
local TENANTS = ROOT .. 'tenants' -- zset: tenants with work -> when the sweep last looked at them
local JOB = ROOT .. 'job:' -- hash by job id, once a worker has had it
local MESSAGE = ROOT .. 'message:' -- string by job id: its first record, and the message
local QUEUE = ROOT .. 'queue:' -- zset by lane:scope: pending job ids -> spot
local FLOWS = ROOT .. 'flows:' -- set by lane:tenant: its tasks with limits of their own and pending jobs
local ORDER = ROOT .. 'order:' -- hash by lane:tenant: passed, and the last spot given to each priority
local READY = ROOT .. 'ready:' -- zset by lane: tenants that wait for their turn -> virtual time
local PARKED = ROOT .. 'parked:' -- zset by lane: other tenants whose virtual time is ahead of the lane's
local THROTTLED = ROOT .. 'throttled:' -- zset by lane: tenants whose limits say no there -> when to look again
local BUCKET = ROOT .. 'bucket:' -- hash by scope: requests and tokens left, at a time
local CHARGED = ROOT .. 'charged:' -- hash by lane: tenant -> what was charged for its running jobs
local HELD = ROOT .. 'held:' -- set by scope: the job ids in its slots
local UNACKED = ROOT .. 'unacked' -- zset: job ids in a worker's hands -> end of the lease
local DELAYED = ROOT .. 'delayed' -- zset: tenants -> their earliest due time
local DELAYED_OF = ROOT .. 'delayed:' -- zset by tenant: job ids -> due time
local DEADLINES = ROOT .. 'deadlines' -- zset: waiting job ids -> deadline
local CLOSING = ROOT .. 'closing' -- zset: job ids that only need their end written -> not before
local DEAD = ROOT .. 'dead' -- zset: job ids -> since when
local DEAD_OF = ROOT .. 'dead:' -- hash by job id
local WAITS = ROOT .. 'waits:' -- string by tenant: what has held it up lately
local TAKES = ROOT .. 'take:' -- list by operation id: the job ids it was given
local WAKE = ROOT .. 'wake' -- channel
local LANES = { 'interactive', 'batch' }
local KEEP_DEAD_S = 7 * 86400
