-- A page of the holds, or of the batches, that are older than a grace, oldest first.
-- ARGV: 2 grace in ms; 3 how many to pass over; 4 how many to answer; 5 'holds' or 'batches'.
-- Returns {epoch, ids …}, or {'0'} where there are no books.
local epoch = current_epoch()
if not epoch then return {'0'} end
local latest = string.format('%d', now_ms() - ARGV[2])
local key = KEYS[1] .. ':' .. epoch .. ':' .. ARGV[5]
local ids = redis.call('ZRANGE', key, '-inf', latest, 'BYSCORE', 'LIMIT', ARGV[3], ARGV[4])
table.insert(ids, 1, epoch)
return ids
