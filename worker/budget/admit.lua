-- Second prelude, of what admits: reserve and open_batch.
-- A window comes as four arguments: name, scope, limit, soft limits in percent ('80,95', the highest last, or '').

-- Windows are named by the worker's clock, and a rebuild counts 34 days: half a day apart is a broken clock.
local function clock_apart(ms)
  local apart = tonumber(ms) - now_ms()
  if math.abs(apart) > 43200000 then return {'clock', string.format('%d', apart)} end
end

-- The windows from ARGV[first] on; then, apart, those whose scope a batch covers by a window of its own.
local function windows_asked(first, covered)
  local windows, of_batch = {}, {}
  for i = first, #ARGV, 4 do
    local w = {name = ARGV[i], scope = ARGV[i + 1], limit = ARGV[i + 2], soft = ARGV[i + 3]}
    if covered[w.scope] then
      w.name = covered[w.scope]
      of_batch[#of_batch + 1] = w
    else
      windows[#windows + 1] = w
    end
  end
  return windows, of_batch
end

-- Reads the windows. What an operator has set for a scope goes before the limit of the worker's routing.yaml.
local function look(root, windows)
  for _, w in ipairs(windows) do
    local kept = redis.call('HMGET', root .. ':w:' .. w.name, 'used', 'held', 'soft')
    local changed = redis.call('HMGET', root .. ':limits', 'set:' .. w.scope, 'top:' .. w.name)
    w.used, w.held, w.told = kept[1] or '0', kept[2] or '0', tonumber(kept[3] or '0')
    w.limit, w.top_up = changed[1] or w.limit, changed[2] or '0'
  end
  return windows
end

-- The refusal of the first window that has no room; nil where all have.
local function refusal(windows, amount)
  for _, w in ipairs(windows) do
    if not fits(w.used, amount, w.limit, w.top_up) then
      return {'refused', w.name, w.used, w.held, w.limit, w.top_up}
    end
  end
end

-- Holds the amount in each window; returns their names.
local function hold(root, windows, amount, keep_ms)
  local names = {}
  for _, w in ipairs(windows) do
    local key = root .. ':w:' .. w.name
    add(key, 'used', '', amount)
    add(key, 'held', '', amount)
    redis.call('PEXPIRE', key, keep_ms)
    names[#names + 1] = w.name
  end
  return names
end

-- Adds to the reply the name and percentage of each soft limit that what is settled has reached since it was last said.
-- After a raised limit it may be said again.
local function warned(root, windows, keep_ms, reply)
  for _, w in ipairs(windows) do
    local reached, settled, limit = 0, tonumber(w.used) - tonumber(w.held), tonumber(w.limit) + tonumber(w.top_up)
    for percent in string.gmatch(w.soft, '%d+') do
      if settled * 100 >= limit * tonumber(percent) then reached = tonumber(percent) end
    end
    if reached ~= w.told then
      redis.call('HSET', root .. ':w:' .. w.name, 'soft', reached)
      redis.call('PEXPIRE', root .. ':w:' .. w.name, keep_ms)
    end
    if reached > w.told then
      reply[#reply + 1] = w.name
      reply[#reply + 1] = tostring(reached)
    end
  end
  return reply
end
