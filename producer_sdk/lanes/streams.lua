-- Prelude of the scripts that write into a job's stream: a Redis stream with one field, `event`.
-- An entry's id is "<when the stream was made, Unix ms>-<its number from 1>": a reader that finds a number missing, or
-- another beginning, knows that something is gone.

local MOST_ENTRIES, MOST_BYTES = 1000, 1048576
local MOST_HALVINGS = 10 -- 1,000 entries halved ten times are one

-- Of a stream with too much in it the newer half stays.
local function cap(key)
  for _ = 1, MOST_HALVINGS do
    local length = redis.call('XLEN', key)
    if length < 2 or redis.call('MEMORY', 'USAGE', key) <= MOST_BYTES then return end
    redis.call('XTRIM', key, 'MAXLEN', math.floor(length / 2))
  end
end

-- Adds the events, and lets the stream live for so long from now.
local function extend(key, lives_ms, events)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local made, number = string.format('%.0f', NOW), 0
  if last then made, number = last[1]:match('^(%d+)-(%d+)$') end
  for i, event in ipairs(events) do
    redis.call('XADD', key, 'MAXLEN', MOST_ENTRIES, made .. '-' .. string.format('%.0f', number + i), 'event', event)
  end
  cap(key)
  redis.call('PEXPIRE', key, lives_ms)
end
