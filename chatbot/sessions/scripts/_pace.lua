-- The workers' pace: sessions claimed in a ms while others were ready for a worker. The average runs over about this
-- many ms of such time, so that it outlives idle times. `chat:pace` holds both sums, and when they were updated; and, where
-- there are several partitions, what the last sweep has read of the others.
local pace_window = 10000
-- ms after which that counts no longer.
local others_life = 5000

-- Sessions that are ready for a worker: the line.
local function ready_sessions()
  return redis.call('ZCOUNT', waiting, '-inf', now())
end

-- The claims, and the ms in which there was a line, both weighted by age. Then of all other partitions together: sessions
-- that are ready, claims, claims in a ms, and the longest queue delay.
local function pace_sums(time)
  local stored = redis.call('HMGET', pace, 'claims', 'ms', 'at', 'others')
  local weight = math.exp(math.min(tonumber(stored[3] or time) - time, 0) / pace_window)
  local claims, ms = tonumber(stored[1] or 0) * weight, tonumber(stored[2] or 0) * weight + pace_window * (1 - weight)
  if stored[4] then
    local ready, other_claims, rate, delay, at = string.match(stored[4], '^([^:]+):([^:]+):([^:]+):([^:]+):([^:]+)$')
    if time - at < others_life then
      return claims, ms, tonumber(ready), tonumber(other_claims), tonumber(rate), tonumber(delay)
    end
  end
  return claims, ms, 0, 0, 0, 0
end
