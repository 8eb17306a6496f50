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
  if redis.call('EXISTS', READY .. lane) == 0 then advance(lane, tenant, at) end
  if at > virtual_time(lane) then redis.call('ZADD', PARKED .. lane, at, tenant) end
end

-- Its limits say no in this lane until then: it does not wait there, and costs nobody a look.
local function throttle(lane, tenant, until_ms)
  redis.call('ZADD', THROTTLED .. lane, until_ms, tenant)
  leave(lane, tenant)
end

-- A tenant with pending jobs and a free slot waits for its turn. Sleeping workers have found nothing ready, so they
-- are woken when the first tenant becomes ready, and only then.
local function place(tenant)
  local is_free, is_last = has_slot('', tenant)
  if not is_free then return end
  local pause, until_ms = is_paused(tenant)
  if until_ms and not pause then redis.call('HDEL', PAUSED, tenant) end
  for _, lane in ipairs(LANES) do
    local is_waiting = redis.call('ZSCORE', READY .. lane, tenant) or redis.call('ZSCORE', THROTTLED .. lane, tenant)
    if pause then
      if until_ms > 0 then throttle(lane, tenant, until_ms) end
    elseif not is_waiting and has_pending(lane, tenant) then
      local at = tonumber(redis.call('ZSCORE', PARKED .. lane, tenant) or 0)
      redis.call('ZREM', PARKED .. lane, tenant)
      if is_last then let_go(tenant, 'concurrency') end
      local first = redis.call('EXISTS', READY .. lane) == 0
      redis.call('ZADD', READY .. lane, math.max(at, advanced(lane) + running_charge(lane, tenant)), tenant)
      if first then redis.call('PUBLISH', WAKE, 'wake') end
    end
  end
end

-- Something has changed that may let a throttled tenant go.
local function look_again(tenant)
  for _, lane in ipairs(LANES) do redis.call('ZREM', THROTTLED .. lane, tenant) end
  place(tenant)
end

-- The lane, its next tenant and that one's virtual time; every fifth turn is the batch lane's.
local function next_up(turn)
  local first = turn == 4 and 2 or 1
  for _, lane in ipairs({ LANES[first], LANES[3 - first] }) do
    local head = redis.call('ZRANGE', READY .. lane, 0, 0, 'WITHSCORES')
    if head[1] then return lane, head[1], tonumber(head[2]) end
  end
end
