-- Prelude: which of a tenant's jobs may go now.

-- The head of one flow, which has a slot: better than what was found in the others, or sooner.
local function consider(found, job, flow)
  local wait, by = wait_in('', job.tenant, job.tokens)
  if flow ~= '' then
    local longer, its_own = wait_in(flow, job.tenant, job.tokens)
    if longer > wait then wait, by = longer, its_own end
  end
  if wait > 0 then found.blocked[by] = wait end
  if wait == 0 then
    if not found.job or job.spot < found.job.spot then found.job, found.flow = job, flow end
  elseif not found.wait or wait < found.wait then found.wait, found.by = wait, by end
end

-- {job, flow}: its next job in this lane that its limits let go; else {wait, by}: in how many ms one may, and which limit
-- says so (wait nil: not before a slot frees); or {odd, flow}: an entry that is damaged, or waits in
-- the wrong flow. blocked: for how many ms each limit that said no holds its flow up.
local function choose(lane, tenant)
  local found = { blocked = {} }
  if not has_slot('', tenant) then return found end
  local flows = redis.call('SMEMBERS', FLOWS .. lane .. ':' .. tenant)
  flows[#flows + 1] = ''
  for _, flow in ipairs(flows) do
    local head = redis.call('ZRANGE', queue_of(lane, flow, tenant), 0, 0, 'WITHSCORES')
    if head[1] then
      local job = read(head[1])
      if not job or job.state ~= 'pending' or flow_of(tenant, job.task) ~= flow then
        return { odd = head[1], flow = flow, job = job, spot = head[2] }
      end
      job.spot = tonumber(head[2])
      if flow == '' or has_slot(flow, tenant) then consider(found, job, flow) end
    end
  end
  return found
end
