-- Count a job into its run and the runs above it, once, unless one of them has been stopped or has met a cap.
-- KEYS: 4 a run, the job's own run first: its counts (hash: began, calls), its requests (hash: digest, "times messages"),
--       its jobs that have begun and not ended (zset: job id, when), the mark of a stop (string: "ms why")
-- ARGV: 1 job id, 2 when it was put (ms), 3 most jobs, 4 most seconds, 5 most repeats (each 0: no cap),
--       6 the request's digest, 7 its last turns' ("": not compared), 8 its number of messages, 9 life of all this (ms),
--       10 most requests remembered, 11 most jobs in the set, 12 "1": a run that is not known here is new, 13 "" or the
--       time in ms, for tests that move the clock
-- Returns {"" | "unknown" | "stopped" | "wall_time" | "calls" | "repeats", number of the run from 1 ("": the fewest jobs that
--       one may still have, -1: no cap), "ms why" of a stop (the unknown runs' numbers), 1 if the job was there before the stop}
local time = redis.call('TIME')
local now = tonumber(ARGV[13]) or time[1] * 1000 + math.floor(time[2] / 1000)
local job, runs, messages, life = ARGV[1], #KEYS / 4, tonumber(ARGV[8]), tonumber(ARGV[9])
local most_calls, most_s, most_repeats = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function key(run, which) return KEYS[(run - 1) * 4 + which] end
local function keep(run)
  for which = 1, 3 do redis.call('PEXPIRE', key(run, which), life) end
end
-- Who goes on asking is not forgotten.
local function refuse(cap, run)
  keep(run)
  return { cap, run, '', 0 }
end

for run = 1, runs do
  local mark = redis.call('GET', key(run, 4))
  if mark then
    local is_known = redis.call('ZSCORE', key(1, 3), job)
    local before = is_known or tonumber(ARGV[2]) < tonumber(mark:match('^%d+'))
    return { 'stopped', run, mark, before and 1 or 0 }
  end
end
local unknown = ''
for run = 1, runs do
  local began = tonumber(redis.call('HGET', key(run, 1), 'began'))
  unknown = began and unknown or unknown .. run .. ' '
  if most_s > 0 and now - (began or now) >= most_s * 1000 then return refuse('wall_time', run) end
end
if unknown ~= '' and ARGV[12] ~= '1' then return { 'unknown', 0, unknown, 0 } end
local function left()
  local most = 0
  for run = 1, runs do most = math.max(most, tonumber(redis.call('HGET', key(run, 1), 'calls')) or 0) end
  return { '', most_calls > 0 and math.max(0, most_calls - most) or -1, '', 0 }
end
if redis.call('ZSCORE', key(1, 3), job) then return left() end

-- How often a digest has come, and with how many messages last. Turns count when the conversation has grown since.
local function seen(run, digest)
  local times, last = (redis.call('HGET', key(run, 2), digest) or '0 0'):match('(%d+) (%d+)')
  return tonumber(times), tonumber(last)
end

local digests = { ARGV[6], ARGV[7] ~= '' and 'turns:' .. ARGV[7] or nil }
for run = 1, runs do
  if most_calls > 0 and (tonumber(redis.call('HGET', key(run, 1), 'calls')) or 0) >= most_calls then
    return refuse('calls', run)
  end
end
for run = 1, most_repeats > 0 and runs or 0 do
  for which, digest in ipairs(digests) do
    local times, last = seen(run, digest)
    if times >= most_repeats and (which == 1 or messages > last) then return refuse('repeats', run) end
  end
end

for run = 1, runs do
  redis.call('HSETNX', key(run, 1), 'began', now)
  redis.call('HINCRBY', key(run, 1), 'calls', 1)
  redis.call('ZADD', key(run, 3), now, job)
  redis.call('ZREMRANGEBYRANK', key(run, 3), 0, -1 - tonumber(ARGV[11]))
  for which, digest in ipairs(most_repeats > 0 and digests or {}) do
    local times, last = seen(run, digest)
    local has_room = times > 0 or redis.call('HLEN', key(run, 2)) < tonumber(ARGV[10])
    if has_room and (which == 1 or messages > last) then
      redis.call('HSET', key(run, 2), digest, (times + 1) .. ' ' .. messages)
    end
  end
  keep(run)
end
return left()
