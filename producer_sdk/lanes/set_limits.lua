-- Sets what tenants may do, in pages: the new version takes the place of the old one with its last page.
-- KEYS: root. ARGV: 1 version, 2 '1' on the last page, then by turns 'default' or 'of:<tenant>', and JSON: slots (jobs at
-- once), requests and tokens (a minute), burst_s, pending (most that wait), weight, tasks (slots, requests, tokens by
-- task). Returns 1 where this version holds now.

local version, is_last, old = ARGV[1], ARGV[2] == '1', redis.call('HGET', STATE, 'limits')
if old == version then return 1 end
for i = 3, #ARGV, 2 do redis.call('HSET', LIMITS .. version, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', LIMITS .. version, 3600) -- a page that is never followed by the last one does not stay
if not is_last then return 0 end
redis.call('PERSIST', LIMITS .. version)
redis.call('HSET', STATE, 'limits', version)
if old then redis.call('UNLINK', LIMITS .. old) end
-- Who was held up by an old limit may go now; beyond the first thousand tenants, sweeps and their own time see to it.
for _, tenant in ipairs(redis.call('ZRANGE', TENANTS, 0, 999)) do look_again(tenant) end
return 1
