-- Prelude: a tenant's own queues, and how a job gets into them and out.
-- Each job gets a spot, the lowest is next. A spot of priority p is 2^(9-p) behind the one before it of that priority,
-- or behind the spots passed already: so while both wait, p is served twice as often as p-1, and none starves.

local BACK = 2 ^ 50 -- a job that comes back goes before all others, in the order of old

local function enqueue(job)
  local order, priority = ORDER .. job.lane .. ':' .. job.tenant, math.max(0, math.min(9, job.priority))
  local flow = flow_of(job.tenant, job.task)
  local spot = job.spot - BACK
  if not job.back then
    local passed, last = unpack(redis.call('HMGET', order, 'passed', priority))
    spot = math.max(tonumber(passed) or 0, tonumber(last) or 0) + 2 ^ (9 - priority)
    redis.call('HSET', order, priority, spot)
  end
  local queue = queue_of(job.lane, flow, job.tenant)
  redis.call('ZADD', queue, spot, job.id)
  if flow ~= '' then redis.call('SADD', FLOWS .. job.lane .. ':' .. job.tenant, flow) end
  if job.deadline > 0 then redis.call('ZADD', DEADLINES, job.deadline, job.id) end
  if job.state ~= 'pending' then set_state(job, 'pending') end
  -- the limits said no to whatever was first
  if redis.call('ZRANK', queue, job.id) == 0 then redis.call('ZREM', THROTTLED .. job.lane, job.tenant) end
end

-- Out of a queue, and the tenant out of what it has nothing in any more.
local function dequeue(lane, flow, tenant, id)
  local queue = queue_of(lane, flow, tenant)
  redis.call('ZREM', queue, id)
  if flow ~= '' and redis.call('EXISTS', queue) == 0 then redis.call('SREM', FLOWS .. lane .. ':' .. tenant, flow) end
  if not has_pending(lane, tenant) then
    redis.call('DEL', ORDER .. lane .. ':' .. tenant)
    leave(lane, tenant)
  end
end

local function delay(job, due)
  redis.call('ZADD', DELAYED_OF .. job.tenant, due, job.id)
  redis.call('ZADD', DELAYED, 'LT', due, job.tenant)
  if job.deadline > 0 then redis.call('ZADD', DEADLINES, job.deadline, job.id) end
  if job.state ~= 'delayed' then set_state(job, 'delayed') end
end

-- Out of whatever it waited in.
local function withdraw(job)
  redis.call('ZREM', DELAYED_OF .. job.tenant, job.id)
  redis.call('ZREM', DEADLINES, job.id)
  dequeue(job.lane, '', job.tenant, job.id)
  if job.task ~= '' then dequeue(job.lane, job.task, job.tenant, job.id) end
  look_again(job.tenant)
end
