-- What operators have changed of the limits: all of it, under the books of the epoch in force.
-- ARGV: 2 version; 3 ms to keep; then 'set:<scope>' or 'top:<window>' and the amount by turns.
-- Returns {epoch, '1'} when this version or a newer one holds, {'0', '0'} where there are no books.
local epoch = current_epoch()
if not epoch then return {'0', '0'} end
local key = KEYS[1] .. ':' .. epoch .. ':limits'
if tonumber(redis.call('HGET', key, 'version') or '-1') < tonumber(ARGV[2]) then
  redis.call('DEL', key)
  redis.call('HSET', key, 'version', ARGV[2])
  for i = 4, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
end
redis.call('PEXPIRE', key, ARGV[3])
return {epoch, '1'}
