-- Prelude: what a tenant may do, and how much of it is left now.
-- Two token buckets a scope, requests and tokens. A bucket refills evenly, holds at most burst_s seconds' worth (one job
-- at least), and may be overdrawn: by a job dearer than that, which goes when it is full, and by corrections after a
-- call. So any minute lets go at most the limit, the burst and what one job took beyond it; a longer time, the limit.

local NOW = read_clock()
local KINDS = { 'requests', 'tokens' }
local MOST_DEBT_MIN = 60 -- whatever a provider says that a call took
local NOTHING_SET = { slots = 1, tasks = {} } -- fail closed: one job at a time
local known_limits = {}

local function limits_of(tenant)
  if not known_limits[tenant] then
    local version = redis.call('HGET', STATE, 'limits')
    local found = version and redis.call('HMGET', LIMITS .. version, 'of:' .. tenant, 'default') or {}
    local text = found[1] or found[2]
    known_limits[tenant] = text and cjson.decode(text) or NOTHING_SET
  end
  return known_limits[tenant]
end

-- Jobs of a task with limits of its own wait apart from the tenant's others (flow ''), and hold none of them up.
local function flow_of(tenant, task)
  return limits_of(tenant).tasks[task] and task or ''
end

local function limits_in(flow, tenant)
  return flow == '' and limits_of(tenant) or limits_of(tenant).tasks[flow] or {}
end

local function has_slot(flow, tenant)
  local slots = limits_in(flow, tenant).slots
  local free = slots and slots - redis.call('SCARD', HELD .. flow .. ':' .. tenant)
  return not slots or free > 0, free == 1
end

local function burst_of(limits, kind)
  return math.max(1, limits[kind] * limits.burst_s / 60)
end

-- What is left of each limited kind, refilled up to now; after a clock that went back, from when it did.
local function left_in(flow, tenant, limits)
  if not (limits.requests or limits.tokens) then return {} end
  local kept = redis.call('HMGET', BUCKET .. flow .. ':' .. tenant, 'at', unpack(KINDS))
  local at, left = tonumber(kept[1]) or NOW, {}
  if at > NOW + 60000 then at = tonumber(redis.call('HGET', STATE, 'set_back') or NOW) end
  for i, kind in ipairs(KINDS) do
    if limits[kind] then
      local burst = burst_of(limits, kind)
      left[kind] = math.min(burst, (tonumber(kept[i + 1]) or burst) + math.max(0, NOW - at) * limits[kind] / 60000)
    end
  end
  return left
end

-- Milliseconds until a job of so many tokens may go (0: now), and which limit says so.
local function wait_in(flow, tenant, tokens)
  local limits, longest, by = limits_in(flow, tenant), 0, ''
  for kind, left in pairs(left_in(flow, tenant, limits)) do
    local need = math.min(kind == 'tokens' and tokens or 1, burst_of(limits, kind))
    local wait = math.ceil((need - left) * 60000 / limits[kind] - 1e-6)
    if wait > longest then longest, by = wait, kind .. '_per_min' .. (flow ~= '' and ' of ' .. flow or '') end
  end
  return longest, by
end

-- Takes from a scope's buckets, or gives back. A bucket that nobody touches until it is full again is forgotten.
local function draw(flow, tenant, drawn)
  local limits, full_ms = limits_in(flow, tenant), 0
  local key, fields = BUCKET .. flow .. ':' .. tenant, { 'at', NOW }
  for kind, level in pairs(left_in(flow, tenant, limits)) do
    local burst = burst_of(limits, kind)
    level = math.max(MOST_DEBT_MIN * -limits[kind], math.min(burst, level - (drawn[kind] or 0)))
    fields[#fields + 1], fields[#fields + 2] = kind, level
    full_ms = math.max(full_ms, (burst - level) * 60000 / limits[kind])
  end
  if not fields[3] then return end
  redis.call('HSET', key, unpack(fields))
  redis.call('PEXPIRE', key, math.ceil(full_ms) + 1000)
end
