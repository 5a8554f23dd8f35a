-- Reserves a request and its tokens for an API key, until `settle`. Reserves nothing where that would exceed a quota or a
-- rate, together with what the key has used and reserved. The answer has every limit that the key has: what it
-- counts, its period, the limit, what is left, and for a rate the ms until its bucket is full.
local wanted = {requests = 1, tokens = tonumber(tokens)}
local buckets = {requests = request_rate, tokens = token_rate}
local sums_of = {day = day, month = month}

local stored = redis.call('HMGET', facts, 'hash', 'revoked')
if not stored[1] or stored[2] then
  return {'unknown'}
end

-- What is used and what is reserved.
local function taken(name, period)
  local fields = name == 'requests' and {'requests', 'reserved_requests'}
    or {'prompt_tokens', 'completion_tokens', 'reserved_tokens'}
  local sum = 0
  for _, value in ipairs(redis.call('HMGET', sums_of[period], unpack(fields))) do
    sum = sum + (value or 0)
  end
  return sum
end

local time, limits, refused, full = now(), {}, nil, {}

local function check(name, period, limit)
  local left, fills, wait = limit - wanted[name], 0, 0
  if period == 'minute' then
    fills = filling(buckets[name], limit, wanted[name], time)
    full[name] = fills
    left, wait = math.floor(limit - fills * limit / minute), math.ceil(math.max(fills - minute, 0))
  else
    left = left - taken(name, period)
  end
  if not refused and (wait > 0 or left < 0 and period ~= 'minute') then
    refused = {name, period, wait}
  end
  limits[#limits + 1] = {name, period, limit, left, math.ceil(fills)}
end

-- A quota is named before a rate: it lasts longer.
for _, period in ipairs({'month', 'day', 'minute'}) do
  for _, name in ipairs({'requests', 'tokens'}) do
    local limit = tonumber(redis.call('HGET', facts, name .. '_' .. period))
    if limit then
      check(name, period, limit)
    end
  end
end
if refused then
  for _, limit in ipairs(limits) do
    -- Nothing was taken.
    limit[4] = math.max(math.min(limit[4] + wanted[limit[1]], limit[3]), 0)
  end
  return {'refused', refused, limits}
end
for name, fills in pairs(full) do
  set_filling(buckets[name], fills, time)
end
local name = charge .. ':' .. string.format('%.0f', time)
redis.call('HSET', reserved, name, tokens)
for _, sums in pairs(sums_of) do
  redis.call('HINCRBY', sums, 'reserved_requests', 1)
  redis.call('HINCRBY', sums, 'reserved_tokens', tokens)
end
return {'reserved', name, limits}
