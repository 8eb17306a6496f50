-- Prelude: who waits for a turn, and who may not.

local LEAST_THROTTLE_MS = 50 -- what refills meanwhile goes together

local function queue_of(lane, flow, tenant)
  return QUEUE .. lane .. ':' .. flow .. ':' .. tenant
end

local function has_pending(lane, tenant)
  return redis.call('EXISTS', queue_of(lane, '', tenant), FLOWS .. lane .. ':' .. tenant) > 0
end

local function is_paused(tenant)
  local pause = redis.call('HGET', PAUSED, tenant)
  local until_ms = pause and tonumber(pause:match('^%d+'))
  return until_ms and (until_ms == 0 or until_ms > NOW) and pause, until_ms
end

-- Waiting for its turn no more; its virtual time is kept only where it is ahead of the lane's.
local function leave(lane, tenant)
  local at = tonumber(redis.call('ZSCORE', READY .. lane, tenant) or nil)
  if not at then return end
  redis.call('ZREM', READY .. lane, tenant)
  if redis.call('EXISTS', READY .. lane) == 0 then advance(lane, at) end
  if at > virtual_time(lane) then redis.call('ZADD', PARKED .. lane, at, tenant) end
end

-- Its limits say no until then: it waits in neither lane, and costs nobody a look.
local function throttle(tenant, until_ms)
  redis.call('ZADD', THROTTLED, until_ms, tenant)
  for _, lane in ipairs(LANES) do leave(lane, tenant) end
end

-- A tenant with pending jobs and a free slot waits for its turn. Sleeping workers have found nothing ready, so they
-- are woken when the first tenant becomes ready, and only then.
local function place(tenant)
  if redis.call('ZSCORE', THROTTLED, tenant) or not has_slot('', tenant) then return end
  local pause, until_ms = is_paused(tenant)
  if pause then return until_ms > 0 and throttle(tenant, until_ms) end
  if until_ms then redis.call('HDEL', PAUSED, tenant) end
  for _, lane in ipairs(LANES) do
    if not redis.call('ZSCORE', READY .. lane, tenant) and has_pending(lane, tenant) then
      local at = tonumber(redis.call('ZSCORE', PARKED .. lane, tenant) or 0)
      redis.call('ZREM', PARKED .. lane, tenant)
      local first = redis.call('EXISTS', READY .. lane) == 0
      redis.call('ZADD', READY .. lane, math.max(at, virtual_time(lane)), tenant)
      if first then redis.call('PUBLISH', WAKE, 'wake') end
    end
  end
end

-- Something has changed that may let a throttled tenant go.
local function look_again(tenant)
  redis.call('ZREM', THROTTLED, tenant)
  place(tenant)
end
