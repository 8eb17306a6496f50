-- Prelude: which tenant is served next. A tenant's virtual time grows by what it was served, divided by its weight; the
-- lowest goes first. After the virtual token counter of "Fairness in Serving Large Language Models" (OSDI 2024).
-- A job is charged by estimate when it is taken, and by what it took when it ends; what is charged for jobs that run is
-- known apart. V, the lane's virtual time, is that of the tenant served last without what was charged for its running
-- jobs: so it only grows, whatever the estimates. Who was idle joins at V, so no credit is saved up.

local known_V = {}

local function virtual_time(lane)
  known_V[lane] = known_V[lane] or tonumber(redis.call('HGET', STATE, 'V:' .. lane)) or 0
  return known_V[lane]
end

local function running_charge(lane, tenant)
  return tonumber(redis.call('HGET', CHARGED .. lane, tenant) or 0)
end

local function advance(lane, tenant, at)
  local served = at - running_charge(lane, tenant)
  if served > virtual_time(lane) then
    known_V[lane] = served
    redis.call('HSET', STATE, 'V:' .. lane, served)
  end
end

-- V as it is now: whoever is next has been served so much.
local function advanced(lane)
  local head = redis.call('ZRANGE', READY .. lane, 0, 0, 'WITHSCORES')
  if head[1] then advance(lane, head[1], tonumber(head[2])) end
  return virtual_time(lane)
end

-- A job begins to run, charged so much; or, negative, runs no more. Where nobody waits, V follows who was served.
local function charge_running(lane, tenant, amount)
  if tonumber(redis.call('HINCRBYFLOAT', CHARGED .. lane, tenant, amount)) < 1e-6 then
    redis.call('HDEL', CHARGED .. lane, tenant)
  end
  local at = amount < 0 and redis.call('EXISTS', READY .. lane) == 0 and redis.call('ZSCORE', PARKED .. lane, tenant)
  if at then advance(lane, tenant, tonumber(at)) end
end

-- What a job was charged was not what it took.
local function correct(lane, tenant, by)
  local at, V = redis.call('ZSCORE', READY .. lane, tenant), virtual_time(lane)
  if at then return redis.call('ZADD', READY .. lane, at + by, tenant) end
  at = math.max(tonumber(redis.call('ZSCORE', PARKED .. lane, tenant) or 0), V) + by
  if at > V then redis.call('ZADD', PARKED .. lane, at, tenant)
  else redis.call('ZREM', PARKED .. lane, tenant) end
end
