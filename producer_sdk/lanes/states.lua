-- Where jobs are. KEYS: root. ARGV: job ids. Returns {state, tenant, lane, deliveries} a job.

local replies = {}
for i, id in ipairs(ARGV) do
  local job = read(id)
  if job then
    local is_counted = job.tag or job.state == 'finished' or job.state == 'dead'
    replies[i] = { job.state, job.tenant, job.lane, job.lost + (is_counted and 1 or 0) }
  else
    replies[i] = { 'unknown', '', '', 0 }
  end
end
return replies
