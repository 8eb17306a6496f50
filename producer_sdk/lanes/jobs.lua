-- Prelude: a job's record and its moves between pending, delayed, running, closing and its end.
-- Record: tenant, lane, task, state, digest, cost, tokens, priority, spot (its place), put (ms), deadline, ttl, op (of its put),
-- ahead (its tenant's jobs that waited when it was put); while held: tag, worker, taken (ms), flow, charged (of virtual time);
-- lost (deliveries whose worker was lost), losses (a line each), back (it comes to the head), cancel, stop; streamed (the last
-- append to its stream, and of which tag); last (the verb and tag that let go), let_go (ms), story (of its workers). Until a
-- worker has had it, it is packed before its message (fresh).
-- A server without memory refuses a script at its first write that adds something: so a script writes before it removes.

local FIELDS = { 'state', 'tenant', 'lane', 'task', 'digest', 'cost', 'tokens', 'priority', 'spot', 'put', 'deadline',
  'ttl', 'op', 'tag', 'flow', 'charged', 'lost', 'back', 'cancel', 'stop', 'last' }
local PACKED = { 'lane', 'priority', 'cost', 'tokens', 'put', 'deadline', 'ttl', 'digest', 'op', 'task', 'tenant', 'ahead' }
local NUMBERS = { cost = 1, tokens = 0, priority = 5, spot = 0, put = 0, deadline = 0, lost = 0, ahead = 0 }
local LANE_NUMBERS = { interactive = 1, batch = 2 }
local STATES = { p = 'pending', d = 'delayed' }

-- A fresh record and its message: its state's letter, the length of what is packed, that, and the message.
local function write_fresh(job, message)
  local packed = {}
  for i, name in ipairs(PACKED) do packed[i] = job[name] end
  packed[1] = LANE_NUMBERS[job.lane]
  packed = cmsgpack.pack(packed)
  local length = string.char(math.floor(#packed / 256), #packed % 256)
  redis.call('SET', MESSAGE .. job.id, job.state:sub(1, 1) .. length .. packed .. message)
end

local function packed_length(text) return #text > 3 and text:byte(2) * 256 + text:byte(3) or 0 end

local function read_fresh(id)
  local start = redis.call('GETRANGE', MESSAGE .. id, 0, 255)
  local length = packed_length(start)
  if length > 253 then start = redis.call('GETRANGE', MESSAGE .. id, 0, length + 2) end
  local is_whole, packed = pcall(cmsgpack.unpack, start:sub(4, length + 3))
  if not is_whole or type(packed) ~= 'table' then return nil end
  local job = { state = STATES[start:sub(1, 1)], is_fresh = true }
  for i, name in ipairs(PACKED) do job[name] = packed[i] end
  job.lane = LANES[packed[1]]
  return job
end

local function message_of(id)
  local text = redis.call('GET', MESSAGE .. id) or ''
  return text:sub(packed_length(text) + 4)
end

local function read(id)
  local values, job = redis.call('HMGET', JOB .. id, unpack(FIELDS)), {}
  if values[1] then
    for i, name in ipairs(FIELDS) do job[name] = values[i] end
  else job = read_fresh(id) end
  if not (job and job.state and job.tenant and job.lane) then return nil end
  for name, default in pairs(NUMBERS) do job[name] = tonumber(job[name] or default) or default end
  job.id, job.task = id, job.task or ''
  return job
end

-- Its record as a hash of its own, as every job has it that a worker has had.
local function unfold(job)
  if not job.is_fresh then return end
  local fields = { 'state', job.state }
  for _, name in ipairs(PACKED) do
    fields[#fields + 1] = name
    fields[#fields + 1] = job[name]
  end
  redis.call('HSET', JOB .. job.id, unpack(fields))
  job.is_fresh = false
end

-- The job that this tag holds, and whether it holds it still. A tag is "<job id>:<operation id>".
local function holder(tag)
  local job = read(tag:match('^(.*):') or '')
  return job, job ~= nil and job.tag == tag
end

local function set_state(job, state)
  job.state = state
  if job.is_fresh then redis.call('SETRANGE', MESSAGE .. job.id, 0, state:sub(1, 1))
  else redis.call('HSET', JOB .. job.id, 'state', state) end
end
