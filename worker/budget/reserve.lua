-- Admits one attempt: adds its worst case to every window, or to none. The same id again gets the same answer.
-- A line of a batch that has enough left draws it from there: it is charged to the batch's windows, whatever the date
-- is now, and needs room only in those that the batch does not cover.
-- ARGV: 2 attempt id; 3 worst case; 4 the millisecond in the id; 5 ms to keep; 6 its batch or ''; then windows.
-- Returns {'reserved', epoch, names of the batch's windows it is charged to, name, percent … of soft limits}
--   | {'refused', window, used, held, limit, top-up, name, percent …} | {'rebuild'} | {'clock', ms apart}.
-- What all windows of one kind have in common: a name without its date. A run's window has none.
local function scope_of(name)
  if string.sub(name, 1, 2) == 'r:' then return name end
  return string.match(name, '^(.*):[^:]*$')
end

local epoch = current_epoch()
if not epoch then return {'rebuild'} end
local apart = clock_apart(ARGV[4])
if apart then return apart end

local root, id, amount, keep_ms = KEYS[1] .. ':' .. epoch, ARGV[2], ARGV[3], ARGV[5]
local record = root .. ':a:' .. id
if redis.call('EXISTS', record) == 1 then
  return {'reserved', epoch, redis.call('HGET', record, 'covered') or ''}
end

local covered, charged = {}, ''
if ARGV[6] ~= '' then
  local batch = redis.call('HMGET', root .. ':b:' .. ARGV[6], 'total', 'drawn', 'windows')
  if batch[1] and fits(batch[2], amount, batch[1], '0') then
    charged = batch[3]
    for name in string.gmatch(charged, '[^\n]+') do covered[scope_of(name)] = name end
  end
end

local windows, of_batch = windows_asked(7, covered)
local refused = refusal(look(root, windows), amount)
if refused then return warned(root, windows, keep_ms, refused) end

local names = hold(root, windows, amount, keep_ms)
if charged ~= '' then
  for name in string.gmatch(charged, '[^\n]+') do
    add(root .. ':w:' .. name, 'used', '', amount)
    add(root .. ':w:' .. name, 'held', '', amount)
    names[#names + 1] = name
  end
  draw(root, ARGV[6], '0', amount)
  redis.call('HSET', record, 'batch', ARGV[6], 'draws', amount, 'covered', charged)
end
redis.call('HSET', record, 'hold', amount, 'windows', table.concat(names, '\n'))
redis.call('PEXPIRE', record, keep_ms)
redis.call('ZADD', root .. ':holds', now_ms(), id)
redis.call('PEXPIRE', root .. ':holds', keep_ms)
return warned(root, look(root, of_batch), keep_ms, warned(root, windows, keep_ms, {'reserved', epoch, charged}))
