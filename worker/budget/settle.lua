-- Makes each attempt's windows hold what SQL says it cost: an absolute amount, so that repeats change nothing.
-- ARGV: 2 ms to keep a settled record; then each attempt's id, its amount, and '1' where what it did not use of its
--   share is its batch's again (it was not answered), '' where that is the windows' (the line needs it no more).
-- Returns {epoch, '1' | '0' for each attempt}; 0: unknown, nothing changed. {'0'} for no books: all unknown.
-- SQL settles an attempt at its worst case (uncertain) and then, at most once, at what it cost. The reaper may
-- bring the first after a worker has brought the second: a worst case never replaces another amount.
local epoch = current_epoch()
if not epoch then return {'0'} end
local root = KEYS[1] .. ':' .. epoch

local function move(record, id, amount, back)
  local kept = redis.call('HMGET', record, 'hold', 'settled', 'windows', 'batch', 'draws')
  local hold, settled = kept[1], kept[2]
  if not hold then return '0' end
  if settled and (settled == amount or amount == hold) then return '1' end
  for name in string.gmatch(kept[3], '[^\n]+') do
    local window = root .. ':w:' .. name
    if redis.call('EXISTS', window) == 1 then
      add(window, 'used', '-', settled or hold)
      add(window, 'used', '', amount)
      if not settled then add(window, 'held', '-', hold) end
    end
  end
  if kept[4] then
    local draws = back == '1' and fits(amount, '0', hold, '0') and amount or hold
    draw(root, kept[4], kept[5], draws)
    redis.call('HSET', record, 'draws', draws)
  end
  redis.call('HSET', record, 'settled', amount)
  redis.call('PEXPIRE', record, ARGV[2])
  redis.call('ZREM', root .. ':holds', id)
  return '1'
end

local reply = {epoch}
for i = 3, #ARGV, 3 do
  reply[#reply + 1] = move(root .. ':a:' .. ARGV[i], ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
return reply
