-- Appends to the streams of held jobs what their workers have read.
-- KEYS: root, then one stream a job. ARGV a job: tag, number of this append of the tag, how many events, the events.
-- Returns 1 a job, or 0 where the tag is not live: then nothing was written. One's own append again: 1.

local LIVES_MS = 3600000 -- after the last append of a job that has not ended

local function append(key, tag, number, events)
  local job, is_live = holder(tag)
  if not is_live then return 0 end
  local done, of = (redis.call('HGET', JOB .. job.id, 'streamed') or ''):match('^(%d+) (.*)$')
  if of == tag and tonumber(done) >= number then return 1 end
  redis.call('HSET', JOB .. job.id, 'streamed', string.format('%d', number) .. ' ' .. tag)
  extend(key, LIVES_MS, events)
  return 1
end

local replies, at = {}, 1
for i = 2, #KEYS do
  local events, count = {}, tonumber(ARGV[at + 2])
  for j = 1, count do events[j] = ARGV[at + 2 + j] end
  replies[i - 1] = append(KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), events)
  at = at + 3 + count
end
return replies
