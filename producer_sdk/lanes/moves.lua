-- Prelude: a job's moves between a worker's hands, waiting, closing and its end.

-- Out of a worker's hands: its slot is free. Its flow's slot may be what a throttled tenant waited for.
local function release(job, verb)
  redis.call('HSET', JOB .. job.id, 'last', verb .. ':' .. job.tag, 'let_go', NOW)
  redis.call('ZREM', UNACKED, job.id)
  redis.call('SREM', HELD .. ':' .. job.tenant, job.id)
  if job.flow then
    redis.call('SREM', HELD .. job.flow .. ':' .. job.tenant, job.id)
    let_go(job.tenant, 'concurrency of ' .. job.flow)
    for _, lane in ipairs(LANES) do redis.call('ZREM', THROTTLED .. lane, job.tenant) end
  end
  if job.charged then charge_running(job.lane, job.tenant, -job.charged) end
  redis.call('HDEL', JOB .. job.id, 'tag', 'worker', 'flow', 'charged')
end

-- The tokens that its buckets were charged by estimate, corrected; nil where nothing is known.
local function settle(job, tokens)
  if not tokens or tokens == job.tokens then return end
  draw('', job.tenant, { tokens = tokens - job.tokens })
  if job.flow then draw(job.flow, job.tenant, { tokens = tokens - job.tokens }) end
  local rate = limits_of(job.tenant).tokens
  for _, lane in ipairs(LANES) do
    if rate and tokens < job.tokens and redis.call('ZSCORE', THROTTLED .. lane, job.tenant) then
      redis.call('ZINCRBY', THROTTLED .. lane, (tokens - job.tokens) * 60000 / rate, job.tenant)
    end
  end
end

-- It will not be called any more: a worker writes its end, ahead of the lanes and without a slot.
local function close(job, stop, not_before)
  unfold(job)
  redis.call('HSET', JOB .. job.id, 'state', 'closing', 'stop', stop)
  redis.call('ZADD', CLOSING, not_before or 0, job.id)
  redis.call('PUBLISH', WAKE, 'wake')
end

-- Waiting, in the place where it belongs.
local function wait_again(job, due)
  if job.stop then close(job, job.stop, due > NOW and due or 0)
  elseif job.cancel then close(job, 'cancelled')
  elseif due > NOW then delay(job, due)
  else enqueue(job) end
  place(job.tenant)
end

-- Onto the list of what was given up, with all that a replay needs.
local function bury(id, tenant, deliveries, reason)
  redis.call('ZADD', DEAD, NOW, id)
  redis.call('HSET', DEAD_OF .. id, 'tenant', tenant, 'deliveries', deliveries, 'reason', reason, 'message',
    message_of(id))
  redis.call('EXPIRE', DEAD_OF .. id, KEEP_DEAD_S)
end

local function bury_damaged(id, tenant)
  bury(id, tenant, 0, 'its record is missing or damaged')
  redis.call('UNLINK', MESSAGE .. id)
end
