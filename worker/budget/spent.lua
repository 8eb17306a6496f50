-- What windows stand at. Changes nothing.
-- ARGV: 2 … the windows' names.
-- Returns {epoch, used, held, used, held …}, or {'0'} where there are no books.
local epoch = current_epoch()
if not epoch then return {'0'} end
local reply = {epoch}
for i = 2, #ARGV do
  local window = redis.call('HMGET', KEYS[1] .. ':' .. epoch .. ':w:' .. ARGV[i], 'used', 'held')
  reply[#reply + 1] = window[1] or '0'
  reply[#reply + 1] = window[2] or '0'
end
return reply
