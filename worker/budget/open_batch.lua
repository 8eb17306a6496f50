-- Admits a batch: holds the sum of its lines in every window, or in none. The same id again gets the same answer.
-- ARGV: 2 batch; 3 sum; 4 the worker's clock in ms; 5 ms to keep; then windows.
-- Returns {'reserved', epoch, names of its windows} | {'refused', …} | {'rebuild'} | {'clock', …}, as reserve does.
local epoch = current_epoch()
if not epoch then return {'rebuild'} end
local apart = clock_apart(ARGV[4])
if apart then return apart end

local root, total, keep_ms = KEYS[1] .. ':' .. epoch, ARGV[3], ARGV[5]
local batch = root .. ':b:' .. ARGV[2]
local known = redis.call('HGET', batch, 'windows')
if known then return {'reserved', epoch, known} end

local windows = windows_asked(6, {})
look(root, windows)
local refused = refusal(windows, total)
if refused then return refused end
local names = table.concat(hold(root, windows, total, keep_ms), '\n')
redis.call('HSET', batch, 'total', total, 'drawn', '0', 'windows', names)
redis.call('PEXPIRE', batch, keep_ms)
redis.call('ZADD', root .. ':batches', now_ms(), ARGV[2])
redis.call('PEXPIRE', root .. ':batches', keep_ms)
return {'reserved', epoch, names}
