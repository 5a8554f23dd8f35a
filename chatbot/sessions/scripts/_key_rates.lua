-- The rates of an API key: buckets that refill evenly within a minute. A bucket's key holds the time at which it is full.

local minute = 60000

-- ms until the bucket is full, after `taken` of its `size` tokens are taken; at most a whole bucket is taken at once.
local function filling(bucket, size, taken, time)
  return math.max((tonumber(redis.call('GET', bucket)) or 0) - time, 0) + math.min(taken, size) * minute / size
end

local function set_filling(bucket, ms, time)
  if ms > 0 then
    redis.call('SET', bucket, string.format('%.3f', time + ms), 'PX', math.max(math.ceil(ms), 1))
  else
    redis.call('DEL', bucket)
  end
end
