-- Prelude: a pending job begins to run, or leaves the queue that it cannot begin from.

-- Into its tenant's slots, charged: its virtual time, and the buckets. The caller marks it held and dequeues it.
local function start(job, flow, at)
  local has_come_back = job.spot < 0
  unfold(job)
  redis.call('HSET', JOB .. job.id, 'state', 'running', 'spot', has_come_back and job.spot + BACK or job.spot)
  redis.call('SADD', HELD .. ':' .. job.tenant, job.id)
  if not has_come_back then redis.call('HSET', ORDER .. job.lane .. ':' .. job.tenant, 'passed', job.spot) end
  draw('', job.tenant, { requests = 1, tokens = job.tokens })
  if flow ~= '' then
    redis.call('HSET', JOB .. job.id, 'flow', flow)
    redis.call('SADD', HELD .. flow .. ':' .. job.tenant, job.id)
    draw(flow, job.tenant, { requests = 1, tokens = job.tokens })
  end
  local charged = job.cost / (limits_of(job.tenant).weight or 1)
  redis.call('HSET', JOB .. job.id, 'charged', charged)
  advance(job.lane, job.tenant, at)
  charge_running(job.lane, job.tenant, charged)
  redis.call('ZADD', READY .. job.lane, at + charged, job.tenant)
  -- at its cap it waits in neither lane
  if not has_slot('', job.tenant) then
    for _, lane in ipairs(LANES) do leave(lane, job.tenant) end
    held_up(job.tenant, 'concurrency', 0)
  end
  if flow ~= '' and not has_slot(flow, job.tenant) then held_up(job.tenant, 'concurrency of ' .. flow, 0) end
end

-- Where it waited, for take.lua's row: jobs of its tenant before it when it was put, other tenants that wait for their
-- turn now, {since when it waited, then spans since then}, and of earlier deliveries its story and the losses.
local function past_of(job)
  local told = job.last and redis.call('HMGET', JOB .. job.id, 'let_go', 'story', 'losses') or {}
  local since = tonumber(told[1] or job.put)
  local others = math.max(0, redis.call('ZCARD', READY .. job.lane) - 1)
  return { job.ahead, others, since, lately(job.tenant, since), told[2] or '', told[3] or '' }
end

-- An entry at the head that cannot be served: it goes to the flow where it belongs since its limits have changed, or,
-- where nothing is known of it any more, to the dead letters. Returns false: nothing was handed out.
local function set_right(lane, tenant, found)
  local job = found.job
  if job and job.state == 'pending' then
    local flow = flow_of(tenant, job.task)
    redis.call('ZADD', queue_of(lane, flow, tenant), found.spot, job.id)
    if flow ~= '' then redis.call('SADD', FLOWS .. lane .. ':' .. tenant, flow) end
  elseif not job then bury_damaged(found.odd, tenant) end
  dequeue(lane, found.flow, tenant, found.odd)
  return false
end
