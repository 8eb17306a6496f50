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

-- It was charged by estimate, and what it was served is known now; or it gives a job back unserved.
local function correct(lane, tenant, cost)
  local by = cost / (limits_of(tenant).weight or 1)
  local V = virtual_time(lane)
  for _, set in ipairs({ READY .. lane, PARKED .. lane }) do
    local at = tonumber(redis.call('ZSCORE', set, tenant) or nil)
    if at then return redis.call('ZADD', set, math.max(V, math.max(at, V) + by), tenant) end
  end
  if by > 0 then redis.call('ZADD', PARKED .. lane, V + by, tenant) end
end
