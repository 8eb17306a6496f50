-- Prelude: a job's record and its moves between pending, delayed, running, closing and its end.
-- Record: tenant, lane, state, digest, cost, priority, seq (its place), put (ms), deadline, ttl, op (of its put);
-- while held: tag, worker; lost (deliveries whose worker was lost), cancel, stop; last (the verb and tag that let go).
-- A server without memory refuses the first write that adds something, and every later one or none of a script: so a
-- script writes before it removes, and is refused as a whole.

local FIELDS = { 'state', 'tenant', 'lane', 'digest', 'cost', 'priority', 'seq', 'put', 'deadline', 'ttl', 'op', 'tag',
  'lost', 'cancel', 'stop', 'last' }

local function read(id)
  local values = redis.call('HMGET', JOB .. id, unpack(FIELDS))
  if not (values[1] and values[2] and values[3]) then return nil end
  local job = { id = id }
  for i, name in ipairs(FIELDS) do job[name] = values[i] end
  job.cost, job.deadline = tonumber(job.cost or 1), tonumber(job.deadline or 0)
  job.lost, job.put = tonumber(job.lost or 0), tonumber(job.put or 0)
  return job
end

-- The job that this tag holds, and whether it holds it still. A tag is "<job id>:<operation id>".
local function holder(tag)
  local job = read(tag:match('^(.*):') or '')
  return job, job ~= nil and job.tag == tag
end

local function set_state(job, state)
  job.state = state
  redis.call('HSET', JOB .. job.id, 'state', state)
end

-- To its place in its queue: a job that comes back was put earlier, so it comes back to the head.
local function enqueue(job)
  local place_in_queue = (9 - (tonumber(job.priority) or 5)) * 2 ^ 48 + (tonumber(job.seq) or 0)
  redis.call('ZADD', QUEUE .. job.lane .. ':' .. job.tenant, place_in_queue, job.id)
  if job.deadline > 0 then redis.call('ZADD', DEADLINES, job.deadline, job.id) end
  set_state(job, 'pending')
end

local function delay(job, due)
  redis.call('ZADD', DELAYED_OF .. job.tenant, due, job.id)
  redis.call('ZADD', DELAYED, 'LT', due, job.tenant)
  if job.deadline > 0 then redis.call('ZADD', DEADLINES, job.deadline, job.id) end
  set_state(job, 'delayed')
end

-- Out of whatever it waited in.
local function withdraw(job)
  local queue = QUEUE .. job.lane .. ':' .. job.tenant
  redis.call('ZREM', queue, job.id)
  redis.call('ZREM', DELAYED_OF .. job.tenant, job.id)
  redis.call('ZREM', DEADLINES, job.id)
  if redis.call('EXISTS', queue) == 0 then leave(job.lane, job.tenant) end
end

-- Out of a worker's hands: its slot is free.
local function release(job, verb)
  redis.call('HSET', JOB .. job.id, 'last', verb .. ':' .. job.tag)
  redis.call('ZREM', UNACKED, job.id)
  redis.call('SREM', HELD .. job.tenant, job.id)
  redis.call('HDEL', JOB .. job.id, 'tag', 'worker')
end

-- It will not be called any more: a worker writes its end, ahead of the lanes and without a slot.
local function close(job, stop, not_before)
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
