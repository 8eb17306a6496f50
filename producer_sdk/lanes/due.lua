-- Prelude: what becomes due with time.

-- Moves due delayed jobs to their queues: up to `most`, 16 a tenant, so that one tenant's flood delays no other's; and
-- looks again at tenants whose limits may let them go.
local function wake_due(most)
  for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', DELAYED, '-inf', NOW, 'LIMIT', 0, most / 16)) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELAYED_OF .. tenant, '-inf', NOW, 'LIMIT', 0, 16)) do
      redis.call('ZREM', DELAYED_OF .. tenant, id)
      local job = read(id)
      if job and job.state == 'delayed' then enqueue(job) elseif not job then bury_damaged(id, tenant) end
    end
    local later = redis.call('ZRANGE', DELAYED_OF .. tenant, 0, 0, 'WITHSCORES')
    if later[1] then redis.call('ZADD', DELAYED, math.max(later[2], NOW), tenant)
    else redis.call('ZREM', DELAYED, tenant) end
    place(tenant)
  end
  for _, lane in ipairs(LANES) do
    for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', THROTTLED .. lane, '-inf', NOW, 'LIMIT', 0, most)) do
      redis.call('ZREM', THROTTLED .. lane, tenant)
      place(tenant)
    end
  end
end

-- Milliseconds until a worker that found nothing should look again; -1: not before it is woken.
local function until_due()
  local soonest = -1
  for _, set in ipairs({ DELAYED, CLOSING, THROTTLED .. LANES[1], THROTTLED .. LANES[2] }) do
    local head = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
    local wait = head[1] and math.max(0, head[2] - NOW)
    if wait and (soonest < 0 or wait < soonest) then soonest = wait end
  end
  for _, lane in ipairs(LANES) do
    if redis.call('EXISTS', READY .. lane) == 1 then soonest = 0 end
  end
  return soonest
end

-- Idle tenants that the lane's virtual time has caught up with are like new ones.
local function forget_idle(most)
  for _, lane in ipairs(LANES) do
    local idle = redis.call('ZRANGEBYSCORE', PARKED .. lane, '-inf', virtual_time(lane), 'LIMIT', 0, most)
    if idle[1] then redis.call('ZREM', PARKED .. lane, unpack(idle)) end
  end
end
