-- Prelude: which tenant is served next. A tenant's virtual time grows by what it was served, divided by its weight; the
-- lowest goes first. After the virtual token counter of "Fairness in Serving Large Language Models" (OSDI 2024): who
-- was idle joins at the lane's current virtual time V, so no credit is saved up; V is that of the tenant served last.

local known_V = {}

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

-- It was charged by estimate, and what it was served is known now; or it gives a job back unserved. One that waits for its
-- turn has back all that it was charged since its queue was last empty; nobody has more, so no credit is saved up.
local function correct(lane, tenant, cost)
  local by, V = cost / (limits_of(tenant).weight or 1), virtual_time(lane)
  local at = tonumber(redis.call('ZSCORE', READY .. lane, tenant) or nil)
  if at then
    local floor = tonumber(redis.call('HGET', ORDER .. lane .. ':' .. tenant, 'floor') or V)
    return redis.call('ZADD', READY .. lane, math.max(floor, at + by), tenant)
  end
  at = math.max(tonumber(redis.call('ZSCORE', PARKED .. lane, tenant) or 0), V)
  if at + by > V then redis.call('ZADD', PARKED .. lane, at + by, tenant)
  else redis.call('ZREM', PARKED .. lane, tenant) end
end
