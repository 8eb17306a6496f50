-- Prelude of every lane script: the names of the keys of one shard, as LaneKeys lists them.
-- KEYS[1]: their root, "<namespace>:{lanes-<shard>}:". Every key under it has the same hash tag.

local ROOT = KEYS[1]
local STATE = ROOT .. 'state' -- hash: seq, turn, was_end, default_cap, V:<lane>, and the clock: tick, run, hold
local CAPS = ROOT .. 'caps' -- hash: tenant -> concurrent jobs
local TENANTS = ROOT .. 'tenants' -- zset: tenants with work -> when the sweep last looked at them
local JOB = ROOT .. 'job:' -- hash by job id
local MESSAGE = ROOT .. 'message:' -- string by job id
local QUEUE = ROOT .. 'queue:' -- zset by lane:tenant: pending job ids -> priority and order
local READY = ROOT .. 'ready:' -- zset by lane: tenants with pending jobs and a free slot -> virtual time
local PARKED = ROOT .. 'parked:' -- zset by lane: other tenants whose virtual time is ahead of the lane's
local HELD = ROOT .. 'held:' -- set by tenant: the job ids in its slots
local UNACKED = ROOT .. 'unacked' -- zset: job ids in a worker's hands -> end of the lease
local DELAYED = ROOT .. 'delayed' -- zset: tenants -> their earliest due time
local DELAYED_OF = ROOT .. 'delayed:' -- zset by tenant: job ids -> due time
local DEADLINES = ROOT .. 'deadlines' -- zset: waiting job ids -> deadline
local CLOSING = ROOT .. 'closing' -- zset: job ids that only need their end written -> not before
local DEAD = ROOT .. 'dead' -- zset: job ids -> since when
local DEAD_OF = ROOT .. 'dead:' -- hash by job id
local TAKES = ROOT .. 'take:' -- list by operation id: the job ids it was given
local WAKE = ROOT .. 'wake' -- channel
local LANES = { 'interactive', 'batch' }
