-- Prelude: what has held a tenant up lately, so that a job that is handed out knows what it waited for.
-- Spans {from, until (0: it lasts), reason}, the newest last: at most eight, for a day. A span grows while its reason
-- comes back within a second. Reasons: a limit's name or concurrency, also of a task; 'paused: <why>'.

local MOST_SPANS, GAP_MS, KEEP_MS, LEAST_WAIT_MS = 8, 1000, 86400000, 10
local known_spans = {}

local function spans_of(tenant)
  if not known_spans[tenant] then
    local packed = redis.call('GET', WAITS .. tenant)
    known_spans[tenant] = packed and cmsgpack.unpack(packed) or {}
  end
  return known_spans[tenant]
end

local function keep_spans(tenant, spans)
  redis.call('SET', WAITS .. tenant, cmsgpack.pack(spans), 'PX', KEEP_MS)
end

-- Its jobs wait for this until then.
local function held_up(tenant, reason, until_ms)
  local spans = spans_of(tenant)
  for i = #spans, 1, -1 do
    local span = spans[i]
    if span[3] == reason and (span[2] == 0 or NOW - span[2] < GAP_MS) then
      span[2] = until_ms
      return keep_spans(tenant, spans)
    end
  end
  spans[#spans + 1] = { NOW, until_ms, reason }
  if #spans > MOST_SPANS then table.remove(spans, 1) end
  keep_spans(tenant, spans)
end

-- What begins so is over.
local function let_go(tenant, reason)
  local spans, changed = spans_of(tenant), false
  for _, span in ipairs(spans) do
    if (span[2] == 0 or span[2] > NOW) and span[3]:match('^[^:]*') == reason then
      span[2], changed = NOW, true
    end
  end
  if changed then keep_spans(tenant, spans) end
end

-- Whether a span of concurrency lasts though a slot is free: the limit was raised, and nobody knows when.
local function is_stale(tenant, span)
  local flow = span[2] == 0 and (span[3] == 'concurrency' and '' or span[3]:match('^concurrency of (.*)'))
  return flow and has_slot(flow, tenant)
end

-- The spans since then, flat.
local function lately(tenant, since)
  local found = {}
  if NOW - since < LEAST_WAIT_MS then return found end
  for _, span in ipairs(spans_of(tenant)) do
    if (span[2] == 0 or span[2] > since) and not is_stale(tenant, span) then
      for i = 1, 3 do found[#found + 1] = span[i] end
    end
  end
  return found
end
