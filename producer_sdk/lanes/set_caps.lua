-- Sets how many jobs each tenant may have in slots, both lanes together. The new caps replace all old ones.
-- KEYS: root. ARGV: 1 the cap of every other tenant, then tenant and cap by turns. Returns nothing.

redis.call('HSET', STATE, 'default_cap', ARGV[1])
redis.call('DEL', CAPS)
for i = 2, #ARGV, 2 do redis.call('HSET', CAPS, ARGV[i], ARGV[i + 1]) end
-- Who was at an old cap may have slots now; beyond the first thousand tenants the sweeps see to it.
for _, tenant in ipairs(redis.call('ZRANGE', TENANTS, 0, 999)) do place(tenant) end
