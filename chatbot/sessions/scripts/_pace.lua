-- The workers' pace: sessions claimed in a ms while others were ready for a worker. The average runs over about this
-- many ms of such time, so that it outlives idle times. `chat:pace` holds both sums, and when they were updated.
local pace_window = 10000

-- Sessions that are ready for a worker: the line.
local function ready_sessions()
  return redis.call('ZCOUNT', waiting, '-inf', now())
end

-- The claims, and the ms in which there was a line, both weighted by age.
local function pace_sums(time)
  local stored = redis.call('HMGET', pace, 'claims', 'ms', 'at')
  local weight = math.exp(math.min(tonumber(stored[3] or time) - time, 0) / pace_window)
  return tonumber(stored[1] or 0) * weight, tonumber(stored[2] or 0) * weight + pace_window * (1 - weight)
end
