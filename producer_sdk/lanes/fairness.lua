-- Prelude: which tenant is served next. A tenant's virtual time grows by what it was served; the lowest goes first.
-- After the virtual token counter of "Fairness in Serving Large Language Models" (OSDI 2024): who was idle joins at
-- the lane's current virtual time V, so no credit is saved up; V is the virtual time of the tenant served last.

local NOW = read_clock()
local known_V, known_caps = {}, {}

local function virtual_time(lane)
  known_V[lane] = known_V[lane] or tonumber(redis.call('HGET', STATE, 'V:' .. lane)) or 0
  return known_V[lane]
end

local function advance(lane, to)
  if to > virtual_time(lane) then
    known_V[lane] = to
    redis.call('HSET', STATE, 'V:' .. lane, to)
  end
end

-- Without a cap that anyone has set, one job at a time: fail closed.
local function cap_of(tenant)
  if not known_caps[tenant] then
    local cap = redis.call('HGET', CAPS, tenant) or redis.call('HGET', STATE, 'default_cap')
    known_caps[tenant] = tonumber(cap or 1)
  end
  return known_caps[tenant]
end

local function has_slot(tenant)
  return redis.call('SCARD', HELD .. tenant) < cap_of(tenant)
end

-- Waiting for its turn no more; its virtual time is kept only where it is ahead of the lane's.
local function leave(lane, tenant)
  local at = tonumber(redis.call('ZSCORE', READY .. lane, tenant) or nil)
  if not at then return end
  redis.call('ZREM', READY .. lane, tenant)
  if redis.call('EXISTS', READY .. lane) == 0 then advance(lane, at) end
  if at > virtual_time(lane) then redis.call('ZADD', PARKED .. lane, at, tenant) end
end

-- After a turn: at its cap it waits in neither lane, without pending jobs not in this one.
local function stay_or_leave(lane, tenant)
  if not has_slot(tenant) then
    for _, each in ipairs(LANES) do leave(each, tenant) end
  elseif redis.call('EXISTS', QUEUE .. lane .. ':' .. tenant) == 0 then leave(lane, tenant) end
end

-- A tenant with pending jobs and a free slot waits for its turn. Sleeping workers have found nothing ready, so they
-- are woken when the first tenant becomes ready, and only then.
local function place(tenant)
  for _, lane in ipairs(LANES) do
    local waits = not redis.call('ZSCORE', READY .. lane, tenant)
    if waits and redis.call('EXISTS', QUEUE .. lane .. ':' .. tenant) == 1 and has_slot(tenant) then
      local at = tonumber(redis.call('ZSCORE', PARKED .. lane, tenant) or 0)
      redis.call('ZREM', PARKED .. lane, tenant)
      local first = redis.call('EXISTS', READY .. lane) == 0
      redis.call('ZADD', READY .. lane, math.max(at, virtual_time(lane)), tenant)
      if first then redis.call('PUBLISH', WAKE, 'wake') end
    end
  end
end

-- It was charged for a job that it gives back unserved.
local function refund(lane, tenant, cost)
  for _, set in ipairs({ READY .. lane, PARKED .. lane }) do
    local at = tonumber(redis.call('ZSCORE', set, tenant) or nil)
    if at then redis.call('ZADD', set, math.max(virtual_time(lane), at - cost), tenant) end
  end
end
